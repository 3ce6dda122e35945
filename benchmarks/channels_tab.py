"""How quick the Channels tab is with a large run: 1,000 agents, 4,000 channels, 1,000 rows.

A run of drawn numbers is written, TensorBoard reads it, and Chromium (without a window, its canvas drawn by the processor)
opens the tab as a user does, from the Scalars tab by a click. Times are wall clock:

- `first_frame`: from the click to the first painted frame that has the channels in it (demand: 3 s at most);
- `all_rows`: from the click until all rows of the figures shown are there and painted;
- `scrubbing`: frames per second while a script sets step after step, each waiting for its frame, on the graph, on the graph with
  another figure, and on the matrix (demand: 20 at least); `slowest_ms` is the longest wait for a frame.

Run: `python benchmarks/channels_tab.py --json`. It needs Chromium and playwright, as the tests in `tests/browser` do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from interleaved import finish, parsed, table

from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.channels.tags import Family
from antiphon.telemetry.event_file import EventFile
from tests.browser.runs import large_description
from tests.browser.served import chromium, fetched, tensorboard, wait_for_runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Frame, Page

_NO_ROWS = 8
"""Bytes of an answer without rows."""
FIRST_FRAME, FRAMES = 3.0, 20.0
"""Demands: seconds until the first frame at most, frames per second while scrubbing at least."""
FIGURES: tuple[tuple[Family, str], ...] = (
    *(("channel", name) for name in ("sg_loss", "cosine", "norm_ratio", "r2", "injection_norm", "age")),
    *(("channel", name) for name in ("message_mean", "message_std", "message_energy", "traffic")),
    *(("agent", name) for name in ("loss", "updates", "gradient_norm", "parameter_norm")),
)
"""What an ordinary run has of every agent and channel."""
_RUN = "large"
_STEPS = 200
_APP = "document.querySelector('[data-antiphon]').antiphon"
_CLICK = """() => {
  const tab = [...document.querySelectorAll('[role=tab]')].find((one) => one.textContent.trim() === 'Channels');
  const { x, y, width, height } = tab.getBoundingClientRect();
  const clicked = performance.timeOrigin + performance.now();
  document.elementFromPoint(x + width / 2, y + height / 2).click();
  return clicked;
}"""
_PAINTED = """() => new Promise((resolve) => {
  const look = () => {
    const app = document.querySelector('[data-antiphon]')?.antiphon;
    if (app && app.stats.firstFrameMs) resolve(performance.timeOrigin + performance.now());
    else requestAnimationFrame(look);
  };
  look();
})"""
_IDLE = f"async () => {{ await {_APP}.idle(); return performance.timeOrigin + performance.now(); }}"
_SCRUB = f"""async (count) => {{
  const app = {_APP}, steps = app.steps(), waits = [];
  const before = app.stats.frames;
  for (let at = 0; at < count; at++) {{
    const start = performance.now();
    app.setStep(steps[(at * 7) % steps.length]);
    await new Promise(requestAnimationFrame);
    waits.push(performance.now() - start);
  }}
  return {{ waits, frames: app.stats.frames - before }};
}}"""


def write(folder: Path, agents: int, per_agent: int, rows: int) -> dict[str, Any]:
    """Write the run; return how long it took and how much it is."""
    description = large_description(agents, per_agent)
    channels = len(description.names["channels"])
    draw = np.random.default_rng(0)
    # A few rows over and over: drawing four thousand numbers takes longer than writing them.
    drawn = [
        {
            (family, metric): draw.random(agents if family == "agent" else channels, dtype=np.float32)
            for family, metric in FIGURES
        }
        for _ in range(16)
    ]
    start = time.perf_counter()
    events = EventFile(folder)
    events.forget_after(0)
    events.scalars(1, [("agent/n0000/loss", "loss", 1.0)])  # for the tab that the click comes from
    writer = ChannelsWriter(events, description)
    opened = time.perf_counter() - start
    size = _size(folder)
    start = time.perf_counter()
    for row in range(rows):
        writer.arrays(100 * row + 1, drawn[row % len(drawn)])
    events.close()
    taken = time.perf_counter() - start
    return {
        "agents": agents,
        "channels": channels,
        "rows": rows,
        "figures": len(FIGURES),
        "bytes_per_row": (_size(folder) - size) // rows,
        "ms_per_row": round(1e3 * taken / rows, 3),
        "opening_seconds": round(opened, 2),
    }


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def measure(browser: Browser, address: str) -> dict[str, Any]:
    """Open the tab once, in a fresh profile; return what was measured."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{address}/#scalars")
    page.wait_for_load_state("networkidle")
    clicked = float(page.evaluate(_CLICK))
    frame = _tab(page)
    painted = float(frame.evaluate(_PAINTED))
    all_rows = float(frame.evaluate(_IDLE))
    found: dict[str, Any] = {
        "first_frame": round((painted - clicked) / 1e3, 3),
        "all_rows": round((all_rows - clicked) / 1e3, 3),
        "graph": _scrubbed(frame),
    }
    frame.get_by_test_id("figure").select_option("cosine")
    frame.evaluate(_IDLE)
    found["other_figure"] = _scrubbed(frame)
    frame.get_by_test_id("view-matrix").click()
    frame.evaluate(_IDLE)
    found["matrix"] = _scrubbed(frame)
    context.close()
    return found


def _tab(page: Page) -> Frame:
    page.wait_for_selector("iframe[src*='name=antiphon']", state="attached")
    while True:
        for frame in page.frames:
            if "name=antiphon" in frame.url:
                return frame
        page.wait_for_timeout(5)


def _scrubbed(frame: Frame) -> dict[str, float]:
    """Set step after step; return frames per second, the longest wait, and how many frames the tab says it drew."""
    found = frame.evaluate(_SCRUB, _STEPS)
    waits = sorted(found["waits"])
    return {
        "frames_per_second": round(1e3 * len(waits) / sum(waits), 1),
        "slowest_ms": round(waits[-1], 1),
        "drawn": found["frames"],
    }


def main() -> None:
    """Parse arguments, write, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1000)
    parser.add_argument("--per-agent", type=int, default=4, help="channels that an agent sends on")
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parsed(parser, rounds=3)
    path = chromium()
    if path is None:
        parser.error("needs Chromium and playwright: install the package chromium, pip install playwright")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / _RUN
        place.mkdir()
        written = write(place, arguments.agents, arguments.per_agent, arguments.rows)
        start = time.perf_counter()
        with tensorboard(Path(folder)) as address, sync_playwright() as playwright:
            wait_for_runs(address, {_RUN})
            query = f"run={_RUN}&kind=agent&metric={FIGURES[-1][1]}&after={100 * (arguments.rows - 1)}"
            while len(fetched(f"{address}/data/plugin/antiphon/figure?{query}")) <= _NO_ROWS:
                time.sleep(0.2)
            written["seconds_to_load"] = round(time.perf_counter() - start, 1)
            browser = playwright.chromium.launch(executable_path=path, headless=True, args=["--no-sandbox"])
            measure(browser, address)  # warm: TensorBoard has answered once
            found = [measure(browser, address) for _ in range(arguments.rounds)]
            version = browser.version
            browser.close()
    result = {
        "benchmark": "channels_tab",
        "browser": version,
        "written": written,
        "demands": {"first_frame": FIRST_FRAME, "frames_per_second": FRAMES},
        "median": _medians(found),
        "rounds": found,
    }
    result["missed"] = _missed(result["median"])
    columns = ["frames_per_second", "slowest_ms", "drawn"]
    views = [{"scrubbing": name, **result["median"][name]} for name in ("graph", "other_figure", "matrix")]
    lines = [
        f"written: {written}",
        f"first frame after {result['median']['first_frame']} s, all rows after {result['median']['all_rows']} s",
        *table(views, ["scrubbing", *columns]),
        *(f"missed: {name}" for name in result["missed"]),
    ]
    finish(result, arguments, lines)


def _medians(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each number over the rounds."""
    return {
        key: _medians([one[key] for one in found])
        if isinstance(value, dict)
        else statistics.median(one[key] for one in found)
        for key, value in found[0].items()
    }


def _missed(median: dict[str, Any]) -> list[str]:
    slow = [
        name
        for name in ("graph", "other_figure", "matrix")
        if median[name]["frames_per_second"] < FRAMES or median[name]["drawn"] < _STEPS
    ]
    return (["first_frame"] if median["first_frame"] > FIRST_FRAME else []) + slow


if __name__ == "__main__":
    main()
