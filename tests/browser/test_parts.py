"""A run in parts: plates of the parts' colours, bars across cut channels, the table, and the part that is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry.channels.page import page as page_of
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.event_file import EventFile
from tests.browser import runs
from tests.browser.numbers import Colour, apart
from tests.browser.tab import Tab
from tests.telemetry.parts import made
from tests.telemetry.parts.made import AGENTS, CHANNELS, CUT

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

INK = (27, 39, 51)
PAPER = (255, 255, 255)
CHANNEL = {f"{sender}->{receiver}": index for index, (sender, receiver) in enumerate(CHANNELS)}
IN_PARTS = CHANNEL.keys() - set(CUT)


@pytest.fixture
def divided(page: Page, address: str) -> Tab:
    """The tab with the run in parts, its channels in colours that are none of the marks'."""
    tab = Tab.alone(page, address, "parts")
    tab.choose("figure", "cosine")
    return tab


def plate(tab: Tab, agent: str) -> Colour:
    """Return the colour beside an agent's disc."""
    x, y = tab.point("agentPoint", AGENTS.index(agent))
    return tab.pixel((x + (20 if agent in "abc" else -20), y - 20))


def test_agents_of_a_part_stand_on_plates_of_one_colour_until_it_is_gone(divided: Tab) -> None:
    divided.at(50)
    plates = {agent: plate(divided, agent) for agent in AGENTS}
    assert plates["a"] == plates["b"]
    assert plates["c"] == plates["d"]
    assert plates["e"] == plates["f"]
    assert len({*plates.values(), PAPER}) == 4
    assert not divided.frame.get_by_text("Gone:").is_visible()
    divided.at(60)
    wanted = [*list(plates.values())[:4], PAPER, PAPER]
    assert all(apart(plate(divided, a), colour) <= 6 for a, colour in zip(AGENTS, wanted, strict=True))
    note = "Gone: part 2 (node-3), last heartbeat 1 s ago."
    assert divided.frame.get_by_text(note).is_visible()
    divided.choose("run", "made")
    assert not divided.frame.get_by_text("Gone:").is_visible()


def test_cut_channels_have_bars_and_others_have_none(divided: Tab) -> None:
    for name, channel in CHANNEL.items():
        assert divided.is_drawn(INK, divided.point("edgePoint", channel), reach=4) == (name in CUT), name
    marks = ('stroke="#1b2733"', 'stroke="#7a4b00"')
    assert all(mark in divided.downloaded("svg") for mark in marks), "bars, and outlines of what is gone"
    divided.choose("run", "made")
    assert not any(mark in divided.downloaded("svg") for mark in marks)


def test_the_table_has_what_a_part_computed_waited_for_and_sent(divided: Tab) -> None:
    divided.press("a")
    divided.at(100)
    found = {
        column: [divided.part(f"part-{part}-{column}").inner_text() for part in range(3)]
        for column in (
            "machine",
            "agents",
            "steps_taken",
            "computing",
            "waiting",
            "bytes_sent",
            "blocked_on",
            "restarts",
        )
    }
    assert found == {
        "machine": ["node-1", runs.HOSTILE[0], "node-3"],
        "agents": ["2", "2", "2"],
        "steps_taken": ["100", "100", "50"],
        "computing": ["5", "5", "2.5"],
        "waiting": ["4.5 (part 2)", "2.5 (part 0)", "1.25 (part 1)"],
        "bytes_sent": ["100 kB", "200 kB", "150 kB"],
        "blocked_on": ["part 2", "–", "–"],
        "restarts": ["0", "0", "1"],
    }
    ages = [divided.part(f"part-{part}-heartbeat_age").inner_text() for part in range(3)]
    assert ages == ["now", "now", "5 s ago, gone"]
    divided.at(10)
    assert divided.part("part-0-waiting").inner_text() == "0.25 (part 2)"
    assert divided.frame.get_by_text("3 parts; 3 of 6 channels are cut.").is_visible()


def test_a_run_that_is_not_in_parts_has_no_such_view(divided: Tab) -> None:
    divided.push("view-parts")
    assert divided.part("parts").is_visible()
    divided.choose("run", "made")
    assert not divided.part("parts").is_visible()
    assert not divided.part("view-parts").is_visible()
    assert divided.part("view-graph").get_attribute("aria-selected") == "true"
    divided.press("a")
    assert divided.part("view-graph").get_attribute("aria-selected") == "true"


def test_a_run_beside_it_that_is_not_in_parts_says_so(divided: Tab) -> None:
    divided.choose("beside", "made")
    divided.push("view-parts")
    assert divided.part("stage-beside").get_by_text("computed as a whole").is_visible()
    assert divided.part("stage").get_by_test_id("parts").is_visible()


def test_filter_panel_and_matrix_know_the_parts(divided: Tab) -> None:
    divided.fill("filter", "part:1")
    assert divided.part("counts").inner_text() == "2 of 6 agents, 3 of 6 channels"
    divided.fill("filter", "cut:1")
    left = [name for name, channel in CHANNEL.items() if divided.ask("app.matches('channel', a[0])", channel)]
    assert sorted(left) == sorted(CUT)
    divided.fill("filter", "")
    divided.select("agent", AGENTS.index("c"))
    assert f"part 1 ({runs.HOSTILE[0]})" in divided.part("panel").inner_text()
    divided.select("channel", CHANNEL["d->e"])
    assert f"from part 1 ({runs.HOSTILE[0]}) to part 2 (node-3)" in divided.part("panel").inner_text()
    divided.select("channel", CHANNEL["c->d"])
    assert "node-3" not in divided.part("panel").inner_text()
    divided.push("view-matrix")
    divided.choose("order", "part")
    divided.choose("run", "made")
    assert divided.part("order").input_value() == "given"
    assert divided.part("order").locator("option[value=part]").get_attribute("hidden") is not None


def test_the_page_of_a_run_in_parts_fits_a_telephone(
    context: BrowserContext, logdir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "page.html"
    file.write_text(page_of([read_run(logdir / "parts")], title="parts"), encoding="utf-8")
    page = context.new_page()
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(file.as_uri())
    tab = Tab(page, page.main_frame)
    tab.push("view-parts")
    assert tab.part("part-0-machine").inner_text() == "node-1"
    table = tab.part("parts").bounding_box()
    assert table is not None
    assert table["x"] >= 0
    assert table["x"] + table["width"] <= 390
    for part in range(3):
        cell = tab.part(f"part-{part}-waiting").bounding_box()
        assert cell is not None
        assert cell["x"] + cell["width"] <= 390


def test_of_very_many_parts_those_that_are_gone_or_wait_are_listed(page: Page, tmp_path: Path) -> None:
    told = runs.description({f"n{number}": {"part": number} for number in range(250)}, [])
    events = EventFile(tmp_path)
    writer = ChannelsWriter(events, told)
    for step in (1, 2):
        figures = [made.part(number, step, waiting={0: float(number % 240)}) for number in range(250)]
        for number in (0, 1, 2) if step == 2 else ():
            figures[number] = replace(figures[number], alive=False, heartbeat_age=1.5)
        writer.parts(step, figures)
    events.close()
    file = tmp_path / "page.html"
    file.write_text(page_of([read_run(tmp_path)], title="many"), encoding="utf-8")
    page.goto(file.as_uri())
    tab = Tab(page, page.main_frame)
    tab.push("view-parts")
    listed = [*range(3), *range(43, 240)]
    shown = tab.frame.locator("[data-testid=parts] tbody tr")
    assert [int(row) for row in shown.evaluate_all("rows => rows.map((row) => row.dataset.part)")] == listed
    assert tab.part("part-239-waiting").inner_text() == "239 (part 0)"
    assert tab.frame.get_by_text("last heartbeat 1.5 s ago; part 2").is_visible()
    tab.at(1)
    assert tab.part("part-0-part").count() == 0
    assert tab.part("part-41-part").inner_text() == "41"
    assert "200 of them are listed" in tab.part("stage").inner_text()
