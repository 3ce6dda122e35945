"""Makes docs/pictures/antiphon.gif from two real runs: `python docs/pictures/animation.py`.

Left: an episode of `cartpole-team` after its training, and the number that the sensor sends to the motor. Right: the Channels tab
from the first to the last step of the corporation of `make run`, with the readouts' accuracy on batches of training. It needs
Chromium and playwright, as `channels.py` does, and takes some minutes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, ImageSequence

import antiphon

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]
from channels import run
from tests.browser.served import chromium, tensorboard, wait_for_runs
from tests.browser.tab import Tab

if TYPE_CHECKING:
    from playwright.sync_api import Page

STEPS, PERIOD = 1800, 50
"""Of the corporation: one frame a period."""
SHOWN = 4
"""Steps of the pole from frame to frame."""
WINDOW = {"width": 1120, "height": 700}
HEIGHT, HEAD, LEFT = 480, 44, 400
"""Pixels: of a frame, of its captions, and the width of the left side."""
PICTURE, MESSAGE = (18, 30, 498, 345), (512, 44, 560, 88)
"""Where a frame of the film (telemetry/gif.py) has the environment, and the bar of its one channel: left, top, right, bottom."""
INK, PAPER = (32, 44, 57), "white"
FRAME_SECONDS, LAST_SECONDS = 0.2, 3.0
_MOST = 2_000_000
"""Bytes of the animation."""


def pole(folder: Path) -> list[Image.Image]:
    """Train the team that balances a pole, and return the pictures of an episode."""
    scenario = antiphon.load("cartpole-team").resolve("decoupled")
    with antiphon.Simulation(scenario, seed=0) as simulation:
        simulation.run()
        film = simulation.export(folder / "pole.gif")
    with Image.open(film) as frames:
        return [frame.convert("RGB") for frame in ImageSequence.Iterator(frames)]


def accuracies(folder: Path) -> dict[int, float]:
    """Return the mean accuracy of the readouts by step, in per cent."""
    values: dict[int, list[float]] = {}
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        for entry in csv.DictReader(file):
            if entry["kind"] == "agent" and entry["metric"] == "accuracy":
                values.setdefault(int(entry["step"]), []).append(
                    100 * float(entry["value"])
                )
    return {step: sum(each) / len(each) for step, each in values.items()}


def tab(page: Page, address: str) -> Iterator[Image.Image]:
    """Yield pictures of the tab, one a period."""
    found = Tab.alone(page, address, "corporation")
    for step in range(0, STEPS, PERIOD):
        found.ask("app.setStep(a[0])", step)
        found.idle()
        page.wait_for_timeout(100)
        yield Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def composed(left: Image.Image, right: Image.Image, caption: str) -> Image.Image:
    """Return one frame: the pole, the tab, and a line above each."""
    box = HEIGHT - HEAD
    right = right.resize(
        (round(right.width * box / right.height), box), Image.Resampling.LANCZOS
    )
    pole, message = left.crop(PICTURE), left.crop(MESSAGE)
    pole.thumbnail((LEFT - 20, box))
    message = message.resize(
        (2 * message.width, 2 * message.height), Image.Resampling.NEAREST
    )
    frame = Image.new("RGB", (LEFT + right.width, HEIGHT), PAPER)
    frame.paste(pole, (10, HEAD))
    across, top = (LEFT - message.width) // 2, HEAD + pole.height + 30
    frame.paste(message, (across, top))
    frame.paste(right, (LEFT, HEAD))
    draw, font = ImageDraw.Draw(frame), ImageFont.load_default(18)
    draw.text((10, 12), "one network sees, one pushes", fill=INK, font=font)
    draw.text((10, HEAD + pole.height + 60), "the message:", fill=INK, font=font)
    small = ImageFont.load_default(13)
    for share, words in ((1 / 22, "+1"), (1 / 2, "0"), (21 / 22, "-1")):
        high = top + round(
            share * message.height
        )  # the film draws the largest message 20 of 44 pixels high
        draw.line((across - 8, high, across - 2, high), fill=INK)
        draw.text((across - 12, high), words, fill=INK, font=small, anchor="rm")
    draw.text((LEFT + 10, 12), caption, fill=INK, font=font)
    return frame


def main() -> None:
    """Run, serve, photograph, compose."""
    path = chromium()
    if path is None:
        sys.exit(
            "needs Chromium and playwright: install the package chromium, pip install playwright"
        )
    from playwright.sync_api import sync_playwright

    runs = Path("runs")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        frames = pole(Path(folder))
        small = {"agents": 16, "readouts": 2, "sg_lr": 0.0001, "steps": STEPS}
        run(runs / "corporation", "corporation", small, {"period": PERIOD})
        scores = accuracies(runs / "corporation")
        with tensorboard(runs) as address, sync_playwright() as playwright:
            wait_for_runs(address, {"corporation"})
            browser = playwright.chromium.launch(
                executable_path=path, headless=True, args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=WINDOW, color_scheme="light")
            pictures = list(tab(page, address))
            browser.close()
    steps = list(range(0, STEPS, PERIOD))
    shown = []
    for number, (step, picture) in enumerate(zip(steps, pictures, strict=True)):
        at = max((known for known in scores if known <= step), default=min(scores))
        caption = f"sixteen networks, step {step:,}: accuracy {scores[at]:.0f} %"
        shown.append(
            composed(frames[number * SHOWN % len(frames)].copy(), picture, caption)
        )
    palette = shown[-1].quantize(256)
    images = [
        frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in shown
    ]
    durations = [round(1000 * FRAME_SECONDS)] * (len(images) - 1) + [
        round(1000 * LAST_SECONDS)
    ]
    target = HERE / "antiphon.gif"
    images[0].save(
        target,
        save_all=True,
        append_images=images[1:],
        duration=durations,
        loop=0,
        optimize=True,
    )
    assert target.stat().st_size < _MOST, f"{target}: {target.stat().st_size} bytes"


if __name__ == "__main__":
    main()
