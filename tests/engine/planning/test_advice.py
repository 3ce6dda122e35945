"""Advice about a scenario: which line is said of it, and of what it is not said."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import Scenario, load
from antiphon.engine.planning.advice import advice
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of


def channel(ends: str, coupling: str, **more: Any) -> dict[str, Any]:
    return {"from": ends[0], "to": ends[1], "size": 4, "coupling": coupling, **more}


def late(delays: dict[str, int], align: dict[str, Any] | None = None, **env: Any) -> Scenario:
    """Two agents that see the image and an objective; delays by channel."""
    align = align or {}
    agents = {
        "a": {"observes": ["image"]},
        "b": {"observes": ["image"], "align": align.get("b")},
        "z": {"objective": CLASSIFY, "align": align.get("z")},
    }
    channels = [channel(name, "detached", link={"delay": delay}) for name, delay in delays.items()]
    return scenario_of(agents, channels, env)


def locked(clock: dict[str, Any], **more: Any) -> Scenario:
    agents = {
        "a": {"observes": ["image"], "clock": clock},
        "z": {"objective": CLASSIFY, "clock": {"period": 2, "unroll": 2}},
    }
    return scenario_of(agents, [channel("az", "locked", **more)])


def cycle(*channels: dict[str, Any]) -> Scenario:
    agents: dict[str, Any] = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}, "c": {}}
    used = {end for one in channels for end in (one["from"], one["to"])}
    return scenario_of({name: agent for name, agent in agents.items() if name in used}, list(channels))


def library(name: str, **values: Any) -> Scenario:
    return load(name).resolve(values=values)


def acting(acts: bool) -> Scenario:
    copy = library("copy", steps=100)
    agents = {"copier": copy.agents["copier"].model_copy(update={"acts": acts})}
    return copy.model_copy(update={"agents": agents})


PIXELS = torch.arange(40 * 100).reshape(40, 100) % 256


def seen(observes: list[str], pixels: torch.Tensor = PIXELS, **agent: Any) -> Scenario:
    source = from_tensors(
        pixels=pixels, word=torch.arange(40) % 7, label=torch.arange(40) % 2, training_only="label"
    )
    return scenario_of({"eye": {"observes": observes, "objective": CLASSIFY, **agent}}, env=source)


def embeds(inputs: int, outputs: int) -> nn.Module:
    class Embeds(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.EmbeddingBag(256, outputs)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.table(x.long())
            return found

    return Embeds()


DELAYED = {"coupling": "delayed", "link": {"delay": 1}}
SAID: list[tuple[Callable[[], Scenario], str]] = [
    (
        lambda: late({"az": 1}),
        r"agent z: receives what 'a' observed 1 steps later, when another example is shown \(hold 1\); ",
    ),
    (lambda: late({"ab": 2, "bz": 0, "az": 0}, hold=2), "agent z: receives what 'a' observed 2 steps later"),
    (
        lambda: late({"az": 1, "bz": 2}, {"z": "a->z"}),
        r"agent z: is aligned, but its messages are of different steps \(a->z 1, b->z 2 old\)$",
    ),
    (lambda: late({"az": 1, "bz": 1}, {"z": True}, hold=3, episode="example"), ".*never counts"),
    (
        lambda: library("corporation", agents=6, coupling="delayed"),
        "agents n0, n1, n2, n3, n4, n5: wait for each other",
    ),
    (
        lambda: cycle(channel("ab", "locked"), channel("bc", "delayed"), channel("ca", **DELAYED)),
        "agents a, b, c: wait for each other",
    ),
    (lambda: cycle(channel("ab", "locked"), channel("ba", **DELAYED)), "channel b->a: is delayed within"),
    (
        lambda: locked({"period": 2, "phase": 1, "unroll": 2}),
        "channel a->z: 1 of 2 messages of a window are read after its end.*credit is lost",
    ),
    (lambda: locked({"unroll": 4}, link={"delay": 1}), "channel a->z: 2 of 4 messages"),
    (
        lambda: library("char-lm", T=40, steps=39),
        "agent reader: learns after 40 steps for the first time, and training.steps is 39; ",
    ),
    (lambda: acting(False), ".*none acts"),
    (
        lambda: seen(["word"], categories="index"),
        "agent eye: 'word' enters as numbers, 0 to 6, and its mlp takes them for quantities; use `categories: one_hot`",
    ),
    (
        lambda: seen(["pixels", "word"]),
        r"agent eye: 'pixels' enters as 25,600 zeros and ones: 100 values of 256 classes each; .*`categories: index`$",
    ),
]
LATE = "later|different steps"
SILENT: list[tuple[Callable[[], Scenario], str]] = [
    (lambda: late({"az": 1}, {"z": True}), LATE),
    (lambda: late({"az": 1}, hold=2), LATE),
    (lambda: late({"az": 1}, hold=1, episode="example"), LATE),
    (lambda: late({"ab": 1, "bz": 1, "az": 2}, {"b": True, "z": True}), LATE),
    (lambda: late({"az": 1, "bz": 1}, {"z": True}, hold=3), "never counts"),
    (lambda: library("corporation"), LATE),
    (lambda: library("digits-mlp", delay=3), LATE),
    (lambda: library("digits-mlp", coupling="delayed"), "wait for each other"),
    (lambda: locked({"period": 2, "unroll": 2}), "credit is lost"),
    (lambda: library("char-lm", T=40, steps=40), "learns after"),
    (lambda: acting(True), "none acts"),
    (lambda: seen(["pixels"], categories="index", network=embeds), ""),
    (lambda: seen(["pixels"], PIXELS.float()), ""),
]


@pytest.mark.parametrize(("make", "line"), SAID)
def test_what_goes_wrong_is_said_once(make: Callable[[], Scenario], line: str) -> None:
    assert len([found for found in advice(make()) if re.match(line, found)]) == 1


@pytest.mark.parametrize(("make", "words"), SILENT)
def test_where_it_does_not_nothing_is_said(make: Callable[[], Scenario], words: str) -> None:
    assert not [line for line in advice(make()) if re.search(words, line)]


def test_an_objective_that_never_ticks_when_it_counts_is_refused() -> None:
    agents = {"a": {"observes": ["image"]}, "z": {"objective": CLASSIFY, "clock": {"period": 2}}}
    scenario = scenario_of(agents, [channel("az", "decoupled")], {"hold": 4, "episode": "example"})
    with one_line(r"agents\.z\.clock: it ticks at steps 0, 2, …, never at an example's"):
        Simulation(scenario)
