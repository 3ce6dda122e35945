"""Clocks and windows: who ticks and learns when, in which order, and who learns nothing from a window (semantics 7, 13 to 17)."""

from __future__ import annotations

import itertools
from itertools import pairwise
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.engine.heart import step as heart_step
from antiphon.engine.heart.clock import Clock, EpisodeWindows, StepWindows, WindowGrid
from antiphon.engine.heart.timetable import Timetable
from antiphon.engine.heart.updates import GroupWindows
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios import Scenario
from benchmarks.split import Kept
from tests.contracts.builders import Document
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of

HORIZON = 60
CLOCKS = [Clock(p, f) for p in (1, 2, 3, 5, 7) for f in range(-p, p)]


@pytest.mark.parametrize("clock", CLOCKS[::2], ids=str)
def test_a_clock_agrees_with_counting(clock: Clock) -> None:
    ticks = [t for t in range(3 * HORIZON) if (t - clock.phase) % clock.tick_period == 0]
    assert 0 <= clock.phase < clock.tick_period
    for step in range(HORIZON):
        assert clock.ticks_at(step) == (step in ticks)
        assert clock.at_or_after(step) == min(t for t in ticks if t >= step)
        assert clock.latest(step) == max((t for t in ticks if t <= step), default=None)


def test_a_negative_phase_counts_from_the_end() -> None:
    assert Clock(4, -1) == Clock(4, 3)
    assert Clock(4, -4) == Clock(4, 0)


@pytest.mark.parametrize(("clock", "unroll"), list(itertools.product(CLOCKS[::5], (1, 2, 5))), ids=str)
def test_windows_of_ticks_agree_with_counting(clock: Clock, unroll: int) -> None:
    ticks = [t for t in range(12 * HORIZON) if clock.ticks_at(t)]
    pieces = [ticks[i : i + unroll] for i in range(0, len(ticks) - unroll, unroll)]
    windows = StepWindows.of_ticks(clock, unroll)
    agree(windows, pieces)
    positions(windows, clock, pieces)


@pytest.mark.parametrize("length", [1, 2, 6])
def test_windows_of_steps_agree_with_counting(length: int) -> None:
    pieces = [list(range(i, i + length)) for i in range(0, 2 * HORIZON, length)]
    agree(StepWindows(length), pieces)
    agree(StepWindows(length, 4), [[t + 4 for t in piece] for piece in pieces], 4)
    for clock in CLOCKS:
        if length % clock.tick_period == 0:
            positions(
                StepWindows(length), clock, [[t for t in piece if clock.ticks_at(t)] for piece in pieces]
            )


@pytest.mark.parametrize("lengths", [(3, 1, 4, 2), (1, 1, 1), (4,)])
def test_windows_of_episodes_agree_with_counting(lengths: tuple[int, ...]) -> None:
    """What is to come is known only once it has begun (rule 16)."""
    windows, start = EpisodeWindows(4), 0
    for number, length in enumerate(lengths):
        windows.begin_episode(start, length, number)
        last = start + length - 1
        assert windows.end_of(number) == last
        for tick in range(start, last + 1):
            assert windows.number_at(tick) == number
            assert windows.number_ending_at(tick) == (number if tick == last else None)
        for later in range(last + 1, last + 9):
            assert windows.number_at(later) == number + 1
            assert windows.number_ending_at(later) is None
        assert windows.end_of(number + 1) == last + 4  # at the latest
        if number:
            assert windows.number_at(start - 1) == number - 1
        start += length


def test_positions_in_an_episode_count_from_its_start() -> None:
    windows, clock = EpisodeWindows(7), Clock(2)
    windows.begin_episode(10, 5, 1)
    assert windows.max_ticks(clock.tick_period) == 4
    assert [windows.position(tick, clock.tick_period, 10) for tick in (10, 12, 14)] == [0, 1, 2]
    assert windows.position(18, clock.tick_period, 10) == 0  # of the episode after, whose length is not known


def positions(windows: WindowGrid, clock: Clock, pieces: list[list[int]]) -> None:
    for ticks in pieces:
        assert windows.max_ticks(clock.tick_period) == len(ticks)
        assert [windows.position(tick, clock.tick_period, 0) for tick in ticks] == list(range(len(ticks)))


def agree(windows: WindowGrid, pieces: list[list[int]], start: int = 0) -> None:
    ends = {piece[-1]: number for number, piece in enumerate(pieces)}
    for number, piece in enumerate(pieces):
        assert windows.end_of(number) == piece[-1]
        assert {windows.number_at(tick) for tick in piece} == {number}
    for step in range(start, min(HORIZON, pieces[-1][-1])):
        assert windows.number_ending_at(step) == ends.get(step)


def test_a_tick_reads_the_messages_that_are_planned_for_it() -> None:
    """What is read (`stamps_read_at`) and what is planned (`reading_ticks`, `read_plan`) agree, pair by pair."""
    for sender, receiver, delay in itertools.product(CLOCKS[::6], CLOCKS[::7], (0, 1, 4)):
        for slots in (1, max(2, receiver.tick_period // sender.tick_period)):
            grid = StepWindows(8)
            timetable = Timetable(sender, receiver, grid, delay, slots=slots)
            stamps = [step for step in range(HORIZON) if sender.ticks_at(step)]
            planned = {(s, t) for s in stamps for t in timetable.reading_ticks(s) if t < HORIZON}
            ticks = [step for step in range(HORIZON) if receiver.ticks_at(step)]
            assert planned == {(s, t) for t in ticks for s in timetable.stamps_read_at(t)}
            for stamp in stamps:
                windows = {grid.number_at(t) for t in timetable.reading_ticks(stamp)}
                assert timetable.read_plan(stamp).window_numbers == windows


# --- the order of learning -------------------------------------------------------------------------------


WIDE: Document = {"kind": "mlp", "hidden": [64, 64], "norm": "none"}


def windows_at_once(count: int, network: Document = LINEAR_MAP) -> Scenario:
    """Every window of `a` waits for `b`, which ticks at every fourth step and learns from `count` ticks: so many of `a` are learned from."""
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    agents = {
        "a": {**agent, "network": network, "clock": {"unroll": 4}},
        "b": {**agent, "clock": {"period": 4, "unroll": count}},
    }
    channel = {"from": "a", "to": "b", "size": 2, "norm": "none", "coupling": "delayed", "link": {"delay": 2}}
    channel |= {"horizon": 2 * count}
    return scenario_of(agents, [channel], optimiser={"kind": "sgd", "lr": 0.1, "momentum": 0.9})


def test_of_windows_of_an_agent_the_older_is_learned_from_first_whatever_else_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two groups wait, one of them for half as long a window."""
    late: Document = {"size": 2, "norm": "none", "coupling": "delayed", "link": {"delay": 2}, "horizon": 8}
    clocks = {"a": {"unroll": 4}, "b": {"period": 4, "unroll": 2}, "c": {"unroll": 2}}
    agent = {"observes": ["image"], "network": LINEAR_MAP, "objective": CLASSIFY}
    scenario = scenario_of(
        {name: {**agent, "clock": clock} for name, clock in clocks.items()},
        [{"from": "a", "to": "b", **late}, {"from": "c", "to": "b", **late}],
    )
    turns, steps = heart_step.turns_of, list[list[list[tuple[str, int]]]]()

    def watched(windows_to_learn: GroupWindows) -> list[GroupWindows]:
        usual_turns = turns(windows_to_learn)
        steps.append(
            [[(*group.agent_names, window.number) for group, window in turn] for turn in usual_turns]
        )
        return usual_turns

    monkeypatch.setattr(heart_step, "turns_of", watched)
    with Simulation(scenario) as simulation:
        simulation.run(28)
    for taken in steps:
        for name in simulation.agents:
            turn_numbers = [[number for agent, number in turn if agent == name] for turn in taken]
            assert all(len(numbers) <= 1 for numbers in turn_numbers)
            learned = [number for numbers in turn_numbers for number in numbers]
            assert learned == sorted(learned)
    assert any([name for turn in taken for name, _ in turn].count("a") == 2 for taken in steps)


def kept_at_once(count: int) -> int:
    """Bytes that a step keeps for backward at most, also one at which so many windows of an agent are learned from."""
    most_kept, updates = 0, [0]
    with Simulation(windows_at_once(count, WIDE)) as simulation:
        own = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        for _ in range(8 * count + 8):
            most_kept = max(most_kept, Kept(own).during(simulation.step))
            updates.append(simulation.agents["a"].updates)
    assert max(after - before for before, after in pairwise(updates)) == count
    return most_kept


def test_of_windows_that_have_waited_one_graph_exists_at_a_time() -> None:
    assert kept_at_once(6) == kept_at_once(2)


# --- sparse updates --------------------------------------------------------------------------------------


LAYER = {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"}


def chain(coupling: str, p: float, *, unroll: int = 1, **more: Any) -> Scenario:
    """a -> b -> c; only the last has an objective."""
    agents: dict[str, Any] = {
        name: {"network": LAYER, "clock": {"unroll": unroll}, "learn": p, **more} for name in "abc"
    }
    agents["a"]["observes"] = ["image"]
    agents["c"]["objective"] = CLASSIFY
    channel = {"size": 4, "norm": "none", "coupling": coupling, "gradient": {"context": ["label"]}}
    return scenario_of(agents, [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")])


def drawn(owner: str, window: int, p: float, seed: int = 0) -> bool:
    return uniform(seed_for(seed, "update", owner), window, 1).item() < p


@pytest.mark.cases(1)
@pytest.mark.parametrize("coupling", ["decoupled", "detached"])
@pytest.mark.parametrize("unroll", [1, 2])
def test_parameters_move_at_the_end_of_drawn_windows_and_else_keep_their_bits(
    coupling: str, unroll: int
) -> None:
    with Simulation(chain(coupling, 0.5, unroll=unroll)) as simulation:
        for step in range(24):
            before = {name: parameters(simulation, name) for name in "abc"}
            simulation.step()
            window, last = divmod(step, unroll)
            learns = last == unroll - 1 and drawn("c", window, 0.5)
            assert equal(before["c"], parameters(simulation, "c")) != learns
            for name in "ab":
                if coupling == "detached" or not (last == unroll - 1 and drawn(name, window, 0.5)):
                    assert equal(before[name], parameters(simulation, name))
        updates = [simulation.agents[name].updates for name in "abc"]
        assert min(updates[:2]) > 2 if coupling == "decoupled" else updates[:2] == [0, 0]


def test_running_statistics_go_on_where_nothing_is_learned() -> None:
    with Simulation(chain("decoupled", 0.05, network={**LAYER, "norm": "batch"})) as simulation:
        assert not drawn("a", 0, 0.05)
        before = [b.clone() for b in simulation.agents["a"].buffers.values()]
        simulation.step()
        assert not equal(before, simulation.agents["a"].buffers.values())
