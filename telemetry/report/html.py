"""HTML and SVG as escaped text, so that names never become markup, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

__all__ = [
    "METRICS",
    "Html",
    "drawing",
    "element",
    "figure",
    "interval",
    "joined",
    "legend_entry",
    "number",
    "scored",
    "seconds",
    "section",
    "signed",
    "size",
    "table",
]

_EMPTY = {"img", "path", "rect", "circle"}
"""Void elements."""


class Html(str):
    """Text that is markup already; any other text is escaped where it is put into an element."""

    __slots__ = ()


def joined(parts: Iterable[str | None], between: str = "") -> Html:
    """Concatenate parts, with plain text escaped; None is left out."""
    return Html(between.join(_markup(part) for part in parts if part is not None))


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        children: Plain text, which is escaped, or markup; None is left out.
        attributes: A `_` at the end of a name is left out, any other becomes `-`; None: no such attribute.
    """
    given = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if tag in _EMPTY:
        return Html(f"<{tag}{given}/>")
    return Html(f"<{tag}{given}>{joined(children)}</{tag}>")


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[int] = (),
) -> Html:
    """Return a table that scrolls on its own where it is too wide.

    Args:
        headings: Of the columns.
        rows: Their cells, plain text or markup; the first heads its row.
        numbers: Which columns hold numbers.
    """
    kinds = ["number" if place in numbers else None for place in range(len(headings))]
    heads = [
        element("th", text, scope="col", class_=kind) for text, kind in zip(headings, kinds, strict=True)
    ]
    lines = []
    for row in rows:
        first, *others = row
        cells = [element("td", cell, class_=kind) for cell, kind in zip(others, kinds[1:], strict=True)]
        lines.append(element("tr", element("th", first, scope="row", class_=kinds[0]), *cells))
    head = element("thead", element("tr", *heads))
    return element("div", element("table", head, element("tbody", *lines)), class_="scroll")


def figure(drawing: Html, title: str, says: str | None = None, caution: str | None = None) -> Html:
    """Return a drawing under its title, with a sentence and a caution below it."""
    below = [element("p", text, class_=kind) for text, kind in ((says, "says"), (caution, "caution")) if text]
    return element("figure", element("figcaption", title), drawing, *below)


def drawing(
    parts: Iterable[str | None],
    title: str,
    box: tuple[float, float, float, float],
    *,
    kind: str = "chart",
    sized: bool = False,
) -> Html:
    """Return an SVG of parts in a box (left, top, width, height); `title` is its text alternative.

    It is as wide as the page, or where it is `sized` as wide as its box, in pixels.
    """
    return element(
        "svg",
        joined(parts),
        viewBox=" ".join(f"{side:.0f}" for side in box),
        width=f"{box[2]:.0f}" if sized else None,
        role="img",
        aria_label=title,
        class_=f"{kind} sized" if sized else kind,
    )


def legend_entry(sample: Html, width: int, text: str) -> Html:
    """Return an entry of a legend: a sample drawn in `width` x 12 pixels, and its text."""
    key = element("svg", sample, viewBox=f"0 0 {width} 12", width=str(width), height="12", aria_hidden="true")
    return element("li", key, element("span", text))


def section(name: str, title: str, says: str, *content: str | None) -> Html:
    """Return a section of the report with its anchor, its title and its description in one or two plain sentences."""
    return element("section", element("h2", title), element("p", says, class_="says"), *content, id=name)


def _markup(part: str) -> str:
    return part if isinstance(part, Html) else escape(part)


def _plain(value: str | float) -> str:
    """Format an attribute; lengths are rounded to a hundredth of a pixel."""
    return f"{round(value, 2):g}" if isinstance(value, float) else str(value)


METRICS = ("accuracy", "error", "bits", "return")
"""Metrics of objectives, in order of display."""
_DASH = "–"


def number(value: Any, digits: int = 3) -> str:
    """Format a number to a number of significant digits; `–` for None or nan."""
    if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
        return _DASH
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e7 or size < 1e-4:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    if size >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    places = max(digits - 1 - math.floor(math.log10(size)), 0)
    return f"{value:.{places}f}".replace("-", "−")


def interval(low: float, high: float) -> str:
    """Format the ends of an interval."""
    return f"[{number(low)}, {number(high)}]"


def signed(value: Any) -> str:
    """Format a change, with its sign."""
    text = number(value)
    return f"+{text}" if isinstance(value, int | float) and value > 0 else text


def scored(metric: str, value: Any) -> str:
    """Format a metric: shares in percent."""
    if metric == "accuracy" and isinstance(value, int | float) and math.isfinite(value):
        return f"{100 * value:.2f} %"
    return number(value)


def size(count: int) -> str:
    """Format a number of bytes with a unit."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min(max(len(str(count)) - 1, 0) // 3, len(units) - 1)
    return f"{number(count / 1000**power)} {units[power]}" if power else f"{count} B"


def seconds(value: Any) -> str:
    """Format a duration."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _DASH
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
