"""A browser before a TensorBoard; both are started once per process of pytest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import antiphon
from tests.browser import runs
from tests.browser.served import MISSING, PATIENCE, Watch, chromium, tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

_WINDOW = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    path = chromium()
    if path is None:
        if os.environ.get("ANTIPHON_NEED_BROWSER"):
            pytest.fail(f"browser tests cannot run: {MISSING}")
        pytest.skip(f"browser tests skipped: {MISSING}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, headless=True, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="session")
def logdir(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of all sorts: see `runs.py`; `real` is one of a simulation."""
    folder = tmp_path_factory.mktemp("logdir")
    runs.write_made(folder / "made")
    runs.write_made(folder / "other" / "seed1", seed=1, factor=3.0)
    runs.write_hostile(folder / runs.HOSTILE_RUN)
    runs.write_parts(folder / "parts")
    runs.write_large(folder / "large")
    scenario = antiphon.load("two-timescales").resolve(
        values={"hidden": 6, "size": 4, "units": 5, "batch": 4}
    )
    with antiphon.Simulation(scenario, logdir=folder / "real") as simulation:
        simulation.run(steps=16)
    return folder


@pytest.fixture(scope="session")
def address(logdir: Path) -> Iterator[str]:
    """Where TensorBoard shows those runs."""
    shown = {runs.HOSTILE_RUN, "made", "other/seed1", "large", "parts", "real"}
    with tensorboard(logdir) as found:
        wait_for_runs(found, shown)
        yield found


@pytest.fixture
def watch() -> Watch:
    """What must stay empty while a test runs."""
    return Watch()


@pytest.fixture
def context(browser: Browser, watch: Watch) -> Iterator[BrowserContext]:
    """A fresh profile; afterwards nothing may have gone wrong on its pages."""
    found = browser.new_context(viewport=_WINDOW, accept_downloads=True, color_scheme="light")
    found.set_default_timeout(1e3 * PATIENCE)
    watch.over(found)
    yield found
    found.close()
    watch.check()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty page of 1280 x 800."""
    return context.new_page()


@pytest.fixture
def tab(page: Page, address: str) -> Tab:
    """The tab with the made run."""
    return Tab.alone(page, address, "made")
