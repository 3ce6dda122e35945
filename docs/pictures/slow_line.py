"""Draws what is learned over a slow line in equal seconds, way by way: see `python docs/pictures/make.py`."""

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
    "antiphon": "antiphon",
}
"""Ways that have another name on the picture."""


def draw(path: Path) -> None:
    """Draw a column for each line, and in it a row for each way: every seed a point."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for text in RECORDS.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        found[record["line"]][record["way"]].append(record["bits"])
    alone = found[next(iter(found))]["plain"]  # the line does not matter to it
    for own in found.values():
        own["plain"] = alone
    ways = sorted(
        {way for own in found.values() for way in own},
        key=lambda way: max(_of(found, way)),
    )
    figure = Figure(
        figsize=(10.0, 0.6 + 0.36 * len(ways)), facecolor="white", layout="constrained"
    )
    for axes, (line, own) in zip(
        figure.subplots(1, len(found), sharex=True, sharey=True, squeeze=False)[0],
        found.items(),
        strict=True,
    ):
        megabits, _, milliseconds = line.partition(":")
        axes.set_title(
            f"{megabits} Mbit/s, {milliseconds} ms", loc="left", fontsize=10, color=INK
        )
        for row, way in enumerate(reversed(ways)):
            axes.axhline(row, color=FAINT, linewidth=0.8, zorder=0)
            color = OURS if way.startswith("antiphon") else OTHERS
            axes.scatter(
                own.get(way, []),
                [row] * len(own.get(way, [])),
                s=26,
                color=color,
                alpha=0.75,
                linewidths=0,
            )
        axes.set_yticks(
            range(len(ways)),
            [NAMES.get(way, way.replace(":", ", every ")) for way in reversed(ways)],
        )
        axes.set_xlabel("bits per character of held-out text", fontsize=9, color=INK)
        axes.tick_params(length=0, labelsize=9, labelcolor=INK)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def _of(found: dict[str, dict[str, list[float]]], way: str) -> list[float]:
    return [bits for own in found.values() for bits in own.get(way, [])]
