"""The report in a browser without a network: its table, and the tab's page in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.numbers import Events
from tests.browser.tab import Tab
from tests.kit.commands import run_command

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

pytestmark = pytest.mark.long


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
