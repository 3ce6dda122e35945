"""Keys, the field that finds, the row of controls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import runs
from tests.browser.numbers import Events
from tests.browser.tab import Tab
from tests.kit.some import some

pytestmark = pytest.mark.long

CONTROLS = (
    *("run", "beside", "metric", "ring", "view-graph", "view-matrix", "view-timeline", "filter", "theme"),
    *("refresh", "play", "slider", "step", "counts"),
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


def test_space_plays_and_stops(tab: Tab) -> None:
    """From the first row on, by itself."""
    tab.press("Home")
    tab.page.keyboard.press("Space")
    tab.frame.wait_for_function("document.querySelector('[data-antiphon]').antiphon.step() >= 20")
    tab.page.keyboard.press("Space")
    stopped = tab.step
    tab.page.wait_for_timeout(700)
    assert tab.step == stopped


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


def test_a_filter_leaves_what_it_says(tab: Tab, logdir: Path) -> None:
    """By coupling, by role, and by a metric at the step that is shown."""
    logged = Events(logdir / "made").series("antiphon/channel/sg_loss")
    couplings = [attributes["coupling"] for *_, attributes in runs.CHANNELS]
    tab.fill("filter", "coupling:decoupled")
    assert left(tab, "channel", 9) == [coupling == "decoupled" for coupling in couplings]
    tab.fill("filter", "coupling:decoupled sg_loss>0.3")
    for step in (100, 1):
        tab.at(step)
        wanted = [c == "decoupled" and v > 0.3 for c, v in zip(couplings, logged[step], strict=True)]
        assert left(tab, "channel", 9) == wanted
        assert f"{sum(wanted)} of 9 channels" in tab.part("counts").inner_text()
    found = {
        "metric>0.3": logged[1] > 0.3,
        "from:left": [channel[0] == "left" for channel in runs.CHANNELS],
        "to:slow drop>0": [channel[1] == "slow" and "drop" in channel[3] for channel in runs.CHANNELS],
        "delay:2": [channel[3].get("delay") == 2 for channel in runs.CHANNELS],
        "RIGHT->mind": [index == 5 for index in range(9)],
        '"left->mind:again"': [index == 1 for index in range(9)],
    }
    tab.choose("metric", "sg_loss")
    for words, expected in found.items():
        tab.fill("filter", words)
        assert left(tab, "channel", 9) == list(expected), words
    tab.part("filter").press("Enter")
    tab.idle()
    assert tab.ask("app.selection()") == {"kind": "channel", "index": 1}
    wrong = {
        "figure>0.3": "no field or metric figure; ? lists what Find accepts",
        "sg_los>0.3": "no field or metric sg_los; did you mean sg_loss?",
        "copling:decoupled": "no field or metric copling; did you mean coupling?",
        "sg_loss>much": "sg_loss takes a number, not much",
        "delay:two": "delay takes a number, not two",
        "verdict:hams": "no verdict hams; did you mean harms?",
    }
    for words, error in wrong.items():
        tab.fill("filter", words)
        assert tab.part("filter-error").inner_text() == error
        assert all(left(tab, "channel", 9)), words
    nothing = {
        "coupling:decopled": "no coupling decopled; did you mean decoupled?",
        "coupling:none": "no coupling none; the run has decoupled, delayed, detached, locked",
        "delay:9": "no delay 9; the run has 0, 1, 2, 3",
        "from:letf": "no channel from letf; did you mean left?",
        "part:1": "part: the run is not divided into parts",
        "midle": "no name contains midle; did you mean middle?",
    }
    for words, error in nothing.items():
        tab.fill("filter", words)
        assert tab.part("filter-error").inner_text() == error
        assert not any(left(tab, "channel", 9)), words
    tab.fill("filter", "role:readout")
    assert not tab.part("filter-error").is_visible()
    assert left(tab, "agent", 6) == [each.get("role") == "readout" for each in runs.AGENTS.values()]


def left(tab: Tab, kind: str, count: int) -> list[bool]:
    """Return what is found."""
    return [bool(tab.ask("app.matches(...a)", kind, index)) for index in range(count)]


def test_everything_has_its_place_at_1280_pixels(tab: Tab) -> None:
    """No control is outside of the window or cut; with the panel open too."""
    for selected in (False, True):
        if selected:
            tab.click("agentPoint", 4)
        assert tab.frame.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert tab.frame.evaluate("document.documentElement.scrollHeight <= innerHeight")
        for name in CONTROLS:
            box = some(tab.part(name).first.bounding_box())
            assert 0 <= box["x"] < box["x"] + box["width"] <= 1280, name
            assert 0 <= box["y"] < box["y"] + box["height"] <= 800, name


def test_every_control_has_a_name_for_those_who_cannot_see_it(tab: Tab) -> None:
    """Text, a label, or an aria-label; and the stage says what it shows."""
    nameless = tab.frame.evaluate(
        """() => [...document.querySelectorAll("button, select, input")].filter((node) => node.offsetParent &&
             !node.textContent.trim() && !node.getAttribute("aria-label") && !node.labels?.length && !node.title)
             .map((node) => node.outerHTML)"""
    )
    assert nameless == []
