"""A run that is still being written."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry.metrics import Metric
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.browser import runs
from tests.browser.numbers import Events, newest_mean
from tests.browser.served import PATIENCE, tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.long

NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]


class Growing:
    """A session of a run, with as many rows as it was told to write.

    Args:
        folder: Where it is written.
        rows: How many rows of earlier sessions it goes on from.
        seed: Of its numbers.
    """

    def __init__(self, folder: Path, rows: int = 0, seed: int = 0) -> None:
        self._recorder = TensorBoardRecorder(folder)
        told = runs.description(runs.AGENTS, runs.CHANNELS)
        seeded = {**told.hparams, "seed": seed}
        self._recorder.begin(dataclasses.replace(told, hparams=seeded, start_step=10 * rows))
        self._seed = seed
        self.rows = rows

    def write(self, count: int, pause: float = 0.0) -> None:
        """Write more rows, ten steps apart."""
        for _ in range(count):
            self.rows += 1
            step = 10 * self.rows
            self._recorder.metrics(step, runs.metrics(list(runs.AGENTS), NAMES, step, seed=self._seed))
            time.sleep(pause)

    def measure(self, metric: str, values: list[float]) -> None:
        """Write a metric of all channels at the newest step, after its row."""
        rows = [Metric("channel", name, metric, value) for name, value in zip(NAMES, values, strict=True)]
        self._recorder.metrics(10 * self.rows, rows)

    def close(self) -> None:
        """Close its file."""
        self._recorder.close()


@pytest.fixture(scope="module")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and where TensorBoard shows its runs; each test has a run of its own."""
    folder = tmp_path_factory.mktemp("growing")
    with tensorboard(folder) as address:
        yield folder, address


def refreshed(tab: Tab, rows: int) -> list[int]:
    """Click Refresh until the slider has so many steps; TensorBoard looks for news every second.

    It may do so between two questions of one refresh; the next one has the news of all metrics.
    """
    end = time.monotonic() + PATIENCE
    while True:
        tab.push("refresh")
        steps: list[int] = tab.ask("app.steps()")
        if len(steps) >= rows or time.monotonic() > end:
            tab.push("refresh")
            return steps
        tab.page.wait_for_timeout(300)


def test_refresh_shows_new_rows_and_keeps_what_was_chosen(page: Page, served: tuple[Path, str]) -> None:
    """Selection, metric and step stay; a slider that was at its end goes with the run."""
    folder, address = served
    with closing(Growing(folder / "chosen")) as run:
        run.write(5)
        wait_for_runs(address, {"chosen"})
        tab = Tab.alone(page, address, "chosen")
        assert refreshed(tab, 5) == [10, 20, 30, 40, 50]
        tab.choose("metric", "cosine")
        tab.click("edgePoint", 5)
        tab.ask("app.setStep(30)")
        run.write(3)
        assert refreshed(tab, 8) == [10, 20, 30, 40, 50, 60, 70, 80]
        assert tab.step == 30
        assert tab.ask("app.selection()") == {"kind": "channel", "index": 5}
        assert tab.part("metric").input_value() == "cosine"
        tab.press("End")
        logged = Events(folder / "chosen").series("antiphon/channel/cosine")
        assert tab.step == 80
        assert tab.number("cosine") == pytest.approx(newest_mean(logged, 80)[5], rel=1e-6)
        run.write(1)
        refreshed(tab, 9)
        assert tab.step == 90


def test_refresh_renews_the_verdicts_of_a_step_that_was_measured_since(
    page: Page, served: tuple[Path, str]
) -> None:
    """What is measured follows the other metrics of its step: verdicts and numbers stay those of one moment."""
    folder, address = served
    with closing(Growing(folder / "measured")) as run:
        run.write(2)
        wait_for_runs(address, {"measured"})
        tab = Tab.alone(page, address, "measured")
        refreshed(tab, 2)
        tab.press("End")
        assert not tab.part("verdict-stale").count(), "counts of 0 are not shown beside others"
        run.measure("age", [*[1.0] * 8, 40.0])
        end = time.monotonic() + PATIENCE
        while not tab.part("verdict-stale").count() and time.monotonic() < end:
            tab.push("refresh")
            page.wait_for_timeout(300)
        assert tab.part("verdict-stale").inner_text() == "1 stale"


def test_seeds_that_run_one_after_another_are_read_as_one_as_they_come(
    page: Page, served: tuple[Path, str]
) -> None:
    """Also rows at steps that an earlier seed had long before."""
    folder, address = served
    with (
        closing(Growing(folder / "one-s0")) as first,
        closing(Growing(folder / "one-s1", seed=1)) as second,
    ):
        first.write(3)
        second.write(1)
        whole = "one · all seeds"
        wait_for_runs(address, {"one-s0", "one-s1", whole})
        tab = Tab.alone(page, address, whole)
        tab.choose("metric", "sg_loss")
        refreshed(tab, 3)
        tab.at(20)
        assert "9 of 9 channels, of 1 seed." in tab.part("legend").inner_text()
        second.write(2)
        end = time.monotonic() + PATIENCE
        while "mean of 2 seeds" not in tab.part("legend").inner_text() and time.monotonic() < end:
            tab.push("refresh")
            page.wait_for_timeout(300)
        assert tab.step == 20
        tab.select("channel", 4)
        logged = [
            Events(folder / f"one-s{seed}").series("antiphon/channel/sg_loss")[20][4] for seed in (0, 1)
        ]
        assert tab.number("sg_loss") == pytest.approx(sum(logged) / 2, rel=1e-6)
