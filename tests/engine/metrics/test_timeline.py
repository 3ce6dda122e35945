"""The timeline of a system against rasters written by hand, and against a running simulation's ledgers."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from antiphon.commands.explain import built
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario, load
from antiphon.telemetry.raster import raster_lines
from antiphon.telemetry.timeline import Timeline

GOAL = {"kind": "classification", "target": "label"}
LSTM = {"kind": "lstm", "size": 4}
SMALL = {"kind": "mlp", "hidden": [4]}


def agent(period: int = 1, phase: int = 0, unroll: int | str = 1, **more: Any) -> dict[str, Any]:
    clock = {"period": period, "phase": phase, "unroll": unroll}
    return {"observes": ["image"], "network": SMALL, "objective": GOAL, "clock": clock, **more}


def channel(ends: str = "a->b", coupling: str = "decoupled", **more: Any) -> dict[str, Any]:
    sender, receiver = ends.split("->")
    return {"from": sender, "to": receiver, "size": 4, "coupling": coupling, **more}


def state(name: str, coupling: str) -> dict[str, Any]:
    return {"from": name, "to": name, "carries": "state", "coupling": coupling}


def scenario(agents: dict[str, Any], channels: list[dict[str, Any]], **env: Any) -> Scenario:
    return Scenario(
        scenario="made",
        env={"id": "antiphon/Digits-v0", **env},
        agents=agents,
        channels=channels,
        training={"batch": 4},
    )


def look(made: Scenario, steps: int = 8, start: int = 0) -> Timeline:
    return timeline(built(made), start, steps)


def raster(found: Timeline) -> dict[str, str]:
    """The text's rows without couplings, one space between cells: what the tests below write by hand."""
    rows: dict[str, str] = {}
    above = ""
    for line in raster_lines(found, width=10_000):
        if not line:
            break
        name = line.split()[0]
        cells = [word for word in line.replace("|", " ").split()[1:] if not word.startswith("(")]
        rows[f"{above} credit" if name == "credit" else name] = " ".join(cells)
        above = name
    return rows


# --- clocks and windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sender", "receiver", "delay", "cells"),
    [
        ((1, 0), (1, 0), 0, "0 0 0 0 0 0 0 0"),
        ((1, 0), (1, 0), 2, "- - 2 2 2 2 2 2"),
        ((1, 0), (2, 0), 0, "0 x 0 x 0 x 0 x"),
        ((1, 0), (2, 0), 1, "-x . 1x . 1x . 1x ."),
        ((1, 0), (4, 3), 0, "x x x 0 x x x 0"),
        ((2, 0), (1, 0), 0, "0 1 0 1 0 1 0 1"),
        ((2, 1), (1, 0), 0, "- 0 1 0 1 0 1 0"),
        ((4, 3), (1, 0), 1, "- - - - 1 2 3 4"),
        ((2, 0), (3, 1), 0, ". 1 x . 0 . . 1"),
    ],
)
def test_ages_follow_the_clocks(
    sender: tuple[int, int], receiver: tuple[int, int], delay: int, cells: str
) -> None:
    agents = {"a": agent(*sender), "b": agent(*receiver)}
    found = look(scenario(agents, [channel(link={"delay": delay})]))
    assert raster(found)["a->b"] == cells


def test_windows_of_agents_that_learn_alone() -> None:
    found = look(scenario({"a": agent(unroll=3), "b": agent(4, -1, 2)}, [channel()]), steps=10)
    assert raster(found)["a"] == "o o # o o # o o # o"
    assert raster(found)["b"] == ". . . o . . . # . ."
    assert found.agents[0].group == ("a",)


def test_a_locked_group_learns_at_its_common_window() -> None:
    found = look(scenario({"a": agent(unroll=3), "b": agent(2, 0)}, [channel(coupling="locked")]), steps=8)
    assert raster(found)["a"] == "o o o o o # o o"
    assert raster(found)["b"] == "o . o . o : o ."
    assert found.agents[0].group == ("a", "b")


def test_a_lossy_link_is_drawn_as_one_that_loses_nothing_and_a_rate_as_it_sends() -> None:
    found = look(scenario({"a": agent(), "b": agent()}, [channel(link={"drop": 0.5, "rate": 0.5})]))
    assert raster(found)["a->b"] == "0 1 0 1 0 1 0 1"
    assert found.channels[0].sent.tolist() == [True, False] * 4


def test_what_an_episode_leaves_behind_is_not_read() -> None:
    made = scenario(
        {"a": agent(objective=None), "b": agent()},
        [channel(link={"delay": 1})],
        hold=3,
        episode="example",
    )
    found = look(made, steps=7)
    assert found.episode_ends.tolist() == [False, False, True, False, False, True, False]
    assert raster(found)["a->b"] == "- 1 1x - 1 1x -"


def test_a_timeline_may_begin_in_mid_window() -> None:
    made = scenario({"a": agent(unroll=4), "b": agent(2, 1, 2)}, [channel(coupling="locked")])
    whole, late = look(made, steps=12), look(made, steps=5, start=6)
    assert late.agents[1].since.tolist() == whole.agents[1].since[6:11].tolist()
    assert raster(late)["step"] == "6 7 8 9 10"
    assert late.channels[0].stamps == whole.channels[0].stamps[6:11]


# --- credit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("coupling", "credit"),
    [
        ("locked", "1 1"),  # the sender's tick, one step before, lies in the window
        ("detached", "0 0"),
        ("decoupled", "0+ 0+"),
        ("delayed", "0~ 0~"),
    ],
)
def test_credit_of_a_tick_by_coupling(coupling: str, credit: str) -> None:
    agents = {"a": agent(2, 0), "b": agent(2, 1)}
    assert raster(look(scenario(agents, [channel(coupling=coupling)]), steps=4))["b credit"] == credit


def test_credit_goes_back_through_a_locked_group_to_its_windows_start() -> None:
    agents = {"a": agent(unroll=4), "b": agent(unroll=4), "c": agent(unroll=4)}
    chain = [channel(ends, "locked", link={"delay": 1}) for ends in ("a->b", "b->c")]
    found = look(scenario(agents, chain))
    assert raster(found)["a credit"] == "0 0 0 0 0 0 0 0"
    assert raster(found)["b credit"] == "0 1 1 1 0 1 1 1"
    assert raster(found)["c credit"] == "0 1 2 2 0 1 2 2"
    assert raster(found)["b->c"] == "- 1 1 1 1! 1 1 1"


def test_credit_reaches_as_far_as_the_farthest_of_several_senders() -> None:
    agents = {"a": agent(unroll=4, network=LSTM), "b": agent(unroll=4), "c": agent(unroll=4)}
    found = look(scenario(agents, [channel(ends, "locked") for ends in ("a->c", "b->c")]))
    assert raster(found)["b credit"] == "0 0 0 0 0 0 0 0"
    assert raster(found)["c credit"] == "0 1 2 3 0 1 2 3"


def test_round_a_locked_cycle_credit_reaches_the_whole_window() -> None:
    cycle = [channel(ends, "locked", link={"delay": 1}) for ends in ("a->b", "b->a")]
    found = look(scenario({"a": agent(unroll=4), "b": agent(unroll=4)}, cycle))
    assert raster(found)["a credit"] == "0 1 2 3 0 1 2 3"


# --- state and levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("memory", "credit", "ages"),
    [
        (None, "0 1 2 0 1 2 0 1", "- 1 1 1! 1 1 1! 1"),
        ("detached", "0 1 2 0 1 2 0 1", "- 1 1 1! 1 1 1! 1"),
        ("decoupled", "0 1 2 0+ 1+ 2+ 0+ 1+", "- 1 1 1 1 1 1 1"),
    ],
)
def test_a_state_carries_credit_to_its_windows_start(memory: str | None, credit: str, ages: str) -> None:
    states = [] if memory is None else [state("a", memory)]
    found = look(scenario({"a": agent(unroll=3, network=LSTM)}, states))
    assert raster(found)["a credit"] == credit
    assert raster(found)["a->a:state"] == ages
    assert found.agents[0].recurrent


def test_a_locked_state_carries_credit_through_the_episode() -> None:
    made = scenario(
        {"a": agent(unroll="episode", network=LSTM)}, [state("a", "locked")], hold=4, episode="example"
    )
    found = look(made)
    assert raster(found)["a credit"] == "0 1 2 3 0 1 2 3"
    assert raster(found)["a->a:state"] == "- 1 1 1x - 1 1 1x"
    assert found.channels[0].taught.tolist() == [3, 3, 3, -1, 7, 7, 7, -1]


def test_episodes_of_varying_length_are_taken_to_be_as_long_as_the_present_one() -> None:
    with Simulation(load("copy").resolve("locked").with_training(batch=4)) as simulation:
        first = simulation.system.episode
        assert first is not None
        length = first.length
        simulation.run(steps=length + 1)
        found = timeline(simulation.system, simulation.now, 2 * length)
    ends = [step for step in range(2 * length) if found.episode_ends[step]]
    assert ends == [length - 2, 2 * length - 2]
    assert found.agents[0].ends.tolist() == found.episode_ends.tolist()
    assert found.agents[0].since.tolist() == [length] * (length - 1) + [2 * length] * length + [3 * length]


def test_an_episodes_end_within_a_window_ends_credit() -> None:
    made = scenario(
        {"a": agent(unroll=4, network=LSTM)}, [state("a", "decoupled")], hold=3, episode="example"
    )
    assert raster(look(made))["a credit"] == "0 1 2 0 0+ 1+ 0 1"


def test_a_state_is_taught_within_its_window_and_by_its_synthetic_gradient_at_the_end() -> None:
    taught = {}
    for coupling in ("detached", "decoupled"):
        made = scenario({"a": agent(2, -1, 2, network=LSTM)}, [state("a", coupling)])
        one = look(made, steps=10).channels[0]
        taught[coupling] = one.taught.tolist(), one.back.tolist()
    assert taught == {
        "detached": ([-1, 3, -1, -1, -1, 7, -1, -1, -1, 11],) * 2,
        "decoupled": (
            [-1, 3, -1, 3, -1, 7, -1, 7, -1, 11],
            [-1, 3, -1, 7, -1, 7, -1, 11, -1, 11],
        ),
    }


def test_a_hierarchy_of_two_levels() -> None:
    agents = {
        "low": agent(unroll=4, network=LSTM),
        "high": agent(4, -1, 2, network=LSTM, observes=[]),
    }
    up = channel("low->high", key="up", read="concat")
    down = channel("high->low", "detached", key="down", link={"delay": 1})
    found = look(scenario(agents, [up, down, state("low", "decoupled")]), steps=9)
    rows = raster(found)
    assert rows["low"] == "o o o # o o o # o"
    assert rows["low credit"] == "0 1 2 3 0+ 1+ 2+ 3+ 0+"
    assert rows["high"] == ". . . o . . . # ."
    assert rows["high credit"] == "0+ 4+"
    assert rows["low->high:up"] == ". . . 0–3 . . . 0–3 ."
    assert rows["high->low:down"] == "- - - - 1 2 3 4 1"
    assert found.channels[2].stamps[7] == (4, 5, 6, 7)


def test_a_slow_reader_of_the_mean_reads_all_and_a_fast_one_the_last() -> None:
    agents = {"a": agent(2), "b": agent(3, 2)}
    ways = [channel(read="mean"), channel("b->a", read="mean", link={"delay": 1})]
    found = look(scenario(agents, ways), steps=9)
    assert [found.channels[0].stamps[step] for step in (2, 5, 8)] == [(0, 2), (4,), (6, 8)]
    assert [found.channels[1].stamps[step] for step in range(0, 9, 2)] == [(), (), (2,), (5,), (5,)]
    assert not found.channels[0].unread.any()


# --- what stands for what -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "gradient", [{"kind": "local", "target": "label"}, {"apply": False}, {"scale": 0, "discount": 0}]
)
def test_what_brings_nothing_back_does_not_stand_for_anything(gradient: dict[str, Any]) -> None:
    found = look(scenario({"a": agent(), "b": agent()}, [channel(gradient=gradient)]))
    assert raster(found)["b credit"] == "0 0 0 0 0 0 0 0"


def test_feedback_weights_are_no_true_gradient() -> None:
    found = look(scenario({"a": agent(), "b": agent()}, [channel(coupling="locked", feedback="fa")]), steps=2)
    assert raster(found)["b credit"] == "0+ 0+"


def test_when_a_sender_learns_by_coupling() -> None:
    taught = {}
    for coupling in ("locked", "delayed", "detached", "decoupled"):
        agents = {"a": agent(unroll=2), "b": agent(2, -1, 2)}
        one = look(scenario(agents, [channel(coupling=coupling)])).channels[0]
        taught[coupling] = one.taught.tolist(), one.back.tolist()
    assert taught == {
        "locked": ([-1, 3, -1, 3, -1, 7, -1, 7],) * 2,
        "delayed": ([-1, 3, -1, 3, -1, 7, -1, 7],) * 2,
        "detached": ([-1] * 8,) * 2,
        "decoupled": ([-1, 1, -1, 3, -1, 5, -1, 7], [-1, 3, -1, 3, -1, 7, -1, 7]),
    }


# --- against what runs --------------------------------------------------------------------------------------

PAIRS = [(1, 0, 1), (2, 0, 1), (2, 1, 2), (3, 1, 2)]


@pytest.mark.parametrize(("sender", "receiver"), list(itertools.product(PAIRS, PAIRS)), ids=str)
def test_gradients_are_back_when_the_timeline_says(
    sender: tuple[int, int, int], receiver: tuple[int, int, int]
) -> None:
    made = scenario({"a": agent(*sender), "b": agent(*receiver)}, [channel(link={"delay": 1})])
    with Simulation(made) as simulation:
        one = timeline(simulation.system, 0, 14).channels[0]
        recording = simulation.record("a->b", ["delta", "prediction"])
        simulation.run(steps=14)
    assert sorted({step for step in one.back.tolist() if 0 <= step < 14}) == recording.steps["delta"]
    assert sorted({step for step in one.taught.tolist() if 0 <= step < 14}) == recording.steps["prediction"]


def test_a_delayed_sender_learns_when_the_timeline_says() -> None:
    agents = {"a": agent(unroll=2), "b": agent(2, 0, 2)}
    learned = []
    with Simulation(scenario(agents, [channel(coupling="delayed", link={"delay": 1})])) as simulation:
        one = timeline(simulation.system, 0, 16).channels[0]
        for step in range(16):
            if "a" in simulation.step()["losses"]:
                learned.append(step)
    assert learned == [3, 7, 11, 15]
    assert sorted({step for step in one.taught.tolist() if 0 <= step < 16}) == learned


def test_stamps_are_those_that_the_ledger_hands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = scenario(
        {"a": agent(objective=None), "b": agent(3, 2)},
        [channel(link={"delay": 2}), channel(key="slow", coupling="detached")],
        hold=5,
        episode="example",
    )
    with Simulation(made) as simulation:
        found = timeline(simulation.system, 0, 12)
        for one, (_, real) in zip(found.channels, simulation.system.channels.items(), strict=True):
            for step in range(one.due.size):
                assert set(one.stamps[step]) <= set(real.mailbox.due(step))
        seen: list[tuple[str, int, int | None]] = []
        for name, real in simulation.system.channels.items():
            receive = real.mailbox.receive

            def heard(step: int, name: str = name, receive: Any = receive) -> Any:
                reading = receive(step)
                alive = reading.value is not None
                seen.append((name, step, reading.record.stamp if alive and reading.record else None))
                return reading

            monkeypatch.setattr(real.mailbox, "receive", heard)
        simulation.run(steps=12)
    told = [
        (one.name, step, one.stamps[step][-1] if one.stamps[step] else None)
        for one in found.channels
        for step in range(12)
        if one.due[step]
    ]
    assert sorted(seen, key=str) == sorted(told, key=str)


# --- the unhappy paths --------------------------------------------------------------------------------------


def test_a_span_that_is_none_is_refused() -> None:
    system = built(scenario({"a": agent()}, []))
    with pytest.raises(ScenarioError, match=r"^timeline: steps is 0; it must be at least 1$"):
        timeline(system, 0, 0)
    with pytest.raises(ScenarioError, match=r"^timeline: start is -1; it must be at least 0$"):
        timeline(system, -1, 4)


@pytest.mark.parametrize(("unroll", "steps"), [(1, 8), (6, 12), (40, 32)])
def test_two_windows_are_shown_where_nobody_says_how_many_steps(unroll: int, steps: int) -> None:
    assert span(built(scenario({"a": agent(unroll=unroll)}, []))) == steps


def test_an_agent_alone_has_a_timeline_that_json_can_hold() -> None:
    plain = json.loads(json.dumps(look(scenario({"a": agent()}, []), steps=2).plain()))
    assert plain["agents"]["a"]["ticks"] == [True, True]
    assert plain["channels"] == {}
