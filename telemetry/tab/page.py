"""One HTML file with the Channels tab of some runs: no server, no network, no other files.

If the data are too large, log entries are left out evenly.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.tab.frontend import STATIC, bundled, sheet, vendored
from antiphon.telemetry.tab.series import Messages, RunData, Series

MOST = 20_000_000
"""Largest size of a page in bytes, a common limit for mail. Log entries are left out to keep it."""
_FRAME = 4_000
"""Bytes of the page's own elements, at most."""
_LEAST_DATA = 1_000_000
"""Bytes of data that are always allowed on a page."""
_DATA, _CHARTS, _ROOT = "antiphon-data", "antiphon-chart-data", "antiphon"
_LOCALE = "locale.js"
_UPLOT = "uPlot.iife.min.js"
_MOUNT = """
const data = JSON.parse(document.getElementById("antiphon-data").textContent);
const root = document.getElementById("antiphon");
root.replaceChildren();
mount(root, new EmbeddedSource(data));
const charts = document.getElementById("antiphon-charts");
document.querySelectorAll(".ap-report-table table").forEach(sortable);
if (charts) mountCharts(charts, JSON.parse(document.getElementById("antiphon-chart-data").textContent), root);
"""
_LAYOUT = """
html { color-scheme: light dark; }
html, body { margin: 0; }
#antiphon { position: relative; height: 100vh; min-height: 320px; }
.antiphon-note { margin: 0; padding: 6px 12px; font: 12px/1.5 system-ui, sans-serif; }
"""


def page(
    runs: Sequence[RunData],
    *,
    title: str,
    before: str = "",
    after: str = "",
    charts: Sequence[Mapping[str, Any]] = (),
    most: int = MOST,
    static: Path = STATIC,
) -> str:
    """Return a page with the graph of runs, and content above and below it.

    Scripts are allowed by their hashes alone, and nothing may be fetched: names and values are text.

    Args:
        runs: The runs, with different names. None: no graph.
        title: Title of the window; any text.
        before: HTML above the graph, its texts escaped.
        after: HTML below it.
        charts: Line charts, drawn where `before` has an element `antiphon-charts`: `title`, `says` and `lines`, each with a
            `name`, a `place` among the colours, `steps`, `values` and optionally a band, `low` and `high`; null is a gap.
        most: Largest size of the page in bytes, if the content above and below leaves a megabyte for the data.
        static: Folder of the front end.
    """
    sheets, graph, scripts = [_LAYOUT, sheet(static)], "", []
    if runs:
        script = f'(() => {{\n"use strict";\n{bundled(static)}{_MOUNT}}})();'  # in a scope of its own
        scripts = [vendored(_LOCALE, static), vendored(_UPLOT, static), script]
        drawn = _data(_CHARTS, charts) if charts else ""
        fixed_size = sum(len(text) for text in map(_bytes, (before, after, drawn, *sheets, *scripts)))
        fitting, note = fitted(runs, max(most - fixed_size - _FRAME, _LEAST_DATA))
        graph = drawn + _graph(fitting, note, scripts)
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    styles = "\n".join(sheets)
    text = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{styles}</style>
</head>
<body>
{before}
{graph}
{after}
</body>
</html>
"""
    return _bytes(text).decode("utf-8")


def _graph(runs: Sequence[RunData], note: str, scripts: Sequence[str]) -> str:
    note = f'<p class="antiphon-note">{escape(note)}</p>\n' if note else ""
    parts = [
        f'{note}<div id="{_ROOT}"><p class="antiphon-note">The graph needs a browser with JavaScript.</p></div>',
        _data(_DATA, {"runs": [run.embedded() for run in runs]}),
        *(f"<script>{text}</script>" for text in scripts),
    ]
    return "\n".join(parts)


def _data(name: str, value: object) -> str:
    return f'<script type="application/json" id="{name}">{written(value)}</script>'


def _bytes(text: str) -> bytes:
    """Encode a text; half of a character, which a file's name may hold, becomes a question mark."""
    return text.encode("utf-8", "replace")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(_bytes(text)).digest()).decode("ascii")


_FEWEST = 20
"""Least log entries of a metric."""
_BASE64 = 4 / 3
_SMALLER = 4
"""How many times smaller numbers are when compressed, at most: more log entries are not tried."""
_WRAPPING = 64
"""Bytes of JSON around a metric, and about what a name takes."""


def written(value: object) -> str:
    """Return plain data as JSON that can be embedded in a `<script>`, with HTML marks escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for mark in "<>&\u2028\u2029":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return text.encode("utf-8", "replace").decode("utf-8")


def fitted(runs: Sequence[RunData], most: int) -> tuple[list[RunData], str]:
    """Return runs that take about `most` bytes of a page, with evenly chosen log entries, and a sentence about the choice."""
    logged = rows = max((len(series.steps) for run in runs for series in run.metrics.values()), default=0)
    while rows > _FEWEST and sum(_size(run, rows) for run in runs) > _SMALLER * most:
        rows = max(rows * 9 // 10, _FEWEST)
    while rows > _FEWEST and (size := _written_size(runs, rows)) > most:
        rows = max(int(rows * min(max(most / size, 0.5), 0.95)), _FEWEST)
    if rows == logged:
        return list(runs), ""
    note = f"This page has {rows:,} of {logged:,} log entries"
    return [_thinned(run, rows) for run in runs], f"{note}, evenly spaced, including the first and the last."


def _written_size(runs: Sequence[RunData], most: int) -> int:
    """Return the bytes of runs in a page, of each metric so many log entries at most."""
    return sum(len(_bytes(written(_thinned(run, most).embedded()))) for run in runs)


def _size(run: RunData, most: int) -> float:
    items = [(len(s.steps), 8 + 4 * int(s.values.shape[1])) for s in run.metrics.values()]
    for messages in run.messages.values():
        items.append((len(messages.steps), 8 + 12 * max(map(len, messages.samples), default=0)))
    return sum(_WRAPPING + _BASE64 * min(rows, most) * size for rows, size in items)


def _thinned(run: RunData, most: int) -> RunData:
    def chosen(rows: int) -> NDArray[np.intp]:
        return np.linspace(0, rows - 1, min(rows, most)).round().astype(np.intp)

    metrics = {key: (series, chosen(len(series.steps))) for key, series in run.metrics.items()}
    messages = {channel: (samples, chosen(len(samples.steps))) for channel, samples in run.messages.items()}
    return replace(
        run,
        metrics={key: Series(s.steps[rows], s.values[rows]) for key, (s, rows) in metrics.items()},
        messages={
            c: Messages(m.steps[rows], [m.samples[r] for r in rows]) for c, (m, rows) in messages.items()
        },
    )
