"""Figures of matplotlib: made, saved as the same bytes every time, or encoded as PNG. Loads without matplotlib."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.errors import RunError
from antiphon.telemetry.names import writing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["encoded_png", "new_figure", "save_figure"]


def new_figure(what: str, **settings: Any) -> Figure:
    """Return an empty figure on white.

    Args:
        what: Subject of the figure, for the error.
        settings: Of matplotlib's `Figure`.

    Raises:
        RunError: If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RunError(f"{what} needs matplotlib: pip install 'antiphon[plots]'") from error
    return Figure(facecolor="white", **settings)


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 150) -> None:
    """Write a figure in the format of the file's suffix (`.png`, `.svg`, `.pdf`).

    Raises:
        RunError: The file cannot be written.
    """
    from matplotlib import rc_context

    with writing(Path(path)), rc_context({"svg.hashsalt": "antiphon"}):
        figure.savefig(path, dpi=dpi, metadata={"Date": None} if Path(path).suffix == ".svg" else None)


def encoded_png(figure: Figure) -> tuple[bytes, int, int]:
    """Return a figure as a PNG file, with its width and height in pixels."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100)
    png = file.getvalue()
    return png, int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")
