"""The graph: its colours are the logged numbers, and what is clicked tells them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import runs
from tests.browser.numbers import Colour, Events, apart, newest_mean, place_on_cividis
from tests.browser.tab import Tab

pytestmark = pytest.mark.long

CHANNEL = "antiphon/channel"


@pytest.fixture(scope="module")
def events(logdir: Path) -> Events:
    """What is on disk of that run."""
    return Events(logdir / "made")


def shares(rows: dict[int, Any], step: int) -> np.ndarray[Any, Any]:
    """Return where the numbers of a step lie between the lowest and the highest of the run."""
    everything = np.stack(list(rows.values()))
    low, high = np.nanmin(everything), np.nanmax(everything)
    return (rows[step] - low) / (high - low)


@pytest.mark.parametrize(
    ("kind", "metric"), [("channel", "sg_loss"), ("channel", "peculiarity"), ("agent", "loss")]
)
def test_the_slider_changes_the_colours_to_the_logged_numbers(
    tab: Tab, events: Events, kind: str, metric: str
) -> None:
    """On matplotlib's cividis, all colours of all steps lie on one straight line over the numbers."""
    tab.choose("metric" if kind == "channel" else "ring", metric)
    rows = events.series(f"antiphon/{kind}/{metric}")
    tab.part("slider").focus()
    tab.press("Home")
    wanted, shown = [], []
    for index, step in enumerate(runs.STEPS):
        if index:
            tab.press("ArrowRight")
        assert tab.step == step
        wanted += shares(rows, step).tolist()
        for colour in tab.colours(kind):
            place, distance = place_on_cividis(colour)
            assert distance <= 6, f"{colour} is not of the scale"
            shown.append(place)
    slope, base = np.polyfit(wanted, shown, 1)
    assert abs(slope) > 0.6
    assert np.abs(slope * np.array(wanted) + base - shown).max() < 0.03


def test_a_diverging_metric_is_orange_below_zero_where_it_harms_and_blue_above(
    tab: Tab, events: Events
) -> None:
    """By the mean of the newest log entries; a channel without the metric has a colour of its own, always the same."""
    tab.choose("metric", "cosine")
    nothing = set()
    for step in (1, 50, 100):
        tab.at(step)
        colours, numbers = tab.colours(), newest_mean(events.series(f"{CHANNEL}/cosine"), step)
        for index, (colour, number) in enumerate(zip(colours, numbers, strict=True)):
            red, _, blue = colour
            if index == runs.WITHOUT_COSINE:
                nothing.add(colour)
            elif abs(number) > 0.2:
                assert (red > blue) == (number < 0), (step, index, number, colour)
        for sign in (-1, 1):  # the further from zero, the further from grey
            same = [index for index in np.argsort(sign * numbers) if sign * numbers[index] > 0]
            far = [apart(colours[index], (160, 160, 160)) for index in same]
            assert all(one <= other + 6 for one, other in itertools.pairwise(far)), (step, sign, far)
    scale = tab.ask("app.scale()")
    assert scale["scale"] == "diverging"
    assert scale["low"] == -scale["high"]
    (colour,) = nothing
    assert max(colour) - min(colour) < 40  # a grey


def test_a_click_on_a_channel_shows_the_numbers_of_the_event_file(tab: Tab, events: Events) -> None:
    """Of parallel channels each, and at the step of the slider."""
    metrics = ("sg_loss", "cosine", "message_energy", "age", "lost", "peculiarity")
    for index in (0, 1, 2, 7, 8):
        tab.click("edgePoint", index)
        assert tab.title == runs.channel_name(runs.CHANNELS[index])
        assert tab.ask("app.selection()") == {"kind": "channel", "index": index}
        for step in (10, 100):
            tab.at(step)
            for metric in metrics:
                series = events.series(f"{CHANNEL}/{metric}")
                logged = (newest_mean(series, step) if metric == "cosine" else series[step])[index]
                assert tab.number(metric) == pytest.approx(logged, rel=1e-6), (index, step, metric)


def test_a_click_on_an_agent_shows_it_and_its_channels(tab: Tab, events: Events) -> None:
    """Its loss, what is known of it, whom it hears."""
    tab.click("agentPoint", 4)
    assert tab.title == "mind"
    assert tab.number("loss") == pytest.approx(events.series("antiphon/agent/loss")[100][4], rel=1e-6)
    panel = tab.part("panel").inner_text()
    assert "classification of label" in panel
    for name in ("left", "middle", "right", "slow", "second"):
        assert name in panel


def test_lines_are_as_wide_as_messages_are_strong_and_dashed_by_delay_and_loss(
    tab: Tab, events: Events
) -> None:
    """`peculiarity` gives each channel its colour."""
    tab.choose("metric", "peculiarity")
    colours = tab.colours()
    by_colour: dict[Colour, tuple[float, tuple[float, ...]]] = {}
    for colour, width, dashes in tab.drawn()[0]:  # lines come before rings, which may have the same colour
        by_colour.setdefault(colour, (width, dashes))
    lines = [by_colour[colour] for colour in colours]
    energy = events.series(f"{CHANNEL}/message_energy")[100]
    widths = [lines[index][0] for index in np.argsort(energy)]
    assert widths == sorted(widths)
    assert widths[-1] > 1.5 * widths[0]
    looks: dict[tuple[int, bool], set[tuple[float, ...]]] = {}
    for (_, dashes), (_, _, _, attributes) in zip(lines, runs.CHANNELS, strict=True):
        look = (int(attributes.get("delay", 0)), "drop" in attributes)
        looks.setdefault(look, set()).add(dashes)
    assert looks[0, False] == {()}
    assert all(len(each) == 1 for each in looks.values())
    assert len(set.union(*looks.values())) == len(looks)  # each look is told from the others


def test_a_run_of_two_beside_one_another_shares_slider_and_scale(tab: Tab, logdir: Path) -> None:
    """The other's losses are three times as high: the same number has the same colour on both sides."""
    tab.choose("metric", "sg_loss")
    tab.choose("beside", "other/seed1")
    assert tab.part("stage").is_visible()
    assert tab.part("stage-beside").is_visible()
    found = [Events(logdir / run).series(f"{CHANNEL}/sg_loss") for run in ("made", "other/seed1")]
    everything = np.concatenate([np.stack(list(rows.values())) for rows in found])
    low, high = everything.min(), everything.max()
    scale = tab.ask("app.scale()")
    assert scale["low"] <= low + 1e-6
    assert scale["high"] >= high - 1e-6
    wanted, shown = [], []
    for step in (1, 60):
        tab.at(step)
        for side, rows in enumerate(found):
            colours = tab.colours(side=side)
            wanted += ((rows[step] - low) / (high - low)).tolist()
            shown += [place_on_cividis(colour)[0] for colour in colours]
            for index in (0, 5):
                assert tab.is_drawn(colours[index], tab.point("edgePoint", index, side))
    slope, base = np.polyfit(wanted, shown, 1)
    assert np.abs(slope * np.array(wanted) + base - shown).max() < 0.03
    tab.click("edgePoint", 5, 1)
    assert tab.title == "right->mind"
    assert tab.number("sg_loss") == pytest.approx(found[0][60][5], rel=1e-6)
    assert tab.number("sg_loss", beside=True) == pytest.approx(found[1][60][5], rel=1e-6)
    tab.choose("beside", "")
    assert not tab.part("stage-beside").is_visible()
