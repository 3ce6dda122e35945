"""Keys, the field that finds, the row of controls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.tab import Tab
from tests.some import some

CONTROLS = (
    "run",
    "beside",
    "figure",
    "ring",
    "view-graph",
    "view-matrix",
    "view-timeline",
    "filter",
    "theme",
    "refresh",
    "play",
    "slider",
    "step",
    "counts",
)


def test_arrows_go_from_row_to_row(tab: Tab) -> None:
    """With nothing clicked before; Home and End go to the first row and the last."""
    tab.press("Home")
    assert tab.step == runs.STEPS[0]
    tab.press("ArrowRight", "ArrowRight")
    assert tab.step == runs.STEPS[2]
    tab.press("ArrowLeft")
    assert tab.step == runs.STEPS[1]
    assert tab.part("step").inner_text().strip().endswith("10")
    tab.press("End", "ArrowRight")
    assert tab.step == runs.STEPS[-1]


def test_the_slider_is_moved_with_the_mouse(tab: Tab) -> None:
    """Pressed at its end, drawn to its start, let go in the middle."""
    found = some(tab.part("slider").bounding_box())
    middle = found["y"] + found["height"] / 2
    tab.page.mouse.move(found["x"] + found["width"] - 8, middle)
    tab.page.mouse.down()
    assert tab.step == 100
    tab.page.mouse.move(found["x"] + 2, middle, steps=4)
    assert tab.step == 1
    tab.page.mouse.move(found["x"] + found["width"] / 2, middle, steps=4)
    tab.page.mouse.up()
    assert tab.step == 50


def test_letters_choose_views_agents_and_channels(tab: Tab) -> None:
    """G, M and T; N and J for the next agent and the next channel, P and K for the one before."""
    for key, view in (("m", "matrix"), ("t", "timeline"), ("g", "graph")):
        tab.press(key)
        chosen = [one for one in ("graph", "matrix", "timeline") if pressed(tab, one)]
        assert chosen == [view]
    tab.press("j", "j")
    assert tab.ask("app.selection()") == {"kind": "channel", "index": 1}
    tab.press("k")
    assert tab.ask("app.selection()") == {"kind": "channel", "index": 0}
    tab.press("n")
    assert tab.ask("app.selection()") == {"kind": "agent", "index": 0}
    tab.press("p")
    assert tab.ask("app.selection()") == {"kind": "agent", "index": 5}


def pressed(tab: Tab, view: str) -> bool:
    """Return whether a view is marked as the one that is shown."""
    return tab.part(f"view-{view}").get_attribute("aria-selected") == "true"


def test_help_opens_and_closes_and_keeps_keys_to_itself(tab: Tab) -> None:
    """By its key; Escape closes it and nothing else."""
    tab.ask("app.select('agent', 0)")
    tab.page.keyboard.press("?")
    dialog = tab.frame.get_by_role("dialog")
    assert dialog.is_visible()
    tab.page.keyboard.press("ArrowLeft")
    tab.page.keyboard.press("Escape")
    tab.idle()
    assert not dialog.is_visible()
    assert tab.step == 100
    assert tab.ask("app.selection()") == {"kind": "agent", "index": 0}


def test_space_plays_and_stops(tab: Tab) -> None:
    """From the first row on, by itself."""
    tab.press("Home")
    tab.page.keyboard.press("Space")
    tab.frame.wait_for_function("document.querySelector('[data-antiphon]').antiphon.step() >= 20")
    tab.page.keyboard.press("Space")
    stopped = tab.step
    tab.page.wait_for_timeout(700)
    assert tab.step == stopped


def test_play_stops_at_the_last_row(tab: Tab) -> None:
    """By the button; at the end it begins again."""
    tab.press("End")
    tab.part("play").click()
    tab.frame.wait_for_function("document.querySelector('[data-antiphon]').antiphon.step() < 100")
    tab.frame.wait_for_function("document.querySelector('[data-antiphon]').antiphon.step() === 100")
    tab.page.wait_for_timeout(400)
    assert tab.step == 100


def test_a_slash_goes_to_the_field_and_escape_empties_it(tab: Tab) -> None:
    """What is typed there is a name, no shortcut."""
    tab.press("Home")
    tab.page.keyboard.press("/")
    assert tab.part("filter").evaluate("(node) => node.ownerDocument.activeElement === node")
    tab.page.keyboard.type("slow ")
    tab.idle()
    assert tab.step == runs.STEPS[0]  # the space did not play
    assert left(tab, "agent", 6) == [name == "slow" for name in runs.AGENTS]
    tab.press("Escape")
    assert tab.part("filter").input_value() == ""
    assert all(left(tab, "agent", 6))


def test_names_are_found_and_the_first_is_selected(tab: Tab) -> None:
    """By any part of the name, in any case; agents come before channels."""
    for asked, selected in (
        ("RIGHT->mind", ("channel", 5)),
        ("right", ("agent", 1)),
        ("SLOW delay:1", ("agent", 3)),
    ):
        tab.fill("filter", asked)
        tab.part("filter").press("Enter")
        tab.idle()
        assert tab.ask("app.selection()") == {"kind": selected[0], "index": selected[1]}
    tab.fill("filter", "RIGHT->mind")
    assert left(tab, "channel", 9) == [index == 5 for index in range(9)]
    tab.fill("filter", '"left->mind:again"')
    assert left(tab, "channel", 9) == [index == 1 for index in range(9)]


def test_what_is_not_found_is_drawn_faintly(tab: Tab) -> None:
    """A channel that matches keeps its colour on the screen, another loses it."""
    tab.choose("figure", "sg_loss")
    tab.ask("app.setStep(1)")
    colours = tab.colours()
    tab.fill("filter", "right->mind")
    assert tab.is_drawn(colours[5], tab.point("edgePoint", 5))
    assert not tab.is_drawn(colours[3], tab.point("edgePoint", 3))


def test_a_filter_leaves_what_it_says(tab: Tab, logdir: Path) -> None:
    """By coupling, by role, and by a figure at the step that is shown."""
    logged = Events(logdir / "made").figure("antiphon/channel/sg_loss")
    couplings = [attributes["coupling"] for *_, attributes in runs.CHANNELS]
    tab.fill("filter", "coupling:decoupled")
    assert left(tab, "channel", 9) == [coupling == "decoupled" for coupling in couplings]
    tab.fill("filter", "coupling:decoupled sg_loss>0.3")
    for step in (100, 1):
        tab.at(step)
        wanted = [c == "decoupled" and v > 0.3 for c, v in zip(couplings, logged[step], strict=True)]
        assert left(tab, "channel", 9) == wanted
        assert f"{sum(wanted)} of 9 channels" in tab.part("counts").inner_text()
    tab.fill("filter", "role:readout")
    assert left(tab, "agent", 6) == [each.get("role") == "readout" for each in runs.AGENTS.values()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("sg_loss<0.3", lambda channel, loss: loss < 0.3),
        ("sg_loss<=0.3 sg_loss>=0.1", lambda channel, loss: 0.1 <= loss <= 0.3),
        ("figure>0.3", lambda channel, loss: loss > 0.3),
        ("from:left", lambda channel, loss: channel[0] == "left"),
        ("to:slow drop>0", lambda channel, loss: channel[1] == "slow" and "drop" in channel[3]),
        ("delay:2", lambda channel, loss: channel[3].get("delay") == 2),
    ],
)
def test_every_word_of_a_filter_means_what_the_help_says(
    tab: Tab, logdir: Path, words: str, wanted: Callable[[runs.Channel, float], bool]
) -> None:
    """At the newest step, with SG losses as the figure of the lines."""
    tab.choose("figure", "sg_loss")
    tab.fill("filter", words)
    losses = Events(logdir / "made").figure("antiphon/channel/sg_loss")[100]
    expected = [wanted(channel, loss) for channel, loss in zip(runs.CHANNELS, losses, strict=True)]
    assert 0 < sum(expected) < 9
    assert left(tab, "channel", 9) == expected


def test_a_filter_that_is_not_understood_is_said_so(tab: Tab) -> None:
    """And leaves everything."""
    for wrong in ("coupling:", "coupling<3", "sg_loss>much", "unheard>0"):
        tab.fill("filter", wrong)
        assert tab.part("filter-error").inner_text().strip(), wrong
        assert all(left(tab, "channel", 9)), wrong
    tab.fill("filter", "")
    assert not tab.part("filter-error").is_visible()


def left(tab: Tab, kind: str, count: int) -> list[bool]:
    """Return what is found."""
    return [bool(tab.ask("app.matches(...a)", kind, index)) for index in range(count)]


def test_escape_clears_the_selection(tab: Tab) -> None:
    """And closes the panel."""
    tab.click("agentPoint", 0)
    assert tab.part("panel-title").is_visible()
    tab.press("Escape")
    assert tab.ask("app.selection()") is None
    assert not tab.part("panel-title").is_visible()


def test_everything_has_its_place_at_1280_pixels(tab: Tab) -> None:
    """No control is outside of the window, cut, or under another; with the panel open too."""
    for selected in (False, True):
        if selected:
            tab.click("agentPoint", 4)
        assert tab.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.frame.evaluate("document.documentElement.scrollHeight <= innerHeight")
        boxes = {name: box(tab, name) for name in CONTROLS}
        for name, (left, top, right, bottom) in boxes.items():
            assert 0 <= left < right <= 1280, name
            assert 0 <= top < bottom <= 800, name
        names = list(boxes)
        for index, one in enumerate(names):
            for other in names[index + 1 :]:
                assert not overlap(boxes[one], boxes[other]), f"{one} and {other}"


def box(tab: Tab, name: str) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a control."""
    found = tab.part(name).first.bounding_box()
    assert found is not None, f"{name} is not there"
    return found["x"], found["y"], found["x"] + found["width"], found["y"] + found["height"]


def overlap(one: Any, other: Any) -> bool:
    """Return whether two boxes share more than a border."""
    return bool(
        min(one[2], other[2]) - max(one[0], other[0]) > 1
        and min(one[3], other[3]) - max(one[1], other[1]) > 1
    )


def test_every_control_has_a_name_for_those_who_cannot_see_it(tab: Tab) -> None:
    """Text, a label, or an aria-label; and the stage says what it shows."""
    nameless = tab.frame.evaluate(
        """() => [...document.querySelectorAll("button, select, input")].filter((node) => node.offsetParent &&
             !node.textContent.trim() && !node.getAttribute("aria-label") && !node.labels?.length && !node.title)
             .map((node) => node.outerHTML)"""
    )
    assert nameless == []
