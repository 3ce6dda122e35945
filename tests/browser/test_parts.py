"""A run in parts: plates of the parts' colours, bars across cut channels, the table, and the part that is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser import runs
from tests.browser.numbers import Colour, apart
from tests.browser.tab import Tab
from tests.telemetry.parts.made import AGENTS, CHANNELS, CUT

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long


INK, GONE = (27, 39, 51), (122, 75, 0)
PAPER = (255, 255, 255)
CHANNEL = {f"{sender}->{receiver}": index for index, (sender, receiver) in enumerate(CHANNELS)}


@pytest.fixture
def divided(page: Page, address: str) -> Tab:
    """The tab with the run in parts, its channels in colours that are none of the marks'."""
    tab = Tab.alone(page, address, "parts")
    tab.choose("metric", "cosine")
    return tab


def plate(tab: Tab, agent: str) -> Colour:
    """Return the colour between the halo of an agent that ticks and the rim of its plate."""
    x, y = tab.point("agentPoint", AGENTS.index(agent))
    away = 29 if agent in "abc" else -29
    return tab.pixel((x + away, y - away))


def test_agents_of_a_part_stand_on_plates_of_one_colour_until_it_is_gone(divided: Tab) -> None:
    divided.at(50)
    plates = {agent: plate(divided, agent) for agent in AGENTS}
    assert plates["a"] == plates["b"]
    assert plates["c"] == plates["d"]
    assert plates["e"] == plates["f"]
    assert len({*plates.values(), PAPER}) == 4
    assert not divided.frame.get_by_text("Gone:").is_visible()
    divided.at(60)
    then = {agent: plate(divided, agent) for agent in AGENTS}
    assert [then[agent] for agent in "abcd"] == [plates[agent] for agent in "abcd"]
    assert max(apart(then[agent], PAPER) for agent in "ef") <= 4  # the dashed outline passes near
    note = "Gone: part 2 (node-3), last heartbeat 1 s ago."
    assert divided.frame.get_by_text(note).is_visible()
    divided.choose("run", "made")
    assert not divided.frame.get_by_text("Gone:").is_visible()


def test_cut_channels_have_bars_and_others_have_none(divided: Tab) -> None:
    divided.at(20)  # no channel without bars is grey, between ink and paper
    for name, channel in CHANNEL.items():
        assert divided.is_drawn(INK, divided.point("edgePoint", channel), reach=4) == (name in CUT), name
    divided.at(100)
    marks = {INK, GONE}
    assert marks <= {colour for colour, *_ in divided.drawn()[0]}, "bars, and outlines of what is gone"
    divided.choose("run", "made")
    assert not marks & {colour for colour, *_ in divided.drawn()[0]}


def test_the_table_has_what_a_part_computed_waited_for_and_sent(divided: Tab) -> None:
    divided.press("a")
    divided.at(100)
    expected = {
        "machine": ["node-1", runs.HOSTILE[0], "node-3"],
        "agents": ["2", "2", "2"],
        "steps_taken": ["100", "100", "50"],
        "computing": ["5", "5", "2.5"],
        "waiting": ["4.5 (part 2)", "2.5 (part 0)", "1.25 (part 1)"],
        "bytes_sent": ["100 kB", "200 kB", "150 kB"],
        "blocked_on": ["part 2", "–", "–"],
        "restarts": ["0", "0", "1"],
        "heartbeat_age": ["now", "now", "5 s ago, gone"],
    }
    for column, cells in expected.items():
        assert [divided.part(f"part-{part}-{column}").inner_text() for part in range(3)] == cells, column
    divided.choose("run", "made")
    assert not divided.part("view-parts").is_visible()
    divided.choose("run", "parts")
    divided.press("a")
    divided.at(10)
    assert divided.part("part-0-waiting").inner_text() == "0.25 (part 2)"
    assert divided.frame.get_by_text("3 parts; 3 of 6 channels are cut.").is_visible()
