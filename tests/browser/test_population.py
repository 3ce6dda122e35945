"""A population: the drawing of its lineage, in the page's theme, and nothing that a drawing might want to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from antiphon.jobs.populations.lineage_figure import lineage_svg
from antiphon.jobs.populations.selection import Entry
from antiphon.scenarios.population_spec import PopulationSpec
from tests.browser import runs
from tests.browser.served import tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.long

HOSTILE = """<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9" onload="alert(1)"><script>alert(2)</script>
<image href="http://example.com/x.png"/><foreignObject><img xmlns="http://www.w3.org/1999/xhtml" src="x"/></foreignObject></svg>"""
BEST = (222, 126, 40)


@pytest.fixture(scope="module")
def populations(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where TensorBoard shows a population, one whose drawing is hostile, one without, and a run."""
    folder = tmp_path_factory.mktemp("populations")
    name = runs.HOSTILE[0]
    spec = PopulationSpec(population="it", scenario="digits-mlp", members=2, vary={name: [1.0, 2.0]})
    lineage = [Entry(5, n, 0, float(n), 0.0, {name: 1.0 + n}) for n in (0, 1)]
    runs.write_population(folder / "it", lineage_svg(lineage, spec, "accuracy"))
    runs.write_population(folder / "hostile", HOSTILE)
    runs.write_population(folder / "markup", runs.HOSTILE[0])
    runs.write_made(folder / "made")
    with tensorboard(folder) as found:
        wait_for_runs(found, {"it", "hostile", "markup", "made"})
        yield found


def test_the_lineage_is_drawn_in_the_theme_of_the_page(page: Page, populations: str) -> None:
    tab = Tab.alone(page, populations, "it")
    picture = tab.part("lineage")
    picture.evaluate("image => image.decode()")
    assert picture.evaluate("image => image.naturalWidth") == 664
    for part in ("view-graph", "legend", "slider", "filter", "toggle-rail"):
        assert not tab.part(part).is_visible(), part
    assert tab.frame.get_by_text("it branches where a member is copied").is_visible()
    box = picture.bounding_box() or {}
    corner = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    assert tab.pixel(corner) == (255, 255, 255)
    assert tab.pixels({**box}).reshape(-1, 3).tolist().count(list(BEST)) > 20
    tab.push("theme")
    assert tab.pixel(corner) == (20, 25, 31)
    assert tab.pixels({**box}).reshape(-1, 3).tolist().count(list(BEST)) > 20
    tab.choose("run", "made")
    assert not picture.is_visible()
    assert tab.part("view-graph").is_visible()
    tab.choose("beside", "it")
    assert picture.is_visible()
    assert tab.part("legend").is_visible()


@pytest.mark.parametrize("name", ["hostile", "markup"])
def test_a_hostile_drawing_does_nothing(page: Page, populations: str, name: str) -> None:
    """It is a picture, or none; the fixtures see to dialogs and requests."""
    tab = Tab.alone(page, populations, "made")
    scripts = page.evaluate("document.scripts.length")
    tab.choose("run", name)
    page.wait_for_timeout(400)
    assert tab.part("lineage").is_visible()
    assert page.evaluate("document.querySelectorAll('img').length") == 1
    assert page.evaluate("document.querySelectorAll('svg image, foreignObject, [onload]').length") == 0
    assert page.evaluate("document.scripts.length") == scripts
