"""Advice about a scenario: which line is said of it, and of what it is not said."""

from __future__ import annotations

import json
import re
import sys
import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import nn

from antiphon import Scenario, ScenarioWarning, Simulation, Template, load
from antiphon.envs import from_loader, from_tensors
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.envs.adaptors import parallel_worlds
from tests.envs.adaptors.turn_games import Race
from tests.kit.examined import checked, explained, warned
from tests.kit.tiers import sampled


def advice(scenario: Scenario | str) -> list[str]:
    """The warnings of `check`, of a scenario that can be written down or of a function in this file."""
    if isinstance(scenario, str):
        return list(checked(f"tests.engine.warnings.test_advice:{scenario}").warnings)
    return list(checked(Template.from_yaml(scenario.to_yaml(), "scenario.yaml")).warnings)


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
    agents = {name: agent for name, agent in agents.items() if any(name in ends for ends in delays)}
    channels = [channel(name, "detached", link={"delay": delay}) for name, delay in delays.items()]
    return scenario_of(agents, channels, env)


@pytest.mark.parametrize(
    ("telemetry", "said"), [({"period": 12}, True), ({"period": 13}, False), ({}, False)]
)
def test_log_entries_that_are_all_of_the_end_of_an_episode_are_told(
    telemetry: dict[str, int], said: bool
) -> None:
    """Where the period was chosen: the default is told nothing."""
    agents = {"z": {"observes": ["image"], "objective": CLASSIFY}}
    scenario = scenario_of(agents, [], {"hold": 4, "episode": "example"}, telemetry=telemetry)
    line = "telemetry.period: 12 is a multiple of an episode's 4 steps, so every log entry is of an episode's last step; set 13"
    assert (line in advice(scenario)) == said


def locked(clock: dict[str, Any], **more: Any) -> Scenario:
    agents = {
        "a": {"observes": ["image"], "clock": clock},
        "z": {"objective": CLASSIFY, "clock": {"period": 2, "unroll": 2}},
    }
    return scenario_of(agents, [channel("az", "locked", **more)])


def decoupled(unroll: int = 1, hold: int = 16, **gradient: Any) -> Scenario:
    agents = {"a": {"observes": ["image"]}, "z": {"objective": CLASSIFY, "clock": {"unroll": unroll}}}
    return scenario_of(agents, [channel("az", "decoupled", gradient=gradient)], {"hold": hold}, steps=2000)


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


class Embeds(nn.Module):
    """A network that takes classes."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingBag(256, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.table(x.long())
        return found


word_as_index = partial(seen, ["word"], categories="index")
pixels_and_word = partial(seen, ["pixels", "word"])
embedded_pixels = partial(seen, ["pixels"], categories="index", network=Embeds)
real_pixels = partial(seen, ["pixels"], PIXELS / 255)
byte_pixels = partial(
    seen, ["pixels"], PIXELS.to(torch.uint8).view(40, 10, 10)
)  # an image, which enters in 0 to 1
raw_pixels = partial(seen, ["pixels"], PIXELS.float())
bits_in_bytes = partial(seen, ["pixels"], (PIXELS % 2).to(torch.uint8))
bits_in_white = partial(seen, ["pixels"], (PIXELS % 2 * 255).to(torch.uint8))


def coded(bits: torch.Tensor) -> Scenario:
    """An agent that learns the code of a target of floats."""
    env = from_tensors(x=torch.rand(40, 3), bits=bits, training_only="bits")
    agents = {"z": {"observes": ["x"], "objective": {"kind": "coding", "target": "bits"}}}
    return Scenario(scenario="coded", env=env, agents=agents, training={"batch": 8})


SIGNS = torch.arange(80.0).reshape(40, 2) % 2 * 2 - 1
coded_bytes = partial(coded, (SIGNS > 0).to(torch.uint8))
coded_signs = partial(coded, SIGNS)
coded_shares = partial(coded, SIGNS / 4 + 0.5)


def all_alike(objective: Any = CLASSIFY) -> Scenario:
    agents = {"z": {"observes": ["x"], "objective": objective}}
    env = from_tensors(x=torch.rand(40, 3), label=torch.zeros(40, dtype=torch.long))
    return Scenario(scenario="alike", env=env, agents=agents, training={"batch": 8})


def squares(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return (output**2).sum(1) + target


alike_with_its_own_loss = partial(all_alike, {"kind": squares, "target": "label"})


def labelled(rows: int, ignored: int = 2) -> Scenario:
    """Data of which so many examples have targets: the classes 3, and numbers."""
    there = torch.arange(40) < rows
    word, known = torch.full((40, 3), 3).where(there[:, None], -100), {"word": 4}
    hidden = ["word", "value"]
    env = from_tensors(
        x=torch.rand(40, 3),
        word=word,
        value=torch.rand(40),
        _value=there,
        training_only=hidden,
        classes=known,
    )
    words = {"kind": "classification", "target": "word", "ignore_index": ignored}
    agents = {
        "a": {"observes": ["x"], "objective": words},
        "b": {"observes": ["x"], "objective": {"kind": "regression", "target": "value"}},
    }
    return Scenario(scenario="labelled", env=env, agents=agents, training={"batch": 8})


unlabelled = partial(labelled, 0)
of_an_ignored_class = partial(labelled, 40, ignored=3)
all_labelled = partial(labelled, 40)


DELAYED = {"coupling": "delayed", "link": {"delay": 1}}
TWO = {"az": 1, "bz": 1}


def with_adam(lr: float, schedule: Any = None) -> Scenario:
    optimiser = {"kind": "adam", "lr": lr, "schedule": schedule}
    return scenario_of({"z": {"observes": ["image"], "objective": CLASSIFY, "optimiser": optimiser}}, [])


LONG_STEP = "agent z: its learning rate, 1, is about what a step of adam adds"
SAID: dict[str, tuple[Scenario | str, str]] = {
    "late": (
        late({"az": 1}),
        r"agent z: receives what 'a' observed 1 step later, when another example is shown \(hold 1\); ",
    ),
    "later": (late({"ab": 2, "bz": 0, "az": 0}, hold=2), "agent z: receives what 'a' observed 2 steps later"),
    "aligned to one of two": (
        late({"az": 1, "bz": 2}, {"z": "a->z"}),
        r"agent z: is aligned, but its messages are of different steps \(a->z 1, b->z 2 old\)$",
    ),
    "aligned to the end": (late(TWO, {"z": True}, hold=3, episode="example"), ".*never counts"),
    "a team waits": (
        library("corporation", agents=6, coupling="delayed"),
        r"agents n0, n1, n2, n3, … \(6 in all\): wait for each other",
    ),
    "a cycle waits": (
        cycle(channel("ab", "locked"), channel("bc", "delayed"), channel("ca", **DELAYED)),
        "agents a, b, c: wait for each other",
    ),
    "delayed": (cycle(channel("ab", "locked"), channel("ba", **DELAYED)), "channel b->a: is delayed within"),
    "read after the window": (
        locked({"period": 2, "phase": 1, "unroll": 2}),
        "channel a->z: 1 of 2 messages of a window are read after its end.*credit is lost",
    ),
    "half a window": (locked({"unroll": 4}, link={"delay": 1}), "channel a->z: 2 of 4 messages"),
    "never learns": (library("char-lm", T=40, steps=39), "agent reader: learns after 40 steps for the first"),
    "no target": (
        decoupled(),
        r"channel a->z: predicts gradients without 'label', .* gradient.context \[label\]",
    ),
    "a step of Adam as long as the largest parameters": (
        library("digits-mlp", depth=2, lr=1e6),
        r"agents n0, n1: its learning rate, 1e\+06, is about what a step of adam adds to each parameter; lower it",
    ),
    "a step of Adam of 1": (with_adam(1.0), LONG_STEP),
    "a step of Adam of 1 at first": (with_adam(1.0, "cosine"), LONG_STEP),
    "a short window": (
        decoupled(13, 13),
        "channel a->z: its sender learns every 1 steps, its receiver every 13",
    ),
    "a high rate": (
        decoupled(optimiser={"kind": "adam", "lr": 1.0}),
        "channel a->z: its predictor's learning rate, 1, is far above its sender's",
    ),
    "seldom": (decoupled(40, 40), "agent z: 50 updates in 2,000 steps, one in 40 steps"),
    "acts in a data set": (
        scenario_of({"z": {"observes": ["image"], "acts": True, "objective": CLASSIFY}}, []),
        r"agents\.z\.acts: actions change nothing in a data set, .*; leave it out$",
    ),
    "more than an epoch": (
        library("digits-mlp", batch=2000),
        r"training\.batch: 2,000 is more than the [\d,]+ examples of train: every step has some of them several times",
    ),
    "nobody acts": (acting(False), ".*no agent acts"),
    "quantities": (
        "word_as_index",
        "agent eye: 'word' enters as numbers, 0 to 6, and its mlp treats them",
    ),
    "many classes": (
        "pixels_and_word",
        r"agent eye: 'pixels' enters as 25,600 zeros and ones: 100 values of 256 classes each; .*`categories: index`$",
    ),
    "one class": (
        "all_alike",
        r"agent z: its target 'label' has one class, so that its loss is always 0 and nothing is learned; .*classes=\{'label': 10\}$",
    ),
    "no class is present": (
        "unlabelled",
        "agent a: the target 'word' is missing in all 28 training examples, so that nothing is learned from it; check",
    ),
    "no number is present": ("unlabelled", "agent b: the target 'value' is missing in all 28 training"),
    "an ignored class": ("of_an_ignored_class", "agent a: the target 'word' is missing in all 28 training"),
    "bits in bytes": (
        "bits_in_bytes",
        r"agent eye: 'pixels' has bytes of 0 and 1, which enter as 0 and 1/255, .* as classes=\{'pixels': 2\}$",
    ),
    "a target of bits in bytes": (
        "coded_bytes",
        "agent z: 'bits' has bytes of 0 and 1, which enter as 0 and 1/255",
    ),
    "a target of signs": (
        "coded_signs",
        "agent z: the target 'bits' has numbers from -1 to 1, and this objective codes zeros and ones, .* or use regression$",
    ),
    "raw pixels": (
        "raw_pixels",
        r"agent eye: 'pixels' has numbers of about 1\.6e\+02, .*observes: \{pixels: \{normalise: true\}\}$",
    ),
}
LATE = "later|different steps"
CODE: dict[str, Any] = {"kind": "coding", "target": "label"}
GUESS: dict[str, Any] = {"kind": "regression", "target": "onehot"}
SILENT: dict[str, tuple[Scenario | str, str]] = {
    "aligned": (late({"az": 1}, {"z": True}), LATE),
    "held": (late({"az": 1}, hold=2), LATE),
    "one step an example": (late({"az": 1}, hold=1, episode="example"), LATE),
    "aligned in a row": (late({"ab": 1, "bz": 1, "az": 2}, {"b": True, "z": True}), LATE),
    "aligned and held": (late(TWO, {"z": True}, hold=3), "never counts"),
    "corporation": (library("corporation"), LATE),
    "delayed": (library("digits-mlp", coupling="delayed"), "wait for each other"),
    "read in time": (locked({"period": 2, "unroll": 2}), "credit is lost"),
    "learns": (library("char-lm", T=40, steps=40), "learns after"),
    "given the target": (decoupled(4, context=["label"]), "predicts|learns every|far above|updates"),
    "acts": (acting(True), "no agent acts|acts: actions"),
    "a step of Adam below 1": (with_adam(0.99), "learning rate"),
    "a warm-up": (with_adam(1.0, {"kind": "cosine", "warmup": 0.5}), "learning rate"),
    "one epoch": (library("digits-mlp", batch=1024), "training.batch"),
    "embedded": ("embedded_pixels", ""),
    "real": ("real_pixels", ""),
    "bytes of images": ("byte_pixels", ""),
    "black and white": ("bits_in_white", ""),
    "probabilities": ("coded_shares", "zeros and ones"),
    "own loss": ("alike_with_its_own_loss", "one class"),
    "a target is present": ("all_labelled", "is missing in all"),
}


@pytest.mark.parametrize(
    ("goal", "kinds"),
    [
        (CLASSIFY, "a classification"),
        (CODE, "a coding"),
        ([CLASSIFY, {**CODE, "scale": 2.0}, CLASSIFY], "a classification and a coding"),
        ([CLASSIFY, GUESS], ""),
        (GUESS, ""),
        ({"kind": "coding", "target": "onehot"}, ""),
    ],
)
def test_a_kickback_of_errors_that_add_up_to_nothing_is_warned_of(
    goal: dict[str, Any] | list[dict[str, Any]], kinds: str
) -> None:
    """It is of errors over classes, of one objective or of several; what is said is what its sender learns."""
    scenario = scenario_of(
        {"a": {"observes": ["x"]}, "z": {"objective": goal}},
        [channel("az", "locked", feedback="kickback")],
        {"id": "antiphon/Hyperplane-v0"},
        optimiser={"kind": "sgd", "lr": 0.1},
    )
    line = f"channel a->z: kickback returns nothing: the errors of 'z', {kinds}, add up to 0; use dfa"
    assert [found for found in advice(scenario) if "kickback" in found] == ([line] if kinds else [])
    with warnings.catch_warnings(), Simulation(scenario, dtype=torch.float64) as simulation:
        warnings.simplefilter("ignore", ScenarioWarning)
        weight = simulation.agents["a"].parameters["0.weight"]
        before = weight.detach().clone()
        simulation.step()
        assert bool((weight - before).abs().max() < 1e-12) is bool(kinds)


@pytest.mark.parametrize("name", SAID)
def test_what_goes_wrong_is_said_once(name: str) -> None:
    scenario, line = SAID[name]
    assert len([found for found in advice(scenario) if re.match(line, found)]) == 1


@pytest.mark.parametrize("name", SILENT)
def test_where_it_does_not_nothing_is_said(name: str) -> None:
    scenario, words = SILENT[name]
    assert not [line for line in advice(scenario) if re.search(words, line)]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("unroll", "phase"), [(2, 0), (3, 0), (5, 0), (2, 1)])
@pytest.mark.parametrize("kind", sampled(["reinforce", "a2c"], 2))
def test_updates_are_of_windows_with_a_loss(kind: str, unroll: int, phase: int) -> None:
    """Of episodes of four steps, which are truncated: a window of reinforce has to hold the end of one."""
    agents = {
        "speaker": {"observes": ["speaker"]},
        "listener": {"observes": ["listener"], "acts": True, "objective": kind, "clock": {"unroll": unroll}},
    }
    agents["listener"]["clock"] |= {"period": 1 + phase, "phase": phase}  # type: ignore[operator]
    document = {
        "scenario": "listening",
        "env": {"id": "antiphon/SpeakerListener-v0", "message": "channel", "limit": 4},
        "agents": agents,
        "channels": [{"from": "speaker", "to": "listener", "size": 2, "coupling": "detached"}],
        "training": {"batch": 2, "steps": 121},
    }
    scenario = Scenario.model_validate(document)
    expected = explained(scenario)["updates"]["listener"]
    with Simulation(scenario) as simulation:
        simulation.run(121)
        assert simulation.agents["listener"].updates == expected
    words, window = "reinforce learns from windows in which an episode ends", unroll * (1 + phase)
    assert (words in "".join(advice(scenario))) is (kind == "reinforce" and window % 4 > 0)
    often = advice(scenario.with_training(steps=5000))  # more than 100 updates
    assert (words in "".join(often)) is (kind == "reinforce" and window < 4)


def test_reinforce_is_not_advised_a_shorter_window_where_lengths_of_episodes_are_unknown() -> None:
    agent = {"observes": ["observation"], "acts": True, "objective": "reinforce", "clock": {"unroll": 4}}
    (line,) = advice(scenario_of({"p": agent}, [], {"id": "antiphon/CartPole-v0"}).with_training(steps=100))
    assert line == (
        "agent p: 25 updates in 100 steps: reinforce learns only from episodes that end within 4 steps; "
        "use an unroll of several episodes, or train for longer"
    )


@pytest.mark.parametrize(
    ("env", "steps", "line"),
    [
        (
            "antiphon/CartPole-v0",
            60,
            r"agent p: episodes have \d+ steps, and reinforce learns only .* of 4 steps: their first",
        ),
        (
            "antiphon/CartPole-v0",
            5,
            "agent p: no episode has ended, and reinforce learns .* steps: nothing is learned; use",
        ),
        ("antiphon/CartPole-v0", 3, ""),  # no window has ended either
        ("antiphon/Referential-v0", 60, ""),  # its length is known before the run
    ],
)
def test_reinforce_in_windows_shorter_than_the_episodes_turned_out_to_be(
    env: str, steps: int, line: str
) -> None:
    observed = "observation" if "Pole" in env else "candidates"
    agent = {"observes": [observed], "acts": True, "objective": "reinforce", "clock": {"unroll": 4}}
    scenario = scenario_of({"p": agent}, [], {"id": env}, batch=2)
    with Simulation(scenario) as simulation, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulation.run(steps)
    measured = [str(one.message) for one in caught if "and reinforce learns only" in str(one.message)]
    assert [bool(re.match(line, one)) for one in measured] == [True] * bool(line)


@pytest.mark.parametrize(("known", "said"), [(0, 1), (1, 0)])
def test_a_target_that_no_example_of_a_loader_had_is_told_after_the_run(known: int, said: int) -> None:
    """Of a loader nothing is read in advance."""
    label = torch.arange(64).where(torch.arange(64) < known, -100)
    batches = list(zip(torch.rand(64, 3).split(8), label.split(8), strict=True))
    agents = {"z": {"observes": ["x"], "objective": CLASSIFY}}
    env = from_loader(batches, ("x", "label"), classes={"label": 4})
    scenario = Scenario(scenario="loaded", env=env, agents=agents, training={"batch": 8, "steps": 16})
    with Simulation(scenario) as simulation, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        simulation.run(progress=False)
    line = "agent z: the target 'label' was missing in all 128 examples of this run, so that nothing is learned from it"
    assert [str(one.message).partition(";")[0] for one in caught].count(line) == said


@pytest.mark.parametrize(
    ("clock", "fix"),
    [
        ({"period": 4}, "50 updates in 200 steps, one in 4 steps; use a smaller period, or train for longer"),
        ({"unroll": 4}, "50 updates in 200 steps, one in 4 steps; use a shorter unroll, or train for longer"),
        (
            {"period": 2, "unroll": 4},
            "25 updates in 200 steps, one in 8 steps; use a smaller period or unroll, or",
        ),
    ],
)
@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_few_updates_are_put_down_to_what_the_clock_has(
    coupling: str, clock: dict[str, Any], fix: str
) -> None:
    slow = {"objective": CLASSIFY, "clock": clock}
    scenario = Scenario(
        scenario="slow",
        env="antiphon/Digits-v0",
        agents={"fast": {"observes": ["image"]}, "slow": slow},
        channels=[{"from": "fast", "to": "slow", "size": 4, "coupling": coupling}],
        training={"steps": 200},
    )
    names = "agents fast, slow" if coupling == "locked" else "agent slow"
    (line,) = (line for line in advice(scenario) if "updates in" in line)
    assert line.startswith(f"{names}: {fix}")


def test_a_window_that_is_an_episode_by_choice_is_not_advised_to_be_shorter() -> None:
    agent = {"observes": ["image"], "objective": CLASSIFY, "clock": {"unroll": "episode"}}
    scenario = scenario_of({"a": agent}, [], {"hold": 4, "episode": "example"}).with_training(steps=200)
    assert advice(scenario) == ["agent a: 50 updates in 200 steps, one in an episode; train for longer"]


@pytest.mark.parametrize(
    ("clock", "fix"),
    [
        ({}, "every 16 steps: 6 windows, 78 updates; train for longer"),
        ({"unroll": 20}, "every 20 steps: 5 windows, 65 updates; use a shorter unroll, or train for longer"),
    ],
)
def test_passes_over_a_window_are_told_from_windows(clock: dict[str, Any], fix: str) -> None:
    agent = {"observes": ["observation"], "acts": True, "objective": "ppo", "clock": clock}
    env, training = "gymnasium/CartPole-v1", {"steps": 100, "batch": 4}
    scenario = Scenario(scenario="pole", env=env, agents={"a": agent}, training=training)
    assert f"agent a: learns at the end of {fix}" in advice(scenario)


@pytest.mark.parametrize(("epochs", "seldom"), [(4, []), (1, ["agents motor, sensor"])])
def test_a_sender_to_a_policy_that_learns_in_passes_is_not_warned_of(epochs: int, seldom: list[str]) -> None:
    clock = {"unroll": 16}
    goal = {"kind": "ppo", "epochs": epochs, "minibatches": 1}
    scenario = Scenario(
        scenario="pole",
        env="antiphon/CartPole-v0",
        agents={
            "motor": {"acts": True, "objective": goal, "clock": clock},
            "sensor": {"observes": ["observation"], "clock": clock},
        },
        channels=[{"from": "sensor", "to": "motor", "size": 4}],
        training={"steps": 600, "batch": 8},
    )
    found = [line for line in advice(scenario) if "updates in" in line]
    assert [line.partition(":")[0] for line in found] == seldom


def test_an_objective_that_never_ticks_when_it_counts_is_refused() -> None:
    agents = {"a": {"observes": ["image"]}, "z": {"objective": CLASSIFY, "clock": {"period": 2}}}
    scenario = scenario_of(agents, [channel("az", "decoupled")], {"hold": 4, "episode": "example"})
    with one_line(r"agents\.z\.clock: it ticks at steps 1, 3, …, never at the last step"):
        Simulation(scenario)


def test_a_first_run_in_python_issues_the_warnings_of_check(tmp_path: Path) -> None:
    scenario = decoupled()
    (line,) = (line for line in advice(scenario) if " is not used " not in line)
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        with pytest.warns(ScenarioWarning) as issued:
            simulation.run(1)
        with warnings.catch_warnings(action="error"):
            simulation.run(1)
    assert [str(each.message) for each in issued] == [line]
    assert issued[0].filename == __file__
    with warnings.catch_warnings(action="error"), Simulation.resume(tmp_path / "run") as resumed:
        resumed.run(1)


@pytest.mark.filterwarnings("error::antiphon.base.errors.ScenarioWarning")
def test_a_detached_control_is_no_reason_for_a_warning_in_python() -> None:
    agents = {"a": {"observes": ["image"]}, "z": {"objective": CLASSIFY}}
    scenario = scenario_of(agents, [channel("az", "detached")], {"hold": 16}, steps=2)
    assert any("reached by no learning signal" in line for line in advice(scenario))
    with Simulation(scenario) as simulation:
        simulation.run()


@pytest.mark.parametrize(
    ("observes", "critic", "named"),
    [
        ([0], None, "'observation.1', 'observation.2'"),
        ([0], [1, 2], ""),
        ([2, 0, 1], None, ""),
    ],
)
def test_parts_of_an_observation_that_no_agent_observes_are_named(
    observes: list[int], critic: list[int] | None, named: str
) -> None:
    goal: dict[str, Any] = {"kind": "ppo"}
    if critic is not None:
        goal["critic"] = {"observes": [f"observation.{n}" for n in critic]}
    agent = {"observes": [f"observation.{n}" for n in observes], "acts": True, "objective": goal}
    scenario = Scenario(scenario="cards", env="gymnasium/Blackjack-v1", agents={"a": agent})
    found = [line for line in advice(scenario) if line.startswith("env: no agent observes")]
    line = f"env: no agent observes {named}; add what the policy needs to its observes"
    assert found == ([line] if named else [])


def test_parts_of_agents_without_an_actor_are_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mines_of_advice", parallel_worlds)
    agent = {"observes": ["high.place"], "acts": "high", "objective": "ppo"}
    scenario = Scenario(scenario="mines", env="pettingzoo/mines_of_advice", agents={"a": agent})
    (line,) = (line for line in advice(scenario) if line.startswith("env: no agent observes"))
    assert line.startswith("env: no agent observes 'high.sign'; ")
    untaken = [line for line in advice(scenario) if line.startswith("env: no agent acts for")]
    assert untaken == [
        "env: no agent acts for 'low', which acts at random; give an agent `acts` with its name"
    ]
    both = {"a": agent, "b": {**agent, "acts": "low"}}
    scenario = Scenario(scenario="mines", env="pettingzoo/mines_of_advice", agents=both)
    assert "no agent acts for" not in "".join(advice(scenario))


def test_an_action_without_a_choice_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mines_of_advice", parallel_worlds)
    monkeypatch.setattr(
        parallel_worlds.Mines,
        "action_space",
        lambda _, agent: spaces.Discrete(1 if agent == "low" else 2),
    )
    agent = {"observes": ["high.place"], "acts": "high", "objective": "ppo"}
    scenario = Scenario(scenario="mines", env="pettingzoo/mines_of_advice", agents={"a": agent})
    assert "no agent acts for" not in "".join(advice(scenario))


def test_windows_with_one_turn_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "turns_of_advice", SimpleNamespace(env=Race))
    objective = {"kind": "ppo", "mask": "red.action_mask"}
    for unroll, named in ((2, True), (3, False)):
        agent = {"observes": ["red.observation"], "acts": "red", "objective": objective}
        agents = {"a": {**agent, "clock": {"unroll": unroll}}}
        scenario = Scenario(scenario="race", env="pettingzoo/turns_of_advice", agents=agents)
        found = [line for line in advice(scenario) if "take turns" in line]
        assert len(found) == named
        assert not found or found[0].startswith("agent a: 2 agents take turns, so their windows have about")


def test_a_module_without_gradients_does_not_learn() -> None:
    kept, moved = nn.Linear(64, 10), nn.Linear(64, 10)
    for parameter in kept.parameters():
        parameter.requires_grad_(False)
    of_a, of_all = (line for line in warned(linear_reader(kept)) if "learn" in line)
    assert of_a.startswith(
        "agent a: its module has no parameter that requires a gradient, so it does not learn; "
    )
    assert of_all.startswith("agents: no agent learns, ")
    assert warned(linear_reader(moved)) == []


def test_a_module_without_parameters_is_no_frozen_one() -> None:
    assert not any("requires a gradient" in line for line in warned(linear_reader(nn.Flatten())))


def linear_reader(module: nn.Module) -> Scenario:
    """One agent, a module of the user's, that classifies."""
    return scenario_of({"a": {"observes": ["image"], "network": module, "objective": CLASSIFY}}, [], steps=50)


def of_few_steps(
    steps: int, training: dict[str, Any] | None = None, env: str = "gymnasium/CartPole-v1", **agent: Any
) -> list[str]:
    """What `check` says of the environment steps of a policy whose other settings are the defaults."""
    own = {"observes": ["observation"], "acts": True, "objective": "ppo", **agent}
    training = {"steps": steps, **(training or {})}
    document = {"scenario": "pole", "env": {"id": env}, "agents": {"a": own}, "training": training}
    warnings = checked(Template.from_yaml(json.dumps(document), "pole.yaml")).warnings
    return [line for line in warnings if "environment steps" in line]


FEW = (
    "agent a: 64,000 environment steps are few; more is learned from each, in 2 to 4 times the time, with "
    "objective: {kind: ppo, epochs: 10}, clock: {unroll: 64}, training: {batch: 16, steps: 4000}"
)


def test_a_policy_with_the_defaults_of_few_steps_is_told_how_to_learn_more_from_each() -> None:
    assert of_few_steps(1000) == [FEW]
    keys = {"objective": {"kind": "ppo", "epochs": 10}, "clock": {"unroll": 64}}
    assert of_few_steps(4000, {"batch": 16}, **keys) == []


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 200},
        {"steps": 4000},
        {"objective": "a2c"},
        {"objective": "q"},
        {"objective": {"kind": "ppo", "epochs": 2}},
        {"training": {"batch": 64}},
        {"clock": {"unroll": 32}},
        {"network": {"hidden": [256]}},
        {"env": "antiphon/CartPole-v0"},
    ],
)
def test_what_is_chosen_or_not_measured_is_not_advised_against(given: dict[str, Any]) -> None:
    assert of_few_steps(**{"steps": 1000, **given}) == []


def _team(coupling: str, objective: object = None, **gradient: Any) -> Template:
    speaker = {"observes": ["speaker"], "clock": {"unroll": 4}}
    channel = {"from": "speaker", "to": "listener", "size": 2, "coupling": coupling}
    listener = {"observes": ["listener"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
    document = {
        "scenario": "listening",
        "env": {"id": "antiphon/SpeakerListener-v0", "message": "channel", "limit": 4},
        "agents": {
            "speaker": speaker | ({"objective": objective} if objective else {}),
            "listener": listener,
        },
        "channels": [channel | ({"gradient": gradient} if gradient else {})],
        "training": {"batch": 2, "steps": 24},
    }
    return Template.from_yaml(json.dumps(document), "listening.yaml")


def test_a_gate_that_begins_shut_by_the_senders_own_objective_is_warned_of_before_and_after_a_run() -> None:
    """Once each: a decision, another coupling or a sender without an objective is told nothing at the start."""
    own = {"kind": "regression", "target": "speaker"}
    begins = "channel speaker->listener: one pass per window, because"
    warned_of = _team("decoupled", own, context=["speaker"])
    assert len([line for line in checked(warned_of).warnings if line.startswith(begins)]) == 1
    saved = Template.from_yaml(warned_of.resolve().to_yaml(), "saved.yaml")
    assert checked(saved).warnings == checked(warned_of).warnings  # though it has the kind written out
    others = (_team("decoupled", own, gate="skill"), _team("locked", own), _team("decoupled"))
    assert not [line for one in others for line in checked(one).warnings if "one pass per window" in line]
    with warnings.catch_warnings(record=True) as caught, Simulation(warned_of) as simulation:
        warnings.simplefilter("always")
        simulation.run(24, progress=False)
    lines = [str(one.message) for one in caught]
    for begin in (begins, "channel speaker->listener: gate 0 at the end"):
        assert len([line for line in lines if line.startswith(begin)]) == 1
