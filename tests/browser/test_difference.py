"""Two runs as one picture, the first minus the second: numbers, intervals, and what only one of them has."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from antiphon.telemetry.channels.page import page as page_of
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.event_file import EventFile
from tests.browser import runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]
LACKING = 4
"""The number of the channel that the second run lacks."""
FIRST = {"value": [0.9, 0.1, -0.5, 0.2, 0.3, 0.0, 0.4, np.nan, 0.6], "low": 0.2, "high": 0.1}
SECOND = {"value": [0.1, 0.2, 0.4, 0.1, 0.3, 0.1, np.nan, 0.2, 0.6], "low": 0.15, "high": 0.3}


def write(folder: Path, channels: list[runs.Channel], given: dict, step: int) -> None:  # type: ignore[type-arg]
    """Write a run with one row of values and their intervals."""
    events = EventFile(folder)
    events.forget_after(0)
    writer = ChannelsWriter(events, runs.description(runs.AGENTS, channels, timeline=runs.timeline()))
    value = np.array([given["value"][runs.CHANNELS.index(channel)] for channel in channels], dtype=np.float32)
    rows = {"value": value, "value_low": value - given["low"], "value_high": value + given["high"]}
    loss = np.arange(len(runs.AGENTS), dtype=np.float32) * given["low"]
    figures = {("channel", metric): row for metric, row in rows.items()}
    writer.arrays(step, {**figures, ("agent", "loss"): loss})
    events.close()


@pytest.fixture
def tab(page: Page, tmp_path: Path) -> Tab:
    """A page in a file with the two runs side by side."""
    write(tmp_path / "first", runs.CHANNELS, FIRST, 20)
    write(tmp_path / "second", runs.CHANNELS[:LACKING] + runs.CHANNELS[LACKING + 1 :], SECOND, 10)
    file = tmp_path / "both.html"
    found = [read_run(tmp_path / name) for name in ("first", "second")]
    file.write_text(page_of(found, title="both"), encoding="utf-8")
    page.goto(file.as_uri())
    tab = Tab(page, page.main_frame)
    tab.choose("run", "first")
    tab.choose("figure", "value")
    assert not tab.part("difference").is_visible()
    tab.choose("beside", "second")
    tab.part("difference").check()
    tab.idle()
    return tab


def expected() -> np.ndarray:  # type: ignore[type-arg]
    """The first run's values minus the second's, by channel of the first."""
    found = np.array(FIRST["value"]) - np.array(SECOND["value"])
    found[LACKING] = np.nan
    return found


def test_the_picture_is_the_first_run_minus_the_second(tab: Tab) -> None:
    assert tab.part("stage").is_visible()
    assert not tab.part("stage-beside").is_visible()
    assert "first − second" in tab.part("stage").inner_text()
    assert "1 channel of only one of the runs" in tab.part("stage").inner_text()
    assert tab.ask("app.scale()") == {
        "scale": "diverging",
        "low": pytest.approx(-0.9, rel=1e-6),
        "high": pytest.approx(0.9, rel=1e-6),
    }
    rows = {
        row["name"]: float(row["value"]) for row in csv.DictReader(io.StringIO(tab.downloaded("csv-channel")))
    }
    wanted = dict(zip(NAMES, expected(), strict=True))
    assert rows == {
        name: pytest.approx(value, abs=1e-6) for name, value in wanted.items() if np.isfinite(value)
    }
    red, _, blue = tab.colours()[0]
    assert red > blue  # higher in the first: orange
    red, _, blue = tab.colours()[2]
    assert red < blue
    tab.part("difference").uncheck()
    tab.idle()
    assert tab.part("stage-beside").is_visible()


def test_intervals_of_independent_measurements_add_in_squares_and_what_holds_0_is_faint(tab: Tab) -> None:
    tab.push("view-matrix")
    down, up = np.hypot(FIRST["low"], SECOND["high"]), np.hypot(FIRST["high"], SECOND["low"])
    for channel in (2, 3):
        tab.page.mouse.move(*tab.point("cellPoint", channel))
        text = tab.frame.locator(".ap-matrix-tip").inner_text().replace("−", "-")
        (found,) = re.findall(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]", text)
        middle = expected()[channel]
        assert [float(number) for number in found] == pytest.approx(
            [middle, middle - down, middle + up], abs=2e-3
        )
    tab.page.mouse.move(0, 0)
    pixel, whole = (tab.pixel(tab.point("cellPoint", 2)), tab.colours()[2])
    assert pixel == pytest.approx(whole, abs=3)  # -0.9, all of its interval below 0
    pixel, whole = (tab.pixel(tab.point("cellPoint", 3)), tab.colours()[3])
    assert pixel != pytest.approx(whole, abs=20)  # 0.1, an interval on both sides


def test_a_filter_on_the_figure_is_one_on_the_difference(tab: Tab) -> None:
    tab.fill("filter", "figure>0.5")
    assert [tab.ask("app.matches('channel', a[0])", channel) for channel in range(len(NAMES))] == [
        value > 0.5 for value in expected()
    ]


def test_agents_that_do_the_same_share_a_row_of_the_timeline(tab: Tab) -> None:
    """All but `slow` tick at every step; a click goes on to the next of a row."""
    tab.push("view-timeline")
    names = list(runs.AGENTS)
    slow, others = names.index("slow"), [number for number, name in enumerate(names) if name != "slow"]
    places = {number: tab.point("rowPoint", "agent", number) for number in range(len(names))}
    assert len({places[number] for number in others}) == 1
    assert places[slow] != places[others[0]]
    for number in [*others, others[0]]:
        tab.click("rowPoint", "agent", others[0])
        assert tab.ask("app.selection()") == {"kind": "agent", "index": number}
    tab.page.mouse.move(*places[others[0]])
    tip = tab.frame.locator(".ap-timeline-tip").inner_text()
    assert "5 agents" in tip
    assert "left, right, middle, mind, second" in tip
    tab.part("timeline-group").uncheck()
    assert len({tab.point("rowPoint", "agent", number) for number in range(len(names))}) == len(names)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_in_a_narrow_window(tab: Tab, width: int) -> None:
    """Of every view all controls are in sight, and the page is no wider than the window."""
    tab.page.set_viewport_size({"width": width, "height": 800})
    for view in ("graph", "matrix", "timeline"):
        tab.push(f"view-{view}")
        outside = tab.frame.evaluate(
            """() => [...document.querySelectorAll('.ap button, .ap select, .ap input, .ap label')]
              .filter((one) => one.checkVisibility({ visibilityProperty: true }) && !one.closest('.ap-rail, dialog'))
              .filter((one) => { const box = one.getBoundingClientRect(); return box.width && (box.left < 0 || box.right > innerWidth + 0.5); })
              .map((one) => one.outerHTML.slice(0, 80))"""
        )
        assert outside == [], view
        assert tab.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
