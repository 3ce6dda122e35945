"""The graph of a run in a notebook, redrawn while the run continues."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from antiphon.base.files import given_path, write_text
from antiphon.telemetry.channels.page import page
from antiphon.telemetry.channels.series import RunData
from antiphon.telemetry.figures import Figure, Recorder

_EVERY = 2.0
"""Least seconds between two drawings; each sends the whole page."""


class LiveGraph(Recorder):
    """A run's graph with its metrics so far: the Channels tab on a page of its own.

    In a notebook it is drawn at once, and redrawn with new metrics. The run stays bit-identical.

    Args:
        look: Returns the run's present data.
    """

    def __init__(self, look: Callable[[], RunData]) -> None:
        self.look = look
        self._display: Any = None
        self._redrawn = 0.0

    def display(self) -> None:
        """Draw the page in a notebook; elsewhere do nothing."""
        try:
            from IPython import get_ipython  # type: ignore[import-not-found]
            from IPython.display import display  # type: ignore[import-not-found]
        except ImportError:
            return
        if get_ipython() is not None:
            self._redrawn = time.monotonic()
            self._display = display(self._drawing(), raw=True, display_id=True)

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Redraw, unless the last drawing is too recent."""
        if time.monotonic() - self._redrawn >= _EVERY:
            self.redraw()

    def close(self) -> None:
        """Redraw a last time."""
        self.redraw()

    def save(self, path: str | Path) -> Path:
        """Write the page as one HTML file that needs no network, and return its path.

        Raises:
            RunError: The file cannot be written.
        """
        path = given_path(path)
        write_text(path, self._page(compact=False))
        return path

    def redraw(self) -> None:
        """Redraw, if there is a display."""
        if self._display is not None:
            self._display.update(self._drawing(), raw=True)
            self._redrawn = time.monotonic()

    def _drawing(self) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}

    def _page(self, *, compact: bool) -> str:
        run = self.look()
        return page([run], title=run.name, compact=compact)

    def _repr_html_(self) -> str:
        """Notebook representation: a sandboxed frame that can only draw."""
        return (
            f'<iframe srcdoc="{escape(self._page(compact=True))}" sandbox="allow-scripts allow-downloads" '
            f'style="width: 100%; height: 620px; border: 0"></iframe>'
        )

    def __repr__(self) -> str:
        return "<LiveGraph: in a notebook it draws itself; save('graph.html') writes it as a page>"
