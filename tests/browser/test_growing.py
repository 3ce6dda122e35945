"""A run that is still being written."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry import Figure
from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.served import PATIENCE, fetched, tensorboard, wait_for_runs
from tests.browser.tab import Tab
from tests.telemetry.parts import made

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

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


@pytest.fixture(scope="module")
def served(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and where TensorBoard shows its runs; each test has a run of its own."""
    folder = tmp_path_factory.mktemp("growing")
    with tensorboard(folder) as address:
        yield folder, address


def refreshed(tab: Tab, rows: int) -> list[int]:
    """Click Refresh until the slider has so many steps; TensorBoard looks for news every second.

    It may do so between two questions of one refresh; the next one has the news of all figures.
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
    """Selection, figure and step stay; a slider that was at its end goes with the run."""
    folder, address = served
    with closing(Growing(folder / "chosen")) as run:
        run.write(5)
        wait_for_runs(address, {"chosen"})
        tab = Tab.alone(page, address, "chosen")
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
        logged = Events(folder / "chosen").figure("antiphon/channel/cosine")
        assert tab.step == 80
        assert tab.number("cosine") == pytest.approx(logged[80][5], rel=1e-6)
        run.write(1)
        refreshed(tab, 9)
        assert tab.step == 90


def test_refresh_while_a_run_is_writing(page: Page, served: tuple[Path, str]) -> None:
    """Rows come all the time; a run that appears can be chosen, and no row is there twice or halfway."""
    folder, address = served
    with closing(Growing(folder / "writing")) as run:
        run.write(2)
        writer = threading.Thread(target=run.write, args=(40, 0.05))
        wait_for_runs(address, {"writing"})
        tab = Tab.alone(page, address, "writing")
        writer.start()
        tab.ask("app.select('channel', 3)")
        while writer.is_alive():
            tab.push("refresh")
            steps = tab.ask("app.steps()")
            assert steps == [10 * (row + 1) for row in range(len(steps))]
        writer.join()
        runs.write_foreign(folder / "foreign")
        runs.write_made(folder / "late", steps=(1, 10))
        assert len(refreshed(tab, 42)) == 42
        wait_for_runs(address, {"late"})
        tab.push("refresh")
        tab.choose("run", "late")
        assert refreshed(tab, 2) == [1, 10]
    logged = Events(folder / "writing").figure("antiphon/channel/sg_loss")
    assert len(logged) == 42


def test_refresh_of_a_run_that_was_resumed_drops_the_rows_it_lost(
    page: Page, served: tuple[Path, str]
) -> None:
    """Eight rows, then a session from the fifth on with other numbers: those are shown, also of rows seen before."""
    folder, address = served
    first = Growing(folder / "resumed")
    first.write(8)
    first.close()
    wait_for_runs(address, {"resumed"})
    tab = Tab.alone(page, address, "resumed")
    assert len(refreshed(tab, 8)) == 8
    tab.choose("figure", "cosine")
    tab.ask("app.select('channel', 5)")
    second = Growing(folder / "resumed", rows=5, seed=1)
    second.write(4)
    second.close()
    assert refreshed(tab, 9) == [10 * (row + 1) for row in range(9)]
    for step, seed in ((50, 0), (60, 1), (80, 1), (90, 1)):
        rows = runs.figures(list(runs.AGENTS), NAMES, step, seed=seed)
        (logged,) = (row.value for row in rows if row.name == NAMES[5] and row.metric == "cosine")
        tab.at(step)
        assert tab.number("cosine") == pytest.approx(logged, rel=1e-6), step


def test_a_session_that_begins_while_rows_are_fetched_is_seen(page: Page, served: tuple[Path, str]) -> None:
    """The catalog of before, then the rows of after: what was shown of the rows that were taken back is not kept."""
    folder, address = served
    first = Growing(folder / "between")
    first.write(8)
    first.close()
    wait_for_runs(address, {"between"})
    tab = Tab.alone(page, address, "between")
    assert len(refreshed(tab, 8)) == 8
    tab.choose("figure", "cosine")
    tab.ask("app.select('channel', 5)")
    catalogs: list[str] = []
    rows = f"{address}/data/plugin/antiphon/figure?run=between&kind=channel&metric=cosine"
    size = len(fetched(rows))

    def outdated(route: Route) -> None:
        """Answer the first question after the refresh as before the session, and let the session begin."""
        answer = route.fetch()
        catalogs.append(answer.text())
        if len(catalogs) == 1:
            second = Growing(folder / "between", rows=5, seed=1)
            second.write(4)
            second.close()
            end = time.monotonic() + PATIENCE
            while len(fetched(rows)) <= size and time.monotonic() < end:
                time.sleep(0.2)
        route.fulfill(response=answer, body=catalogs[-1])

    page.route("**/plugin/antiphon/catalog*", outdated)
    tab.push("refresh")
    page.unroute("**/plugin/antiphon/catalog*")
    assert len(catalogs) > 1
    assert tab.ask("app.steps()") == [10 * (row + 1) for row in range(9)]
    sixth = runs.figures(list(runs.AGENTS), NAMES, 60, seed=1)
    (logged,) = (row.value for row in sixth if row.name == NAMES[5] and row.metric == "cosine")
    tab.at(60)
    assert tab.number("cosine") == pytest.approx(logged, rel=1e-6)


def test_a_part_that_goes_and_comes_back_while_the_run_waits_for_it(
    page: Page, served: tuple[Path, str]
) -> None:
    """Its rows are of one step; the newest counts, and so does the machine where it was started again."""
    folder, address = served

    def note(text: str) -> Locator:
        end = time.monotonic() + PATIENCE
        while not tab.frame.get_by_text(text).is_visible() and time.monotonic() < end:
            tab.push("refresh")
            page.wait_for_timeout(300)
        return tab.frame.get_by_text(text)

    recorder = TensorBoardRecorder(folder / "waiting")
    with closing(recorder):
        recorder.begin(made.description())
        for step in (10, 20):
            recorder.figures(step, [Figure("agent", "a", "loss", 1.0)])
            recorder.parts(step, made.rows(step))
        wait_for_runs(address, {"waiting"})
        tab = Tab.alone(page, address, "waiting")
        tab.press("a")
        assert tab.part("part-2-restarts").inner_text() == "0"
        recorder.parts(20, [*made.rows(20)[:2], made.part(2, 20, alive=False, heartbeat_age=4.0)])
        assert note("Gone: part 2 (node-3), last heartbeat 4 s ago.").is_visible()
        recorder.parts(20, [*made.rows(20)[:2], made.part(2, 20, machine="spare", incarnation=1)])
        assert note("spare").is_visible()
        assert tab.part("part-2-restarts").inner_text() == "1"
        assert not tab.frame.get_by_text("Gone:").is_visible()
        assert tab.ask("app.steps()") == [10, 20]


def test_tensorboards_own_reload_button_refreshes_the_tab(page: Page, served: tuple[Path, str]) -> None:
    """It tells the tab, which then asks for what is new."""
    folder, address = served
    with closing(Growing(folder / "reloaded")) as run:
        run.write(3)
        wait_for_runs(address, {"reloaded"})
        page.goto(f"{address}/#antiphon")
        tab = Tab.inside(page)
        tab.choose("run", "reloaded")
        run.write(2)
        end = time.monotonic() + PATIENCE
        while len(tab.ask("app.steps()")) < 5 and time.monotonic() < end:
            page.locator(".reload-button").click()
            page.wait_for_timeout(700)
            tab.idle()
        assert tab.ask("app.steps()") == [10, 20, 30, 40, 50]
