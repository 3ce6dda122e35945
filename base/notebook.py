"""Results in a notebook: tables as HTML without scripts, in the notebook's own colours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_ROWS = 20
"""Most rows of a table."""


def html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, names: int = 1) -> str:
    """Return a table, empty where it has no rows.

    Args:
        rows: The cells as text; the first 20 rows are shown, and the others are counted.
        names: The columns on the left that are words; the others are numbers, aligned on the right.
    """
    shown = list(rows)
    if not shown:
        return ""
    body = [_row(cells, "td", names) for cells in (*shown[:_ROWS],)]
    more = f"<p>… and {len(shown) - _ROWS:,} more</p>" if len(shown) > _ROWS else ""
    return f"<table>{_row(heads, 'th', names)}{''.join(body)}</table>{more}"


def newest_table(
    heading: str,
    metrics: Mapping[str, Mapping[str, object]],
    shown: Sequence[str],
    *,
    words: Sequence[str] = (),
) -> str:
    """Return a table of metrics, a row by name: those of `shown` that some name has.

    Args:
        heading: Of the names.
        metrics: By name and metric.
        words: Further keys, which have words and come first: then names without metrics have rows too.
    """
    columns = [metric for metric in shown if any(metric in values for values in metrics.values())]
    rows = [
        [
            name,
            *(str(values[word]) for word in words),
            *(number(values.get(metric), metric) for metric in columns),
        ]
        for name, values in metrics.items()
        if words or any(metric in values for metric in columns)
    ]
    return html_table((heading, *words, *columns), rows, names=1 + len(words))


def signals_table(signals: Mapping[str, Tensor]) -> str:
    """Return an HTML table of the shapes, types and ranges of signals."""
    rows = [
        [
            name,
            str(value.dtype).removeprefix("torch."),
            str(list(value.shape)),
            *(number(bound.item()) for bound in (value.aminmax() if value.numel() else ())),
        ]
        for name, value in signals.items()
    ]
    return html_table(("signal", "type", "shape", "least", "most"), rows, names=3)


class MetricsByName(dict[str, dict[str, float]]):
    """Metrics of agents by name, in a notebook a table."""

    def _repr_html_(self) -> str:
        shown = dict.fromkeys(metric for values in self.values() for metric in values)
        return newest_table("agent", self, tuple(shown))


def html_of(title: str, *parts: str) -> str:
    """Return a title in bold, and tables and drawings below it."""
    return "\n".join([f"<div><b>{escape(title)}</b></div>", *filter(None, parts)])


def number(value: object, metric: str = "") -> str:
    """Format a number of a table with four digits, a count in full, an accuracy in per cent; what is no number is a dash."""
    if not isinstance(value, int | float):
        return "–"
    if metric.endswith("accuracy"):
        return f"{100 * value:.2f} %"
    count = math.isfinite(value) and value == int(value) and abs(value) >= 1
    return f"{value:,.0f}" if count else f"{value:.4g}"


def _row(cells: Sequence[str], tag: str, names: int) -> str:
    def style(column: int) -> str:
        return ' style="text-align: left"' if column < names else ""

    inner = "".join(f"<{tag}{style(i)}>{escape(cell)}</{tag}>" for i, cell in enumerate(cells))
    return f"<tr>{inner}</tr>"
