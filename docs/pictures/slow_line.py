"""Draws what is learned over a slow line, way by way: see `python docs/pictures/make.py`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

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
"""Ways that have another name on the pictures."""
SECONDS, LINES, CURVES = 60.0, ("1000:25", "1000:100", "100:25", "100:100"), "100:25"
RATE, REPORTED = 1e-3, range(5)
Found = dict[str, dict[str, list[float]]]


def records() -> Iterator[dict[str, Any]]:
    """Yield the undisturbed runs of the seeds and the rate that are reported."""
    for text in RECORDS.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        if (
            record["seed"] in REPORTED
            and record["lr"] == RATE
            and not record.get("pause")
        ):
            yield record


def draw(path: Path) -> None:
    """Draw a column for each line, and in it a row for each way: every seed a point."""
    found: Found = {line: defaultdict(list) for line in LINES}
    for record in records():
        if record["seconds"] == SECONDS and record["way"] != "antiphon-free":
            alone = record["way"].startswith("plain")  # the line does not matter
            for line in LINES if alone else {record["line"]} & found.keys():
                found[line][record["way"]].append(record["bits"])
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
            color = colour(way)
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
            [NAMES.get(way, way) for way in reversed(ways)],
        )
        axes.set_xlabel("bits per character of held-out text", fontsize=9, color=INK)
        axes.tick_params(length=0, labelsize=9, labelcolor=INK)
        axes.spines[:].set_visible(False)
    figure.savefig(path, dpi=120)


def draw_curves(path: Path) -> None:
    """Draw a curve for each way over one line: bits after several times of training, every seed a point."""
    found: dict[str, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records():
        if record["line"] == CURVES or record["way"].startswith("plain"):
            found[record["way"]][record["seconds"]].append(record["bits"])
    figure = Figure(figsize=(7.0, 4.0), facecolor="white", layout="constrained")
    axes = figure.subplots()
    curves = {way: own for way, own in found.items() if len(own) > 1}
    label = 0.0
    for way, own in sorted(curves.items(), key=lambda pair: fmean(pair[1][SECONDS])):
        times = sorted(own)
        means = [fmean(own[time]) for time in times]
        axes.plot(times, means, color=colour(way), linewidth=2)
        axes.scatter(
            [time for time in times for _ in own[time]],
            [bits for time in times for bits in own[time]],
            s=18,
            color=colour(way),
            alpha=0.6,
            linewidths=0,
        )
        label = max(means[-1], label + 0.06)  # bits; else two names overlap
        axes.annotate(
            NAMES.get(way, way).replace("\n", " "),
            (times[-1], label),
            (6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colour(way),
        )
    axes.set_xlabel("seconds of training", fontsize=9, color=INK)
    axes.set_ylabel("bits per character of held-out text", fontsize=9, color=INK)
    axes.grid(color=FAINT, linewidth=0.8)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.spines[:].set_visible(False)
    axes.margins(x=0.16)
    figure.savefig(path, dpi=120)


def colour(way: str) -> str:
    """Return the colour of a way."""
    return OURS if way.startswith("antiphon") else OTHERS


def _of(found: Found, way: str) -> list[float]:
    return [bits for own in found.values() for bits in own.get(way, [])]
