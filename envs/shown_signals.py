"""What a notebook shows of environments and of their sources: the signals as a table."""

from __future__ import annotations

from antiphon.base.notebook import html_of, html_table
from antiphon.envs.signal import Description


def description_table(description: Description) -> str:
    """Return a table of an environment's signals, a row each."""
    rows = [
        [
            name,
            " x ".join(map(str, signal.shape)) or "–",
            "number" if signal.classes is None else f"one of {signal.classes}",
            "objectives and predictors" if signal.training_only else "agents too",
        ]
        for name, signal in description.signals.items()
    ]
    return html_table(("signal", "shape", "kind", "seen by"), rows, names=4)


class ShownSource:
    """A source of examples, whose repr and table name its signals."""

    description: Description
    """Signals, hold and splits of every environment made from it."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{split} {count:,}" for split, count in self.description.example_counts.items())
        return f"<{type(self).__name__} of {', '.join(self.description.signals)}{f': {counts}' if counts else ''}>"

    def _repr_html_(self) -> str:
        return html_of(repr(self), description_table(self.description))
