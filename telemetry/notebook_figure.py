"""The figure that every `plot()` returns: matplotlib's own, which a notebook shows.

IPython shows figures of matplotlib as pictures only after pyplot has been imported. Imported by `plots.empty_figure` alone, as
matplotlib is an extra.
"""

from __future__ import annotations

import io

from matplotlib.figure import Figure


class NotebookFigure(Figure):
    """A figure of matplotlib that a notebook shows as a PNG, whatever the backend; formats that the user sets come first."""

    def _repr_png_(self) -> bytes:
        content = io.BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()
