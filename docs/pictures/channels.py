"""Takes the pictures of the Channels tab: `python docs/pictures/channels.py`.

Some runs are made, first of all the corporation of `make run`, with the value of its channels; TensorBoard shows them, and
Chromium is photographed. It needs Chromium and playwright, as the tests in `tests/browser` do. It takes some minutes.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

import antiphon
from antiphon.base.spec import plain
from antiphon.telemetry import read_run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.browser.served import chromium, tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUNS = {"corporation", "lossy", "big-corporation", "two-timescales", "in-parts"}
STEP = 600
"""When the value is looked at: after some learning, while there is still some to do."""
_WINDOW = {"width": 1280, "height": 800}
_SCALE = 1.5
_FREQUENT = 24
_MOST = 300_000
"""Bytes of a picture."""


def make_runs(folder: Path) -> None:
    """Run what is shown: two corporations, one of which loses a third of what is said, a big one, two timescales, and one in
    parts."""
    small = {"agents": 16, "readouts": 2, "sg_lr": 0.0001, "steps": 1000}
    valued = {"period": 50, "max": 64, "value": {"period": STEP, "horizon": 6}}
    run(folder / "corporation", "corporation", small, valued)
    run(
        folder / "lossy",
        "corporation",
        {**small, "drop": 0.3, "input": "linear"},
        {"period": 50},
    )
    run(folder / "big-corporation", "big-corporation", {"steps": 240}, {"period": 24})
    run(folder / "two-timescales", "two-timescales", {"steps": 400}, {})
    run(
        folder / "in-parts",
        "corporation",
        {**small, "steps": 240},
        {"period": 24},
        parts=3,
    )


def run(
    place: Path,
    template: str,
    values: Mapping[str, Any],
    telemetry: Mapping[str, Any],
    parts: int | None = None,
) -> None:
    """Run a scenario of the library with parameters and telemetry of one's own, as a whole or in parts."""
    document = plain(antiphon.load(template).resolve(values=values))
    scenario = antiphon.Scenario(**{**document, "telemetry": telemetry})
    with antiphon.Simulation(scenario, logdir=place, parts=parts) as simulation:
        simulation.run()


def take(page: Page, name: str) -> None:
    """Write what the page shows as a PNG of 256 colours."""
    page.wait_for_timeout(300)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    path = HERE / f"channels-{name}.png"
    _of_256_colours(picture).save(path, optimize=True)
    assert path.stat().st_size < _MOST, f"{path}: {path.stat().st_size} bytes"


def _of_256_colours(picture: Image.Image) -> Image.Image:
    """Return the picture in few colours, of which the rare ones are many: a scale of colours is small, and shall stay one.

    The most frequent ones, of paper and lines, stay as they are.
    """
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, of_pixel, counts = np.unique(
        pixels, axis=0, return_inverse=True, return_counts=True
    )
    damped = np.repeat(colours, np.minimum(counts, 30), axis=0)
    rest = Image.fromarray(damped[None]).quantize(
        256 - _FREQUENT, method=Image.Quantize.MAXCOVERAGE, kmeans=4
    )
    frequent = colours[np.argsort(counts)[-_FREQUENT:]]
    palette = np.concatenate([frequent, np.array(rest.getpalette()).reshape(-1, 3)])[
        :256
    ].astype(int)
    nearest = (
        np.square(colours[:, None].astype(int) - palette)
        .sum(2)
        .argmin(1)
        .astype(np.uint8)
    )
    found = Image.fromarray(nearest[of_pixel].reshape(picture.height, picture.width))
    found.putpalette(palette.ravel().tolist())
    return found


def photograph(page: Page, address: str, channel: int) -> None:
    """Walk through the tab, and take a picture of each view; of one channel the details."""
    page.goto(f"{address}/#antiphon")
    tab = Tab.inside(page)
    tab.choose("run", "corporation")
    show_value(tab)
    take(page, "graph")
    tab = Tab.alone(page, address, "corporation")
    show_value(tab)
    tab.part("theme").click()
    tab.ask("app.select('channel', a[0])", channel)
    tab.idle()
    tab.idle()
    take(page, "dark")
    tab = Tab.alone(page, address, "corporation")
    tab.choose("beside", "lossy")
    take(page, "beside")
    tab = Tab.alone(page, address, "big-corporation")
    take(page, "matrix")
    tab = Tab.alone(page, address, "two-timescales")
    tab.part("view-timeline").click()
    tab.ask("app.select('agent', 1)")
    tab.idle()
    take(page, "timeline")
    photograph_parts(page, address)


def photograph_parts(page: Page, address: str) -> None:
    """Take a picture of the run in parts."""
    Tab.alone(page, address, "in-parts")
    take(page, "parts")


def show_value(tab: Tab) -> None:
    """Show a step at which most channels have a value; the tab opens on it."""
    assert tab.part("metric").input_value() == "value"
    tab.ask("app.setStep(a[0])", STEP)
    tab.idle()


def most_valued(folder: Path) -> int:
    """Return the number of the channel of the most certain value of those whose messages were kept."""
    run = read_run(folder)
    series = run.metrics["channel", "value_low"]
    values = series.values[series.steps.tolist().index(STEP)]
    return max(
        (index for index in run.messages if values[index] == values[index]),
        key=lambda i: values[i],
    )


def main() -> None:
    """Run, serve, photograph."""
    path = chromium()
    if path is None:
        sys.exit(
            "needs Chromium and playwright: install the package chromium, pip install playwright"
        )
    from playwright.sync_api import sync_playwright

    runs = Path("runs")  # relative, since the tab shows the path
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        make_runs(runs)
        with tensorboard(runs) as address, sync_playwright() as playwright:
            wait_for_runs(address, RUNS)
            browser = playwright.chromium.launch(
                executable_path=path, headless=True, args=["--no-sandbox"]
            )
            page = browser.new_page(
                viewport=_WINDOW, device_scale_factor=_SCALE, color_scheme="light"
            )
            photograph(page, address, most_valued(runs / "corporation"))
            browser.close()


if __name__ == "__main__":
    main()
