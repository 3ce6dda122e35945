"""The report in a browser without a network: the tab's page in it, its curves, light and dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.tab import Tab
from tests.kit.commands import run_command
from tests.kit.resigned import resign

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.long

_FACTS: dict[str, Any] = {"seconds": 1.0, "steps": 100, "step": 100, "seed": 0, "threads": 1, "exit": "done"}
_FACTS |= {"device": "cpu", "dtype": "float32", "backend": "cohort", "warnings": []}


@pytest.fixture
def shown(context: BrowserContext, logdir: Path, tmp_path: Path) -> Page:
    """The report of a simulated run, of a made one, and of one with hostile names; opened from a file."""
    for name in ("made", runs.HOSTILE_RUN):
        resign(logdir / name, **_FACTS, scenario=runs.HOSTILE[0], error=runs.HOSTILE[1])
    output = tmp_path / "report.html"
    folders = [str(logdir / name) for name in ("real", "made", runs.HOSTILE_RUN)]
    assert run_command(["report", *folders, "-o", str(output)]) == 0
    for name in ("made", runs.HOSTILE_RUN):
        (logdir / name / "run.json").unlink()
    context.set_offline(True)
    page = context.new_page()
    page.goto(output.as_uri())
    return page


def test_a_report_grows_with_the_screen_and_its_curves_mark_no_step(shown: Page) -> None:
    """Headings and charts; as no step is chosen there."""
    chart = shown.locator("#antiphon-charts .ap-chart").first
    sizes = []
    for width, height in ((1280, 800), (3840, 2160)):
        shown.set_viewport_size({"width": width, "height": height})
        shown.reload()
        chart.locator("canvas").wait_for()
        box = shown.locator("main.ap-report").bounding_box() or {}
        heading = shown.locator("h2").first.evaluate("node => parseFloat(getComputedStyle(node).fontSize)")
        sizes.append([box["width"], heading, (chart.locator("canvas").bounding_box() or {})["height"]])
    assert all(large > 1.5 * small for small, large in zip(*sizes, strict=True))
    assert chart.locator(".ap-chart-now").is_hidden()


def test_the_live_graph_of_all_runs_works_in_the_report(shown: Page, logdir: Path) -> None:
    tab = Tab(shown, shown.main_frame)
    assert tab.part("run").locator("option").count() == 3
    tab.choose("run", "made")
    assert tab.ask("app.counts()") == {"agents": 6, "channels": 9}
    tab.choose("metric", "sg_loss")
    tab.select("channel", 5)
    logged = Events(logdir / "made").series("antiphon/channel/sg_loss")
    for step in (1, 100):
        tab.at(step)
        assert tab.number("sg_loss") == pytest.approx(logged[step][5], rel=1e-6)
    tab.select("channel", 0)
    assert tab.part("cloud").get_attribute("data-step") == "100"
    tab.choose("beside", "real")
    heads = [tab.part(stage).locator(".ap-stage-name").inner_text() for stage in ("stage", "stage-beside")]
    assert heads[0].startswith("made · training loss "), "each run has its result"
    assert "values of its" not in heads[0]
    assert heads[1].endswith(" · values of its last step, 16")
    for view in ("matrix", "timeline", "graph"):
        tab.push(f"view-{view}")
    assert shown.locator("img, [onerror]").count() == 0


def test_curves_are_drawn_in_the_theme_of_the_page_and_nothing_is_wider_than_the_window(shown: Page) -> None:
    tab = Tab(shown, shown.main_frame)
    titles = shown.locator("#antiphon-charts .ap-chart-title").all_inner_texts()
    assert any(title.startswith("training loss: ") for title in titles), (
        "of several scenarios each has its own"
    )
    assert shown.locator("#antiphon-charts canvas").count() == len(titles)
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = shown.evaluate(paper)
    tab.push("theme")
    assert shown.evaluate(paper) != light
    assert shown.locator("#antiphon-charts canvas").count() == len(titles)
    assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tables = (
        "[...document.querySelectorAll('.ap-report-table')].map((one) => one.scrollWidth - one.clientWidth)"
    )
    assert not any(shown.evaluate(tables))
