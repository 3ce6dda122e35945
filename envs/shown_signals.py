"""What a notebook shows of environments: the signals as a table."""

from __future__ import annotations

from antiphon.base.notebook import html_table
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
