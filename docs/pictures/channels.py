"""Takes the pictures of the Channels tab: `python docs/pictures/channels.py`.

Two runs are made, first of all the one of `docs/inspecting.md`, whose channels are ablated; TensorBoard shows them, and
Chromium is photographed. It needs Chromium and playwright, as the tests in `tests/browser` do. It takes some minutes.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from antiphon.telemetry import read_run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))
from tests.browser.served import chromium, tensorboard, wait_for_runs
from tests.browser.tab import Tab
from tests.kit.commands import run_command

if TYPE_CHECKING:
    from playwright.sync_api import Page

RUNS = {"corporation", "big-corporation"}
_WINDOW = {"width": 1280, "height": 800}
_SCALE = 1.5
_FREQUENT = 24
_MOST = 300_000
"""Bytes of a picture."""


def make_runs() -> None:
    """Run what is shown."""
    for command in (
        "run corporation --set agents=16 --set readouts=2 --steps 1800 --name corporation",
        "evaluate runs/corporation --ablate zero --examples 100",
        "run big-corporation --steps 240 --name big-corporation",
    ):
        assert run_command(command.split()) == 0, command


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
    take(page, "graph")
    tab = Tab.alone(page, address, "corporation")
    tab.push("view-table")
    take(page, "table")
    tab.push("view-graph")
    page.emulate_media(color_scheme="dark")
    tab.click("channel", channel)
    take(page, "dark")
    page.emulate_media(color_scheme="light")
    Tab.alone(page, address, "big-corporation")
    take(page, "matrix")


def most_needed(folder: Path) -> int:
    """Return the number of the channel most needed of those whose messages were kept."""
    run = read_run(folder)
    needed = run.metrics["channel", "ablation_zero_low"].values[-1]
    return max(run.messages, key=lambda index: needed[index])


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
        make_runs()
        with tensorboard(runs) as address, sync_playwright() as playwright:
            wait_for_runs(address, RUNS)
            browser = playwright.chromium.launch(
                executable_path=path, headless=True, args=["--no-sandbox"]
            )
            page = browser.new_page(
                viewport=_WINDOW, device_scale_factor=_SCALE, color_scheme="light"
            )
            photograph(page, address, most_needed(runs / "corporation"))
            browser.close()


if __name__ == "__main__":
    main()
