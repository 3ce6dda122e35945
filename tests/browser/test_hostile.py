"""Names that would be markup, script, a formula or a path: they are shown as they are, and nothing comes of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser import runs
from tests.browser.served import Watch, tensorboard, wait_for_runs
from tests.browser.tab import Tab
from tests.kit.some import some
from tests.telemetry.tab.writing import graph, rows, write

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
    tab.fill("filter", f'"{runs.HOSTILE[0]}"')
    assert tab.ask("app.matches('agent', 0)")
    assert tab.frame.evaluate(_ELEMENTS) == 0
    assert tab.frame.evaluate("document.scripts.length") == scripts


def squeezed(text: str) -> str:
    """Return a text without white space, which a page may fold."""
    return "".join(text.split())


MARKUP = runs.HOSTILE[0]


def everywhere(document: Any, value: Any) -> Any:
    """Return a document with a value in the place of every text and number but names and the ends of channels."""
    if isinstance(document, dict):
        kept = ("name", "from", "to", "format")
        return {key: item if key in kept else everywhere(item, value) for key, item in document.items()}
    if isinstance(document, list):
        return [everywhere(item, value) for item in document]
    return value


VALUES: dict[str, Any] = {
    "markup": MARKUP,
    "object": {"toString": MARKUP, "__proto__": {"innerHTML": MARKUP}},
    "number": 1e300,
}
"""What stands everywhere in the documents of a run, by the run's name."""


@pytest.fixture(scope="module")
def hostile_address(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where TensorBoard shows runs whose documents hold, in all their fields, what does not belong there."""
    folder = tmp_path_factory.mktemp("hostile")
    about = {"about": {"network": "mlp", MARKUP: "x"}, "role": "agent", "period": 1}
    for name, value in VALUES.items():
        whole = graph(("a", "b"), until=3, batch=4, seed=0, by_timescale=False)
        whole["agents"] = [{**agent, **about} for agent in whole["agents"]]
        whole["figures"] = {
            "agent": {"loss": {"title": "x", "unit": "y"}},
            "channel": {"age": {"title": "x"}},
        }
        times = {
            "start": 0,
            "steps": 3,
            "episode_ends": [1],
            "agents": [{"ticks": [0]}] * 2,
            "channels": [{}, {}],
        }
        timeline = everywhere(times, value)
        write(folder / name, rows([1, 2, 3]), document=everywhere(whole, value), timeline=timeline)
    with tensorboard(folder) as found:
        wait_for_runs(found, set(VALUES))
        yield found


@pytest.mark.parametrize("name", VALUES)
def test_documents_with_hostile_values_run_nothing(
    page: Page, watch: Watch, hostile_address: str, name: str
) -> None:
    """Nothing of them becomes an element, a dialog or a request; a document that cannot be drawn may be refused, or an error of the page."""
    watch.allowed += ["script: ", "status of 500"]
    page.goto(f"{hostile_address}/data/plugin_entry.html?name=antiphon")
    page.wait_for_selector("[data-testid=run]")
    scripts = page.evaluate("document.scripts.length")
    page.get_by_test_id("run").select_option(name)
    page.wait_for_timeout(400)
    for view in ("matrix", "timeline", "graph"):
        page.evaluate(f"document.querySelector('[data-testid=view-{view}]')?.click()")
        page.wait_for_timeout(150)
        assert page.evaluate(_ELEMENTS) == 0
    assert page.evaluate("document.scripts.length") == scripts
    assert page.evaluate("({}).innerHTML") is None  # no prototype was changed
