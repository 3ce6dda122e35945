"""One HTML file with the results of runs and their Channels tab: no server, no network, no other files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader
from numpy.typing import NDArray

from antiphon.telemetry.metrics import METRICS
from antiphon.telemetry.tab.frontend import bundled, sheet, vendored
from antiphon.telemetry.tab.series import Messages, RunData, Series

_MOST_ENTRIES = 200
"""Most log entries of a metric in the file, evenly spaced."""
_MOUNT = """
const root = document.getElementById("antiphon");
root.replaceChildren();
mount(root, new EmbeddedSource(JSON.parse(document.getElementById("antiphon-data").textContent)));
document.querySelectorAll(".ap-report table").forEach(sortable);
"""


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """A run as a report shows it.

    Attributes:
        name: Its name in the report; no two runs have the same.
        facts: The object of run.json.
        result: The object of result.json; empty: it has not ended.
        document: The resolved scenario file.
        data: What the Channels tab has of it.
    """

    name: str
    facts: Mapping[str, Any]
    result: Mapping[str, Any]
    document: str
    data: RunData


def report(runs: Sequence[ReportRun], footer: str = "") -> str:
    """Return the page. Its own scripts alone may run, by their hashes, and nothing is fetched: names and values are text.

    Args:
        runs: At least one.
        footer: A line at the end.
    """
    script = f'(() => {{\n"use strict";\n{bundled()}{_MOUNT}}})();'  # in a scope of its own
    scripts = [vendored("locale.js"), vendored("uPlot.iife.min.js"), script]
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    metrics = [metric for metric in METRICS if any(run.result.get(metric) is not None for run in runs)]
    return templates.get_template("report.html.j2").render(
        title=runs[0].name if len(runs) == 1 else f"{len(runs)} runs",
        runs=runs,
        metrics=metrics,
        rows=[_row(run, metrics) for run in runs],
        data=_embedded({"runs": [_thinned(replace(run.data, name=run.name)).embedded() for run in runs]}),
        style=sheet(),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests),
        footer=footer,
    )


def _row(run: ReportRun, metrics: Sequence[str]) -> list[str]:
    facts = run.facts
    known = (
        facts["scenario"],
        facts.get("variant") or "",
        str(facts["seed"]),
        f"{facts['step']:,}",
        facts["exit"],
    )
    return [run.name, *known, *(_written(metric, run.result.get(metric)) for metric in metrics)]


def _written(metric: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.2f} %" if metric == "accuracy" else f"{value:.4g}".replace("-", "−")


def _thinned(run: RunData) -> RunData:
    def chosen(rows: int) -> NDArray[np.intp]:
        return np.linspace(0, rows - 1, min(rows, _MOST_ENTRIES)).round().astype(np.intp)

    metrics, messages = {}, {}
    for key, series in run.metrics.items():
        rows = chosen(len(series.steps))
        metrics[key] = Series(series.steps[rows], series.values[rows])
    for channel, of_channel in run.messages.items():
        rows = chosen(len(of_channel.steps))
        messages[channel] = Messages(of_channel.steps[rows], [of_channel.samples[row] for row in rows])
    return replace(run, metrics=metrics, messages=messages)


def _embedded(value: object) -> str:
    """Return plain data as JSON that can stand in a `<script>`: HTML marks are escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text
