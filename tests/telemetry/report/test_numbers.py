"""Numbers as words, and ticks."""

from __future__ import annotations

import math

import pytest

from antiphon.telemetry.report.chart import Axis
from antiphon.telemetry.report.html import number, scored, seconds, signed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.98333, "0.983"),
        (-0.5, "−0.500"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (0.00012345, "0.000123"),
        (1.5e-7, "1.50e−7"),
        (-2.5e9, "−2.50e9"),
        (math.inf, "∞"),
        (math.nan, "–"),
        (None, "–"),
        ("<b>", "–"),
        (True, "–"),
    ],
)
def test_numbers_are_written_short(value: object, text: str) -> None:
    assert number(value) == text


def test_shares_changes_and_durations() -> None:
    assert scored("accuracy", 0.5) == "50.00 %"
    assert scored("bits", 0.5) == "0.500"
    assert (signed(0.25), signed(-0.25), signed(None)) == ("+0.250", "−0.250", "–")
    assert [seconds(s) for s in (1.25, 125, 7325, None)] == ["1.2 s", "2 min 05 s", "2 h 02 min", "–"]


@pytest.mark.parametrize("low", [-1e6, -0.3, 0.0, 1e-6, 17.0])
@pytest.mark.parametrize("span", [1e-7, 0.02, 1.0, 37.0, 1e9])
def test_ticks_are_few_round_and_inside(low: float, span: float) -> None:
    axis = Axis(low, low + span, 0.0, 100.0)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 7
    room = 1e-6 * span + 1e-9 * abs(low)
    assert all(low - room <= tick <= low + span + room for tick in ticks)
    assert len(set(ticks.values())) == len(ticks)


def test_small_ticks_share_a_power_of_ten() -> None:
    assert list(Axis(0, 1.6e-4, 0, 1).ticks().values()) == ["0", "0.5e−4", "1.0e−4", "1.5e−4"]


def test_ticks_of_decades() -> None:
    assert list(Axis(0.001, 1000, 0, 1, log=True).ticks().values()) == [
        "0.001",
        "0.01",
        "0.1",
        "1",
        "10",
        "100",
        "1,000",
    ]
    assert list(Axis(1e-6, 1e-3, 0, 1, log=True).ticks().values()) == ["1e−6", "1e−5", "0.0001", "0.001"]
    assert list(Axis(2, 30, 0, 1, log=True).ticks().values()) == ["2", "5", "10", "20"]


def test_places_lie_between_start_and_end() -> None:
    axis = Axis(0, 10, 100, 0)
    assert [axis.at(value) for value in (-5, 0, 5, 10, 99)] == [100, 100, 50, 0, 0]
    log = Axis(1, 100, 0, 100, log=True)
    assert log.at(10) == pytest.approx(50)
    assert log.at(-1) == 0


@pytest.mark.parametrize("value", [0.0, 5.0, -3.0])
def test_an_axis_of_one_number_has_room_around_it(value: float) -> None:
    assert Axis(value, value, 0, 100).at(value) == pytest.approx(50)
