"""Names that would be markup, script, a formula or a path: they are shown as they are, and nothing comes of them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from tests.browser import runs
from tests.browser.tab import Tab
from tests.kit.some import some

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long

_ELEMENTS = (
    "document.querySelectorAll('img, [onerror], [src=x], iframe, object, embed, a[href^=javascript]').length"
)


def test_hostile_names_are_shown_as_text(page: Page, address: str) -> None:
    """Of run, scenario, agents, channels, metrics and facts, in every view; the fixtures see to dialogs and requests."""
    tab = Tab.alone(page, address, runs.HOSTILE_RUN)
    scripts = tab.frame.evaluate("document.scripts.length")
    assert runs.HOSTILE_RUN in tab.part("run").locator("option:checked").inner_text()
    channels = [f"{one}->{other}" for one, other in itertools.pairwise(runs.HOSTILE)]
    for kind, names in (("agent", runs.HOSTILE), ("channel", channels)):
        for index, name in enumerate(names):
            tab.click(kind, index)
            assert tab.title == name
    tab.click("agent", 0)
    panel = "".join((tab.part("panel").text_content() or "").split())
    assert "".join(runs.HOSTILE[1].split()) in panel
    assert "".join(runs.HOSTILE[2].split()) in panel
    for view in ("matrix", "table", "timeline", "graph"):
        tab.push(f"view-{view}")
        place = some(tab.part("stage").bounding_box())
        for share in (0.3, 0.5, 0.7):  # whatever is said about what the pointer is over
            page.mouse.move(place["x"] + share * place["width"], place["y"] + share * place["height"])
            page.wait_for_timeout(60)
        assert tab.frame.evaluate(_ELEMENTS) == 0
    assert tab.frame.evaluate("document.scripts.length") == scripts
