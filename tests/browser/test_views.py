"""Matrix and timeline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import antiphon
from antiphon.telemetry import raster_lines
from tests.browser import runs
from tests.browser.numbers import Events, apart, place_on_cividis
from tests.browser.tab import Tab
from tests.kit.documented import timeline
from tests.kit.some import some

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long


def test_the_matrix_shows_a_thousand_agents_and_finds_the_channel_of_a_cell(
    page: Page, address: str, logdir: Path
) -> None:
    """Cells are told apart by their colours, and a click on one selects its channel."""
    tab = Tab.alone(page, address, "large")
    assert tab.ask("app.counts()") == {"agents": 1000, "channels": 4000}
    tab.choose("metric", "sg_loss")
    tab.push("view-matrix")
    events = Events(logdir / "large")
    graph, rows = events.document("antiphon/graph"), events.series("antiphon/channel/sg_loss")
    for index in (0, 1234, 3999):
        tab.click("cellPoint", index)
        selected = some(tab.ask("app.selection()"))
        chosen = graph["channels"][selected["index"]]
        clicked = graph["channels"][index]
        # A cell is smaller than a pixel here: a neighbour is meant where it lies under the pointer.
        assert abs(chosen["from"] - clicked["from"]) <= 3
        assert abs(chosen["to"] - clicked["to"]) <= 3
        assert tab.title == chosen["name"]
        assert tab.number("sg_loss") == pytest.approx(rows[41][selected["index"]], rel=1e-6)


def test_the_matrix_of_few_agents_has_a_cell_per_channel_in_its_colour(tab: Tab) -> None:
    """Parallel channels share a cell."""
    tab.choose("metric", "sg_loss")
    tab.push("view-matrix")
    for step in (1, 100):
        tab.at(step)
        colours = tab.colours()
        for index in range(2, 9):
            assert apart(tab.pixel(tab.point("cellPoint", index)), colours[index]) <= 8, (step, index)
            assert place_on_cividis(colours[index])[1] <= 6
    places = {
        runs.channel_name(channel): tab.point("cellPoint", index)
        for index, channel in enumerate(runs.CHANNELS)
    }
    assert places["left->mind"][1] == places["left->slow"][1]  # a row per sender
    assert places["left->mind"][0] == places["slow->mind"][0]  # a column per receiver
    assert places["left->mind"] == places["left->mind:again"]
    tab.click("cellPoint", 7)
    assert tab.ask("app.selection()") == {"kind": "channel", "index": 7}


def test_the_timeline_shows_ticks_and_selects(page: Page, address: str) -> None:
    """Of a simulation: agent B ticks at every fourth step, A at each."""
    tab = Tab.alone(page, address, "real")
    tab.push("view-timeline")
    fast, slow = ([ink(tab, agent, step) for step in range(4)] for agent in (0, 1))
    silent = max(slow[:3])  # later, lines of messages pass there too
    assert min(slow[3], *fast[:4]) > silent + 20
    tab.click("rowPoint", 1)
    assert tab.title == "B"
    assert "from step 4;" in tab.part("panel").inner_text()


def test_steps_are_counted_as_show_counts_them(page: Page, address: str, logdir: Path) -> None:
    """From 1, as metrics are: in the timeline of `show` and the tab's, on the slider, and where an agent is said to tick."""
    tab = Tab.alone(page, address, "real")
    with antiphon.Simulation.load(logdir / "real") as simulation:
        shown = raster_lines(timeline(simulation, 0, 32), width=1000)
    steps, b = shown[0].split()[1:], shown[3].split()[1:]
    ticking = [int(step) for step, sign in zip(steps, b, strict=True) if sign in "o#"]
    assert ticking[:4] == [4, 8, 12, 16]
    tab.press("Home")
    assert tab.step == 1
    tab.press("End")
    assert tab.step == ticking[3]
    tab.push("view-timeline")
    texts = tab.drawn()[1]
    head = [text for text, _, y in texts if y < 26 and text.isdigit()]
    assert head == [step for step in steps if step in head]
    assert head[0] == "1"
    for number, line in enumerate(line for line in shown if "->" in line):
        name, cells = line.split("  ", 1)
        top = tab.point("rowPoint", number, "channel")[1] - tab.point("rowPoint", 0)[1]
        there = {text for text, _, y in texts if abs(y - 41 - top) < 2}
        assert there == {name, *cells.split()} - {"."}


def test_the_timeline_has_only_what_works_there(page: Page, address: str) -> None:
    """Neither colours, the best and the worst, nor the slider; a channel's row selects it."""
    tab = Tab.alone(page, address, "real")
    assert tab.part("legend").is_visible()
    tab.push("view-timeline")
    assert not tab.part("legend").is_visible()
    assert not tab.part("slider").is_visible()
    tab.click("rowPoint", 1, "channel")
    assert tab.title == "A->B"
    x, y = tab.point("stepPoint", 1, 0, "channel")
    page.mouse.move(x, y)
    tip = tab.frame.locator(".ap-tooltip:visible").inner_text()
    assert tip.split("\n") == ["A->B, step 1", "Nothing is read. The message sent is never read."]


def ink(tab: Tab, agent: int, step: int) -> float:
    """Return how much the darkest part of a step's place in an agent's row differs from white."""
    x, y = tab.point("stepPoint", agent, step)
    return float(255 - tab.pixels({"x": x - 2, "y": y - 2, "width": 4, "height": 4}).mean(2).min())
