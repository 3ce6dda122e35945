"""Draws what is learned over a slow line, way by way: see `python docs/pictures/make.py`."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

RECORDS = Path(__file__).parents[2] / "benchmarks" / "results" / "slow_line.jsonl"
INK, FAINT, OURS, OTHERS = "#22303c", "#dfe4e8", "#d55e00", "#5b6b7a"
NAMES = {
    "plain": "one machine",
    "ddp": "DDP",
    "1f1b": "1F1B pipeline",
    "diloco:64": "DiLoCo",
    "averaging:64": "averaging",
    "plain-heads": "one machine,\nauxiliary head",
}
"""Ways that have another name on the picture."""
LINES = ("1000:25", "1000:100", "100:25", "100:100")


def draw(path: Path) -> None:
    """Draw a column for each line, and in it a row for each way: every seed a point."""
    found: dict[str, dict[str, list[float]]] = {
        line: defaultdict(list) for line in LINES
    }
    for record in map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines()):
        alone = record["way"].startswith("plain")  # the line does not matter
        for line in LINES if alone else (record["line"],):
            found[line][record["way"]].append(record["bits"])
    best = {
        way: max(bits for own in found.values() for bits in own[way])
        for way in {way for own in found.values() for way in own}
    }
    ways = sorted(best, key=best.__getitem__, reverse=True)
    figure = Figure(
        figsize=(10.0, 0.6 + 0.36 * len(ways)), facecolor="white", layout="constrained"
    )
    columns = figure.subplots(1, len(LINES), sharex=True, sharey=True)
    for axes, line in zip(columns, LINES, strict=True):
        megabits, _, milliseconds = line.partition(":")
        title = f"{megabits} Mbit/s, {milliseconds} ms"
        axes.set_title(title, loc="left", fontsize=10, color=INK)
        for row, way in enumerate(ways):
            axes.axhline(row, color=FAINT, linewidth=0.8, zorder=0)
            color = OURS if way.startswith("antiphon") else OTHERS
            bits = found[line][way]
            axes.scatter(bits, [row] * len(bits), s=26, color=color, alpha=0.75)
        axes.set_yticks(range(len(ways)), [NAMES.get(way, way) for way in ways])
        axes.set_xlabel("bits per character of held-out text", fontsize=9, color=INK)
        axes.tick_params(length=0, labelsize=9, labelcolor=INK)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)
