"""Clocks and windows (`engine/heart/clock.py`, pure functions of numbers of steps) against plain enumeration."""

from __future__ import annotations

import itertools

import pytest

from antiphon.comms.read_modes import READ_LAST, ReadMean
from antiphon.engine.heart.clock import Clock, EpisodeWindows, StepWindows, WindowGrid
from antiphon.engine.heart.timetable import Timetable

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
        for mode in (READ_LAST, ReadMean()):
            grid = StepWindows(8)
            timetable = Timetable(sender, receiver, grid, delay, read_mode=mode)
            stamps = [step for step in range(HORIZON) if sender.ticks_at(step)]
            planned = {(s, t) for s in stamps for t in timetable.reading_ticks(s) if t < HORIZON}
            ticks = [step for step in range(HORIZON) if receiver.ticks_at(step)]
            assert planned == {(s, t) for t in ticks for s in timetable.stamps_read_at(t)}
            for stamp in stamps:
                windows = {grid.number_at(t) for t in timetable.reading_ticks(stamp)}
                assert timetable.read_plan(stamp).window_numbers == windows
