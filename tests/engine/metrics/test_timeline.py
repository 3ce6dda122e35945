"""The timeline of a system against rasters written by hand, and against a running simulation's messages."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.engine.metrics.timeline import timeline
from antiphon.scenarios import Scenario
from antiphon.telemetry.timeline_text import Timeline, raster_lines

GOAL = {"kind": "classification", "target": "label"}
LSTM = {"kind": "lstm", "size": 4}
SMALL = {"kind": "mlp", "hidden": [4]}


def agent(period: int = 1, phase: int = 0, unroll: int | str = 1, **more: Any) -> dict[str, Any]:
    clock = {"period": period, "phase": phase, "unroll": unroll}
    return {"observes": ["image"], "network": SMALL, "objective": GOAL, "clock": clock, **more}


def channel(ends: str = "a->b", coupling: Any = "decoupled", **more: Any) -> dict[str, Any]:
    sender, receiver = ends.split("->")
    return {"from": sender, "to": receiver, "size": 4, "coupling": coupling, **more}


def state(name: str, coupling: str) -> dict[str, Any]:
    return {"from": name, "to": name, "key": "state", "coupling": coupling}


def scenario(agents: dict[str, Any], channels: list[dict[str, Any]], **env: Any) -> Scenario:
    return Scenario(
        scenario="made",
        env={"id": "antiphon/Digits-v0", **env},
        agents=agents,
        channels=channels,
        training={"batch": 4},
    )


def look(made: Scenario, steps: int = 8, start: int = 0) -> Timeline:
    return timeline(Simulation(made).running.system, start, steps)


def raster(found: Timeline) -> dict[str, str]:
    """The text's rows without couplings, one space between cells: what the tests below write by hand."""
    rows: dict[str, str] = {}
    for line in raster_lines(found, width=10_000):
        if not line:
            break
        name = line.split()[0]
        cells = [word for word in line.replace("|", " ").split()[1:] if not word.startswith("(")]
        rows[name] = " ".join(cells)
    return rows


def everyone(names: str, **own: Any) -> dict[str, Any]:
    return {name: agent(**own) for name in names}


def remembering(coupling: str | None, unroll: int | str = 3, **env: Any) -> Scenario:
    """One agent with a state."""
    states = [] if coupling is None else [state("a", coupling)]
    return scenario({"a": agent(unroll=unroll, network=LSTM)}, states, **env)


def two_levels() -> Scenario:
    """A fast agent, and a slow one that reads all of its messages and tells it what it makes of them."""
    agents = {"low": agent(unroll=4, network=LSTM), "high": agent(4, -1, 2, network=LSTM, observes=[])}
    up = channel("low->high", key="up", read="concat")
    down = channel("high->low", "detached", key="down", link={"delay": 1})
    return scenario(agents, [up, down, state("low", "decoupled")])


LATER = {"link": {"delay": 1}}
EXAMPLES = {"hold": 3, "episode": "example"}
RASTERS: dict[str, tuple[Scenario, dict[str, str]]] = {
    "windows of agents that learn alone": (
        scenario({"a": agent(unroll=3), "b": agent(4, -1, 2)}, [channel()]),
        {"a": "o o # o o # o o", "b": ". . . o . . . #"},
    ),
    "a locked group learns at its common window": (
        scenario({"a": agent(unroll=3), "b": agent(2, 0)}, [channel(coupling="locked")]),
        {"a": "o o o o o # o o", "b": "o . o . o : o ."},
    ),
    "a lossy link is drawn as one that loses nothing": (
        scenario(everyone("ab"), [channel(link={"drop": 0.5})]),
        {"a->b": "0 0 0 0 0 0 0 0"},
    ),
    "what an episode leaves behind is not read": (
        scenario({"a": agent(objective=None), "b": agent()}, [channel(**LATER)], **EXAMPLES),
        {"a->b": "- 1 1x - 1 1x - 1"},
    ),
    "a locked group returns nothing over its window's start": (
        scenario(everyone("abc", unroll=4), [channel(ends, "locked", **LATER) for ends in ("a->b", "b->c")]),
        {"b->c": "- 1 1 1 1! 1 1 1"},
    ),
    "nor does an implicit state": (remembering(None), {"a->a:state": "- 1 1 1! 1 1 1! 1"}),
    "a decoupled one does": (remembering("decoupled"), {"a->a:state": "- 1 1 1 1 1 1 1"}),
    "a locked state lasts for the episode": (
        remembering("locked", "episode", hold=4, episode="example"),
        {"a->a:state": "- 1 1 1x - 1 1 1x"},
    ),
    "two levels": (
        two_levels(),
        {
            "low": "o o o # o o o #",
            "high": ". . . o . . . #",
            "low->high:up": ". . . 0–3 . . . 0–3",
            "high->low:down": "- - - - 1 2 3 4",
        },
    ),
}


@pytest.mark.parametrize("name", RASTERS)
def test_rasters_by_hand(name: str) -> None:
    made, expected = RASTERS[name]
    found = raster(look(made))
    assert {row: found[row] for row in expected} == expected


# --- state and levels ---------------------------------------------------------------------------------------


def test_a_slow_reader_of_all_reads_all_and_a_fast_one_the_last() -> None:
    agents = {"a": agent(1), "b": agent(3, 2)}
    ways = [channel(read="concat"), channel("b->a", read="concat", link={"delay": 1})]
    found = look(scenario(agents, ways), steps=9)
    assert [found.channels[0].stamps[step] for step in (2, 5, 8)] == [(0, 1, 2), (3, 4, 5), (6, 7, 8)]
    assert [found.channels[1].stamps[step] for step in range(0, 9, 2)] == [(), (), (2,), (5,), (5,)]


# --- against what runs --------------------------------------------------------------------------------------

PAIRS = [(1, 0, 1), (2, 1, 2), (3, 1, 2)]


@pytest.mark.parametrize(("sender", "receiver"), list(itertools.permutations(PAIRS, 2)), ids=str)
def test_gradients_are_back_when_the_timeline_says(
    sender: tuple[int, int, int], receiver: tuple[int, int, int]
) -> None:
    made = scenario({"a": agent(*sender), "b": agent(*receiver)}, [channel(link={"delay": 1})])
    with Simulation(made) as simulation:
        one = timeline(simulation.running.system, 0, 14).channels[0]
        steps = []
        for step in range(14):
            simulation.step()
            steps += [step] * ("a->b" in simulation.running.learned.stacks.predictor_updates)
    assert sorted({step for step in one.back.tolist() if 0 <= step < 14}) == steps
