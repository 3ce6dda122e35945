"""Graph, matrix, table and timeline: what they show are the logged numbers, and what is clicked tells them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.browser import runs
from tests.browser.numbers import Events, place_on_cividis
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long

CHANNEL = "antiphon/channel"
NAMES = [runs.channel_name(channel) for channel in runs.CHANNELS]


@pytest.fixture(scope="module")
def events(logdir: Path) -> Events:
    """What is on disk of that run."""
    return Events(logdir / "made")


def test_a_click_on_a_channel_shows_the_numbers_of_the_event_file(tab: Tab, events: Events) -> None:
    """Of parallel channels each, and at the step of the slider."""
    for index in (0, 1, 2, 7, 8):
        tab.click("channel", index)
        assert tab.title == NAMES[index]
        for step in (10, 100):
            tab.at(step)
            for metric in ("sg_loss", "cosine", "age", "peculiarity"):
                logged = events.series(f"{CHANNEL}/{metric}")[step][index]
                assert tab.number(metric) == pytest.approx(logged, rel=1e-6), (index, step, metric)


def test_a_click_on_an_agent_shows_it_and_its_channels(tab: Tab, events: Events) -> None:
    tab.click("agent", 4)
    assert tab.title == "mind"
    assert tab.number("loss") == pytest.approx(events.series("antiphon/agent/loss")[100][4], rel=1e-6)
    panel = tab.part("panel").inner_text()
    for words in ("classification of label", "left", "middle", "right", "slow", "second"):
        assert words in panel


def test_the_colours_of_cells_are_the_logged_numbers(tab: Tab, events: Events) -> None:
    """On matplotlib's cividis, the colours of all steps lie on one straight line over the numbers; parallel channels share a cell."""
    tab.choose("metric", "sg_loss")
    tab.push("view-matrix")
    rows = events.series(f"{CHANNEL}/sg_loss")
    everything = np.stack(list(rows.values()))
    low, high = everything.min(), np.quantile(everything, 0.98)
    wanted, shown = [], []
    for step in (1, 50, 100):
        tab.at(step)
        for index in range(2, 9):
            red, green, blue = map(int, tab.pixels(tab.point("channel", index), 1)[0, 0])
            place, distance = place_on_cividis((red, green, blue))
            assert distance <= 6
            wanted.append(float(np.clip((rows[step][index] - low) / (high - low), 0, 1)))
            shown.append(place)
    slope, base = np.polyfit(wanted, shown, 1)
    assert slope < -0.6
    assert np.abs(slope * np.array(wanted) + base - shown).max() < 0.03
    places = {name: tab.point("channel", index) for index, name in enumerate(NAMES)}
    assert places["left->mind"][1] == places["left->slow"][1]  # a row per sender
    assert places["left->mind"][0] == places["slow->mind"][0]  # a column per receiver
    assert places["left->mind"] == places["left->mind:again"]
    tab.click("channel", 7)
    assert tab.title == NAMES[7]


@pytest.mark.nightly
def test_the_matrix_shows_a_thousand_agents_and_finds_the_channel_of_a_cell(
    page: Page, address: str, logdir: Path
) -> None:
    tab = Tab.alone(page, address, "large")
    assert tab.part("view-matrix").get_attribute("aria-selected") == "true"
    graph = Events(logdir / "large").document("antiphon/graph")
    for index in (0, 1234, 3999):
        tab.click("channel", index)
        # A cell is smaller than a pixel here: a neighbour is meant where it lies under the pointer.
        (chosen,) = (channel for channel in graph["channels"] if channel["name"] == tab.title)
        assert all(abs(chosen[end] - graph["channels"][index][end]) <= 4 for end in ("from", "to"))


def test_the_table_is_sorted_by_what_is_shown_and_by_the_heading_that_is_clicked(
    tab: Tab, events: Events
) -> None:
    tab.choose("metric", "sg_loss")
    tab.push("view-table")

    def column(metric: str) -> list[float]:
        cells = tab.part("channels").locator(f"td[data-metric={metric}]")
        return [
            float(value or "nan")
            for value in cells.evaluate_all("all => all.map((one) => one.dataset.value)")
        ]

    logged = events.series(f"{CHANNEL}/sg_loss")[100]
    assert column("sg_loss") == pytest.approx(sorted(logged, reverse=True), rel=1e-6)
    tab.part("channels").get_by_role("columnheader", name="cosine").click()
    assert all(one >= other for one, other in itertools.pairwise(column("cosine")[:-1]))
    assert np.isnan(column("cosine")[-1])
    tab.press("Home")
    assert all(one >= other for one, other in itertools.pairwise(column("cosine")[:-1])), "the order stays"
    row = tab.part("channels").locator("tbody tr").first
    name = row.locator("th").inner_text()
    row.click()
    tab.idle()
    assert tab.title == name


def test_the_timeline_is_the_logged_one(page: Page, address: str, logdir: Path) -> None:
    tab = Tab.alone(page, address, "real")
    tab.push("view-timeline")
    shown = tab.part("timeline").inner_text().splitlines()
    assert shown == Events(logdir / "real").document("antiphon/timeline")["lines"]
    assert len(shown) > 4
