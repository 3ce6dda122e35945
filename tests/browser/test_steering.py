"""Keys, the field that finds, the row of controls; a run that grows; a run in parts."""

from __future__ import annotations

import dataclasses
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from antiphon.telemetry.tensorboard import TensorBoardRecorder
from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.served import PATIENCE, tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long

NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]


def test_keys_move_play_and_choose_views(tab: Tab) -> None:
    tab.press("Home")
    assert tab.step == runs.STEPS[0]
    tab.press("ArrowRight", "ArrowRight", "ArrowLeft")
    assert tab.step == runs.STEPS[1]
    tab.press("End", "ArrowRight")
    assert tab.step == runs.STEPS[-1]
    for key, view in (("m", "matrix"), ("t", "table"), ("l", "timeline"), ("g", "graph")):
        tab.press(key)
        assert tab.part(f"view-{view}").get_attribute("aria-selected") == "true"
    tab.press("Home", "Space")
    tab.frame.wait_for_function("document.querySelector('[data-testid=step]').dataset.step >= 20")
    tab.press("Space")
    stopped = tab.step
    tab.page.wait_for_timeout(700)
    assert tab.step == stopped


def test_what_is_found_is_left_and_escape_empties_the_field(tab: Tab, logdir: Path) -> None:
    """By parts of names, couplings and roles, and by a metric at the step that is shown."""
    logged = Events(logdir / "made").series("antiphon/channel/sg_loss")
    loss = Events(logdir / "made").series("antiphon/agent/loss")
    decoupled = [channel[3]["coupling"] == "decoupled" for channel in runs.CHANNELS]
    readouts = [attributes.get("role") == "readout" for attributes in runs.AGENTS.values()]

    def left() -> tuple[int, int]:
        words = tab.part("counts").inner_text().split()
        return int(words[0]), int(words[4])

    tab.press("/")
    tab.page.keyboard.type("slow ")
    tab.idle()
    assert tab.step == runs.STEPS[-1], "what is typed there is a name, no shortcut"
    assert left() == (1, sum("slow" in name for name in NAMES))
    tab.fill("filter", "readout")
    assert left()[0] == sum(readouts)
    for step in (100, 1):
        tab.at(step)
        tab.fill("filter", "decoupled sg_loss>0.3")
        assert left()[1] == sum(c and v > 0.3 for c, v in zip(decoupled, logged[step], strict=True))
        tab.fill("filter", "loss<0.5")
        assert left()[0] == sum(loss[step] < 0.5)
    tab.fill("filter", "RIGHT->mind")
    tab.part("filter").press("Enter")
    tab.idle()
    assert tab.title == "right->mind"
    tab.press("Escape")
    assert tab.part("counts").inner_text() == "6 agents, 9 channels"


def test_refresh_shows_new_rows_and_keeps_what_was_chosen(page: Page, tmp_path: Path) -> None:
    """Selection, metric and step stay; a slider that was at its end goes with the run."""
    recorder = TensorBoardRecorder(tmp_path / "run")
    recorder.begin(dataclasses.replace(runs.description(runs.AGENTS, runs.CHANNELS), period=10))

    def write(*steps: int) -> None:
        for step in steps:
            recorder.metrics(step, runs.metrics(list(runs.AGENTS), NAMES, step))
        recorder.sync()

    def refreshed(tab: Tab, newest: int) -> None:
        end = time.monotonic() + PATIENCE
        while f" of {newest} " not in f"{tab.part('step').locator('..').inner_text()} ":
            assert time.monotonic() < end
            tab.page.wait_for_timeout(300)
            tab.push("refresh")

    with closing(recorder), tensorboard(tmp_path) as address:
        write(110, 120, 130)
        wait_for_runs(address, {"run"})
        tab = Tab.alone(page, address, "run")
        refreshed(tab, 130)
        tab.choose("metric", "cosine")
        tab.click("channel", 5)
        tab.at(120)
        write(140, 150)
        refreshed(tab, 150)
        assert (tab.step, tab.title) == (120, "right->mind")
        assert tab.part("metric").input_value() == "cosine"
        tab.press("End")
        logged = Events(tmp_path / "run").series("antiphon/channel/cosine")
        assert tab.number("cosine") == pytest.approx(logged[150][5], rel=1e-6)
        write(160)
        refreshed(tab, 160)
        assert tab.step == 160
        page.close()  # it goes on asking


def test_the_table_of_a_run_in_parts_has_what_each_computed_and_sent(page: Page, address: str) -> None:
    tab = Tab.alone(page, address, "parts")
    tab.push("view-table")
    tab.at(100)
    expected = {"steps_taken": ["100", "100", "50"], "computing": ["5", "5", "2.5"]}
    expected["bytes_sent"] = ["100 kB", "200 kB", "150 kB"]
    for metric, cells in expected.items():
        shown = tab.part("parts").locator(f"td[data-metric={metric}]")
        assert shown.all_inner_texts() == cells, metric
    rows = tab.part("parts").locator("tbody tr")
    machines = [rows.nth(part).locator("td").first.inner_text() for part in range(3)]
    assert machines == ["node-1", runs.HOSTILE[0], "node-3"]
