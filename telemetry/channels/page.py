"""One HTML file with the live graph of runs in it: no server, no network, nothing beside it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from pathlib import Path

from antiphon.telemetry.channels.frontend import STATIC, bundled, sheet, vendored
from antiphon.telemetry.channels.series import RunData
from antiphon.telemetry.channels.thinning import fitted, written

__all__ = ["MOST", "page"]

MOST = 20_000_000
"""Largest size of a page in bytes, the limit of mail. Rows are thinned to keep it."""
_FRAME = 4_000
"""Bytes of the page's own elements, at most."""
_LEAST_DATA = 1_000_000
"""Bytes of data that are always allowed on a page."""
_DATA, _ROOT = "antiphon-data", "antiphon"
_UPLOT = "uPlot.iife.min.js"
_MOUNT = """
const data = JSON.parse(document.getElementById("antiphon-data").textContent);
const root = document.getElementById("antiphon");
root.replaceChildren();
mount(root, new EmbeddedSource(data), { compact: COMPACT });
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
    style: str = "",
    compact: bool = False,
    most: int = MOST,
    static: Path = STATIC,
) -> str:
    """Return a page with the live graph of runs, and content above and below it.

    Scripts are allowed by their hashes alone, and nothing may be fetched: names and figures are text.

    Args:
        runs: With names that differ. None: no graph.
        title: Of the window; any text.
        before: HTML above the graph, its texts escaped.
        after: HTML below it.
        style: CSS beside that of the graph.
        compact: Whether it is in little room, as in a notebook.
        most: Bytes of the page, at most, if what is above and below leaves a megabyte for the data.
        static: Folder of the front end.

    Raises:
        EngineError: The front end's modules cannot be put into one script.
    """
    sheets, graph, scripts = [_LAYOUT], "", []
    if runs:
        script = _script(static, compact=compact)
        scripts = [vendored(_UPLOT, static), script]
        sheets.append(sheet(static))
        others = sum(len(text) for text in map(_bytes, (before, after, style, *sheets, *scripts)))
        shown, notes = fitted(runs, max(most - others - _FRAME, _LEAST_DATA))
        graph = _graph(shown, notes, scripts)
    hashes = " ".join(f"'sha256-{_digest(text)}'" for text in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    styles = "\n".join([*sheets, style])
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


def _script(static: Path, *, compact: bool) -> str:
    """Return the front end and its start, in a scope of their own."""
    mount = _MOUNT.replace("COMPACT", "true" if compact else "false")
    return f'(() => {{\n"use strict";\n{bundled(static)}{mount}}})();'


def _graph(runs: Sequence[RunData], notes: Sequence[str], scripts: Sequence[str]) -> str:
    said = f'<p class="antiphon-note">{escape(" ".join(notes))}</p>\n' if notes else ""
    data = written({"runs": [run.embedded() for run in runs]})
    parts = [
        f'{said}<div id="{_ROOT}"><p class="antiphon-note">The live graph needs a browser with scripts.</p></div>',
        f'<script type="application/json" id="{_DATA}">{data}</script>',
        *(f"<script>{text}</script>" for text in scripts),
    ]
    return "\n".join(parts)


def _bytes(text: str) -> bytes:
    """Encode a text; half of a character, which a file's name may hold, becomes a question mark."""
    return text.encode("utf-8", "replace")


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(_bytes(text)).digest()).decode("ascii")
