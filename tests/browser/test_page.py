"""The page that needs no server: opened from a file, with the network taken away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry.channels.page import page as page_of
from antiphon.telemetry.channels.reading import read_run
from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.long


@pytest.fixture
def offline(context: BrowserContext) -> Page:
    """A page without a network."""
    context.set_offline(True)
    return context.new_page()


def test_a_page_of_two_runs_is_the_tab_in_a_file(offline: Page, logdir: Path, tmp_path: Path) -> None:
    """Graph, numbers, messages, matrix and timeline, all from the one file."""
    found = [read_run(logdir / run) for run in ("made", "other/seed1")]
    file = tmp_path / "report.html"
    file.write_text(page_of(found, title=runs.HOSTILE[1]), encoding="utf-8")
    offline.goto(file.as_uri())
    tab = Tab(offline, offline.main_frame)
    assert offline.title() == runs.HOSTILE[1]
    assert tab.ask("app.counts()") == {"agents": 6, "channels": 9}
    assert tab.part("run").locator("option").count() == 2
    tab.choose("figure", "sg_loss")
    tab.click("edgePoint", 5)
    logged = Events(logdir / "made").figure("antiphon/channel/sg_loss")
    for step in (1, 100):
        tab.at(step)
        assert tab.number("sg_loss") == pytest.approx(logged[step][5], rel=1e-6)
    tab.select("channel", 0)
    assert tab.part("cloud").get_attribute("data-step") == "100"
    for view in ("matrix", "timeline"):
        tab.push(f"view-{view}")


def test_a_page_of_hostile_names_runs_nothing(offline: Page, logdir: Path, tmp_path: Path) -> None:
    """The data stand in a script element, which none of the names may close."""
    file = tmp_path / "report.html"
    file.write_text(page_of([read_run(logdir / runs.HOSTILE_RUN)], title="hostile"), encoding="utf-8")
    offline.goto(file.as_uri())
    tab = Tab(offline, offline.main_frame)
    tab.select("agent", 1)
    assert tab.title == runs.HOSTILE[1]
    assert tab.frame.evaluate("document.querySelectorAll('img, [onerror]').length") == 0
