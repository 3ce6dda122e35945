"""The report in a browser without a network: the live graph in the midst of it, and what is left on paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from antiphon.cli import main
from tests.browser import runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

_FACTS: dict[str, Any] = {
    "format": 1,
    "seconds": 1.0,
    "steps": 100,
    "step": 100,
    "seed": 0,
    "threads": 1,
    "exit": "done",
}
_FACTS |= {"device": "cpu", "dtype": "float32", "backend": "cohort", "warnings": []}


@pytest.fixture
def shown(context: BrowserContext, logdir: Path, tmp_path: Path) -> Page:
    """The report of a simulated run, of a made one, and of one with hostile names; opened from a file."""
    for name in ("made", runs.HOSTILE_RUN):
        facts = {**_FACTS, "scenario": runs.HOSTILE[0], "error": runs.HOSTILE[1]}
        (logdir / name / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    output = tmp_path / "report.html"
    folders = [str(logdir / name) for name in ("real", "made", runs.HOSTILE_RUN)]
    assert main(["report", *folders, "-o", str(output)]) == 0
    for name in ("made", runs.HOSTILE_RUN):
        (logdir / name / "run.json").unlink()
    context.set_offline(True)
    page = context.new_page()
    page.goto(output.as_uri())
    return page


def test_the_live_graph_of_all_runs_works_in_the_report(shown: Page) -> None:
    tab = Tab(shown, shown.main_frame)
    assert tab.part("run").locator("option").count() == 3
    tab.choose("run", "made")
    assert tab.ask("app.counts()") == {"agents": 6, "channels": 9}
    tab.choose("beside", "real")
    for view in ("matrix", "timeline", "graph"):
        tab.push(f"view-{view}")
    assert shown.locator("img, [onerror]").count() == 0
    assert shown.locator(".report section").count() == 8


def test_links_lead_to_the_sections_and_nothing_is_wider_than_the_window(shown: Page) -> None:
    for link in shown.locator("nav a").all():
        target = link.get_attribute("href")
        assert shown.locator(str(target)).count() == 1
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_on_paper_a_picture_stands_for_the_live_graph(shown: Page) -> None:
    assert not shown.locator("svg.still").first.is_visible()
    shown.emulate_media(media="print")
    assert shown.locator("svg.still").first.is_visible()
    assert not shown.locator("#antiphon").is_visible()
    assert shown.locator("svg.chart:visible").count() > 4
