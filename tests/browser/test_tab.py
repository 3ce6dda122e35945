"""The tab in TensorBoard and in a report: it appears, shows what there is, names as they are, and harms no other tab."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.served import tensorboard
from tests.browser.tab import Tab
from tests.kit.commands import run_command
from tests.kit.some import some

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.mark.long
def test_tensorboard_has_a_tab_channels_that_shows_the_run(page: Page, address: str) -> None:
    """From the first page of TensorBoard, by a click on its top bar."""
    page.goto(f"{address}/#scalars")
    page.get_by_role("tab", name="Channels").click()
    tab = Tab.inside(page)
    tab.choose("run", "made")
    assert tab.part("counts").inner_text() == "6 agents, 9 channels"
    tab.click("channel", 5)
    assert tab.title == "right->mind"


@pytest.mark.long
def test_the_standard_tabs_still_show_the_runs(page: Page, address: str) -> None:
    """The fixtures see to it that nothing is wrong in their consoles."""
    page.goto(f"{address}/#scalars")
    page.get_by_text("other/seed1", exact=True).locator("visible=true").first.wait_for()
    assert not page.get_by_text("No dashboards are active").is_visible()


@pytest.mark.long
def test_an_empty_log_directory_is_said_to_be_empty(page: Page, tmp_path: Path) -> None:
    """In the tab's own page, and TensorBoard lists the tab as inactive."""
    with tensorboard(tmp_path) as address:
        tab = Tab.alone(page, address)
        assert tab.part("empty").is_visible()
        page.goto(address)
        page.get_by_text("No dashboards are active").first.wait_for()
        assert page.get_by_role("tab", name="Channels").count() == 0
        page.close()  # it goes on asking, which is an error on its console once TensorBoard has ended


# --- hostile names ---------------------------------------------------------------------------------------


if TYPE_CHECKING:
    from playwright.sync_api import Page


_ELEMENTS = (
    "document.querySelectorAll('img, [onerror], [src=x], iframe, object, embed, a[href^=javascript]').length"
)


@pytest.mark.long
def test_hostile_names_are_shown_as_text(page: Page, address: str) -> None:
    """Of run, scenario, agents, channels, metrics and facts, in every view; the fixtures see to dialogs and requests."""
    tab = Tab.alone(page, address, runs.HOSTILE_RUN)
    scripts = tab.frame.evaluate("document.scripts.length")
    assert runs.HOSTILE_RUN in tab.part("run").locator("option:checked").inner_text()
    channels = [f"{one}->{other}" for one, other in itertools.pairwise(runs.HOSTILE)]
    for kind, names in (("agent", runs.HOSTILE), ("channel", channels)):
        for index, name in enumerate(names):
            tab.click(kind, index)
            assert tab.title == name
    tab.click("agent", 0)
    panel = "".join((tab.part("panel").text_content() or "").split())
    assert "".join(runs.HOSTILE[1].split()) in panel
    assert "".join(runs.HOSTILE[2].split()) in panel
    for view in ("matrix", "table", "timeline", "graph"):
        tab.push(f"view-{view}")
        place = some(tab.part("stage").bounding_box())
        for share in (0.3, 0.5, 0.7):  # whatever is said about what the pointer is over
            page.mouse.move(place["x"] + share * place["width"], place["y"] + share * place["height"])
            page.wait_for_timeout(60)
        assert tab.frame.evaluate(_ELEMENTS) == 0
    assert tab.frame.evaluate("document.scripts.length") == scripts


# --- the report ------------------------------------------------------------------------------------------


if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext


@pytest.mark.long
def test_the_live_graph_works_in_the_report(context: BrowserContext, logdir: Path, tmp_path: Path) -> None:
    output = tmp_path / "report.html"
    assert run_command(["report", str(logdir / "real"), "-o", str(output)]) == 0
    context.set_offline(True)
    page = context.new_page()
    page.goto(output.as_uri())
    assert page.locator(".ap-report tbody th").all_inner_texts() == ["real"]
    tab = Tab(page, page.main_frame)
    assert tab.part("counts").inner_text() == "2 agents, 3 channels"
    page.evaluate("document.getElementById('antiphon').scrollIntoView()")
    tab.click("channel", 0)
    logged = Events(logdir / "real").series("antiphon/channel/message_energy")
    for step in (1, 16):
        tab.at(step)
        assert tab.number("message_energy") == pytest.approx(logged[step][0], rel=1e-6)
    for view in ("matrix", "table", "timeline", "graph"):
        tab.push(f"view-{view}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
