"""The tab in TensorBoard: it appears, shows the runs that have something to show, and harms no other tab."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.served import tensorboard
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page


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
    """The fixtures see to it that nothing is wrong in their consoles.

    The HParams tab has a row for each run, named by its folder; its columns are those of a run of its own choice.
    """
    for tab in ("scalars", "hparams"):
        page.goto(f"{address}/#{tab}")
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
