"""A run that is still being written."""

from __future__ import annotations

import dataclasses
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.served import tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]


class Growing:
    """A session of a run, with as many rows as it was told to write.

    Args:
        folder: Where it is written.
        rows: How many rows of earlier sessions it goes on from.
        seed: Of its numbers.
    """

    def __init__(self, folder: Path, rows: int = 0, seed: int = 0) -> None:
        self._recorder = TensorBoardRecorder(folder, start_step=10 * rows)
        told = runs.description(runs.AGENTS, runs.CHANNELS)
        self._recorder.begin(dataclasses.replace(told, start_step=10 * rows))
        self._seed = seed
        self.rows = rows

    def write(self, count: int, pause: float = 0.0) -> None:
        """Write more rows, ten steps apart."""
        for _ in range(count):
            self.rows += 1
            step = 10 * self.rows
            self._recorder.figures(step, runs.figures(list(runs.AGENTS), NAMES, step, seed=self._seed))
            time.sleep(pause)

    def close(self) -> None:
        """Close its file."""
        self._recorder.close()


def refreshed(tab: Tab, rows: int) -> list[int]:
    """Click Refresh until the slider has so many steps; TensorBoard looks for news every second."""
    end = time.monotonic() + 20
    while True:
        tab.part("refresh").click()
        tab.idle()
        steps: list[int] = tab.ask("app.steps()")
        if len(steps) >= rows or time.monotonic() > end:
            return steps
        tab.page.wait_for_timeout(300)


def test_refresh_shows_new_rows_and_keeps_what_was_chosen(page: Page, tmp_path: Path) -> None:
    """Selection, figure and step stay; a slider that was at its end goes with the run."""
    with closing(Growing(tmp_path / "growing")) as run, tensorboard(tmp_path) as address:
        run.write(5)
        wait_for_runs(address, {"growing"})
        tab = Tab.alone(page, address, "growing")
        assert refreshed(tab, 5) == [10, 20, 30, 40, 50]
        tab.choose("figure", "cosine")
        tab.click("edgePoint", 5)
        tab.ask("app.setStep(30)")
        run.write(3)
        assert refreshed(tab, 8) == [10, 20, 30, 40, 50, 60, 70, 80]
        assert tab.step == 30
        assert tab.ask("app.selection()") == {"kind": "channel", "index": 5}
        assert tab.part("figure").input_value() == "cosine"
        tab.press("End")
        logged = Events(tmp_path / "growing").figure("antiphon/channel/cosine")
        assert tab.step == 80
        assert tab.number("cosine") == pytest.approx(logged[80][5], rel=1e-6)
        run.write(1)
        refreshed(tab, 9)
        assert tab.step == 90


def test_refresh_while_a_run_is_writing(page: Page, tmp_path: Path) -> None:
    """Rows come all the time; a run that appears can be chosen, and no row is there twice or halfway."""
    with closing(Growing(tmp_path / "growing")) as run, tensorboard(tmp_path) as address:
        run.write(2)
        writer = threading.Thread(target=run.write, args=(40, 0.05))
        wait_for_runs(address, {"growing"})
        tab = Tab.alone(page, address, "growing")
        writer.start()
        tab.ask("app.select('channel', 3)")
        while writer.is_alive():
            tab.part("refresh").click()
            tab.idle()
            steps = tab.ask("app.steps()")
            assert steps == [10 * (row + 1) for row in range(len(steps))]
        writer.join()
        runs.write_foreign(tmp_path / "foreign")
        runs.write_made(tmp_path / "late", steps=(1, 10))
        assert len(refreshed(tab, 42)) == 42
        wait_for_runs(address, {"late"})
        tab.part("refresh").click()
        tab.idle()
        tab.choose("run", "late")
        assert tab.ask("app.steps()") == [1, 10]
    logged = Events(tmp_path / "growing").figure("antiphon/channel/sg_loss")
    assert len(logged) == 42


def test_refresh_of_a_run_that_was_resumed_drops_the_rows_it_lost(page: Page, tmp_path: Path) -> None:
    """Eight rows, then a session from the fifth on with other numbers: those are shown, also of rows seen before."""
    first = Growing(tmp_path / "resumed")
    first.write(8)
    first.close()
    with tensorboard(tmp_path) as address:
        wait_for_runs(address, {"resumed"})
        tab = Tab.alone(page, address, "resumed")
        assert len(refreshed(tab, 8)) == 8
        tab.choose("figure", "cosine")
        tab.ask("app.select('channel', 5)")
        second = Growing(tmp_path / "resumed", rows=5, seed=1)
        second.write(4)
        second.close()
        assert refreshed(tab, 9) == [10 * (row + 1) for row in range(9)]
        for step, seed in ((50, 0), (60, 1), (80, 1), (90, 1)):
            rows = runs.figures(list(runs.AGENTS), NAMES, step, seed=seed)
            (logged,) = (row.value for row in rows if row.name == NAMES[5] and row.metric == "cosine")
            tab.ask("app.setStep(a[0])", step)
            tab.idle()
            assert tab.number("cosine") == pytest.approx(logged, rel=1e-6), step


def test_tensorboards_own_reload_button_refreshes_the_tab(page: Page, tmp_path: Path) -> None:
    """It tells the tab, which then asks for what is new."""
    with closing(Growing(tmp_path / "growing")) as run, tensorboard(tmp_path) as address:
        run.write(3)
        wait_for_runs(address, {"growing"})
        page.goto(f"{address}/#antiphon")
        tab = Tab.inside(page)
        tab.idle()
        run.write(2)
        end = time.monotonic() + 20
        while len(tab.ask("app.steps()")) < 5 and time.monotonic() < end:
            page.locator(".reload-button").click()
            page.wait_for_timeout(700)
            tab.idle()
        assert tab.ask("app.steps()") == [10, 20, 30, 40, 50]
