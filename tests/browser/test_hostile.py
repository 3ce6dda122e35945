"""Names that would be markup, script, a formula or a path: they are shown as they are, and nothing comes of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.browser import runs
from tests.browser.tab import Tab
from tests.some import some

if TYPE_CHECKING:
    from playwright.sync_api import Page

_ELEMENTS = (
    "document.querySelectorAll('img, [onerror], [src=x], iframe, object, embed, a[href^=javascript]').length"
)


def test_hostile_names_are_shown_as_text(page: Page, address: str) -> None:
    """Of run, scenario, agents, channels, figures and facts, in every view; the fixtures see to dialogs and requests."""
    tab = Tab.alone(page, address, runs.HOSTILE_RUN)
    scripts = tab.frame.evaluate("document.scripts.length")
    option = tab.part("run").locator("option:checked")
    assert runs.HOSTILE_RUN in option.inner_text()
    for kind, names in (
        ("agent", runs.HOSTILE),
        ("channel", [f"{one}->{other}" for one, other in itertools.pairwise(runs.HOSTILE)]),
    ):
        for index, name in enumerate(names):
            tab.select(kind, index)
            assert tab.title == name
            assert squeezed(name).replace("->", "") in squeezed(tab.part("panel-title").inner_text()).replace(
                "→", ""
            )
    tab.select("agent", 0)
    panel = squeezed(tab.part("panel").text_content() or "")
    assert squeezed(runs.HOSTILE[1]) in panel
    assert squeezed(runs.HOSTILE[2]) in panel
    for view in ("matrix", "timeline", "graph"):
        tab.push(f"view-{view}")
        place = some(tab.part("stage").bounding_box())
        for share in (0.3, 0.5, 0.7):  # whatever is said about what the pointer is over
            page.mouse.move(place["x"] + share * place["width"], place["y"] + share * place["height"])
            page.wait_for_timeout(60)
        assert tab.frame.evaluate(_ELEMENTS) == 0
    tab.fill("search", runs.HOSTILE[0])
    assert tab.ask("app.matches('agent', 0)")
    assert tab.frame.evaluate(_ELEMENTS) == 0
    assert tab.frame.evaluate("document.scripts.length") == scripts


def squeezed(text: str) -> str:
    """Return a text without white space, which a page may fold."""
    return "".join(text.split())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_two_hostile_runs_beside_one_another(tab: Tab, theme: str) -> None:
    """The same run on both sides, in either theme."""
    if theme == "dark":
        tab.part("theme").click()
    tab.choose("beside", runs.HOSTILE_RUN)
    tab.select("agent", 0)
    assert tab.frame.evaluate(_ELEMENTS) == 0
