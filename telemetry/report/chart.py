"""Charts as SVG: lines with bands, and bars with intervals. Colours are CSS classes, for light and dark themes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.report.html import Html, drawing, element, interval, legend_entry, number

__all__ = ["STYLES", "Axis", "Bar", "Line", "bars", "legend", "lines", "words"]

Values = NDArray[np.float64]

STYLES = 8
"""Number of styles; further lines repeat them."""
_WIDTH, _HEIGHT = 360, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 10, 8, 36
_POINTS = 400
"""Most points of a line; more are not visible in its width."""
_DECADES = 2.5
"""Decades of an axis beyond which it is logarithmic."""
_DOTTED = 25
"""Most points of a line with markers."""
_BAR, _PLOT = 19, 220
_BAR_TOP, _BAR_BOTTOM = 4, 36
_LETTER = 6.4
"""Width of a letter of a chart, in pixels, at most on average."""
_LONGEST = 48
"""Characters of a name beside a bar."""


@dataclass(frozen=True)
class Line:
    """A curve with a band.

    Attributes:
        name: In the legend.
        style: Its colour and dashes, by number.
        steps: [points].
        middle: [points]; nan where there is none.
        low: [points], the band's lower edge; None: no band.
        high: [points].
    """

    name: str
    style: int
    steps: Values
    middle: Values
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        name: Of the bar.
        value: Its length; None: no value.
        low: Lower end of its interval; None: no interval.
        high: Upper end.
        weak: Whether it is drawn pale: its interval holds 0.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    weak: bool = False


def words(text: str, most: int) -> str:
    """Return a text, shortened in its middle if it is longer than so many characters."""
    if len(text) <= most:
        return text
    head = (most - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def lines(curves: Sequence[Line], *, across: str, title: str) -> Html:
    """Draw curves over steps; at least one has a finite point somewhere. `title` is the text alternative."""
    thin = [_thinned(curve) for curve in curves]
    x = _range(np.concatenate([curve.steps for curve in thin]), _LEFT, _WIDTH - _RIGHT)
    y = _height(thin)
    bands = (_band(curve, x, y) for curve in thin)
    parts = [*_grid(x, y, across), *bands, *(_stroke(curve, x, y) for curve in thin)]
    return drawing(parts, title, (0, 0, _WIDTH, _HEIGHT))


def legend(entries: Iterable[tuple[str, int]]) -> Html:
    """Return the legend of the lines, (name, style) each."""
    found = []
    for name, style in entries:
        sample = element("path", d="M1 6H27", class_=_line_class(style))
        found.append(legend_entry(sample, 28, name))
    return element("ul", *found, class_="legend")


def bars(rows: Sequence[Bar], *, across: str, title: str, marks: Sequence[float] = (0.0,)) -> Html:
    """Draw bars one under the other, each from zero, with its interval.

    An interval that reaches much farther than all values is cut at the edge, and ends in an arrow there.

    Args:
        rows: From the top.
        across: Label of the axis.
        title: Text alternative of the chart.
        marks: Values with a reference line.
    """
    values = [0.0, *marks, *(row.value for row in rows if row.value is not None)]
    span = (max(values) - min(values)) or 1.0
    ends = [end for row in rows for end in (row.low, row.high) if end is not None and math.isfinite(end)]
    low = max(min([*values, *ends]), min(values) - span)
    high = min(max([*values, *ends]), max(values) + span)
    pad = 0.02 * (high - low)
    names = 14 + _LETTER * max(len(words(row.name, _LONGEST)) for row in rows)
    figures = 14 + _LETTER * max(len(_figures(row)) for row in rows)
    x = Axis(low - pad * (low < 0), high + pad, names, names + _PLOT, most=6)
    bottom = _BAR_TOP + _BAR * len(rows)
    parts = []
    for value, text in x.ticks().items():
        parts.append(element("path", d=f"M{x.at(value):.1f} {_BAR_TOP}V{bottom}", class_="grid"))
        parts.append(_text(text, x.at(value), bottom + 16, "middle"))
    parts += [element("path", d=f"M{x.at(at):.1f} {_BAR_TOP}V{bottom}", class_="axis") for at in marks]
    parts.append(_text(across, names + _PLOT / 2, bottom + 31, "middle"))
    parts += [part for place, row in enumerate(rows) for part in _bar(row, x, names, _BAR_TOP + _BAR * place)]
    return drawing(parts, title, (0, 0, names + _PLOT + figures, bottom + _BAR_BOTTOM), sized=True)


def _figures(row: Bar) -> str:
    """Return a bar's number, with its interval where it has one."""
    text = "undefined" if row.value is None else number(row.value)
    return text if row.low is None or row.high is None else f"{text} {interval(row.low, row.high)}"


def _bar(row: Bar, x: Axis, names: float, top: float) -> Iterable[Html]:
    middle = top + _BAR / 2
    yield _text(words(row.name, _LONGEST), names - 8, middle + 4, "end", row.name)
    yield _text(_figures(row), names + _PLOT + 8, middle + 4, "start")
    if row.value is None:
        return
    start, end = sorted((x.at(0.0), x.at(row.value)))
    kind = "bar" + (" less" if row.value < 0 else "") + (" weak" if row.weak else "")
    width = max(end - start, 1.0)
    yield element("rect", x=start, y=top + 4, width=width, height=_BAR - 8, class_=kind)
    if row.low is None or row.high is None:
        return
    left, right = x.at(row.low), x.at(row.high)
    path = f"M{left:.1f} {middle:.1f}H{right:.1f}"
    for end, number_, inward in ((left, row.low, 5), (right, row.high, -5)):
        cut = not x.low <= number_ <= x.high
        path += (
            f"M{end + inward:.1f} {middle - 4:.1f}L{end:.1f} {middle:.1f}L{end + inward:.1f} {middle + 4:.1f}"
            if cut
            else f"M{end:.1f} {middle - 4:.1f}v8"
        )
    yield element("path", d=path, class_="whisker")


# --- lines --------------------------------------------------------------------------------------------------


def _thinned(curve: Line) -> Line:
    count = len(curve.steps)
    if count <= _POINTS:
        return curve
    kept = np.linspace(0, count - 1, _POINTS).round().astype(int)
    low = None if curve.low is None else curve.low[kept]
    high = None if curve.high is None else curve.high[kept]
    return Line(curve.name, curve.style, curve.steps[kept], curve.middle[kept], low, high)


def _range(values: Values, start: float, end: float) -> Axis:
    return Axis(float(values.min()), float(values.max()), start, end)


def _height(curves: Sequence[Line]) -> Axis:
    edges = [edge for curve in curves for edge in (curve.middle, curve.low, curve.high) if edge is not None]
    values = np.concatenate(edges)
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    top, bottom = _TOP, _HEIGHT - _BOTTOM
    middles = np.concatenate([curve.middle for curve in curves])
    middles = middles[np.isfinite(middles)]
    if middles.min() > 0 and math.log10(middles.max() / middles.min()) > _DECADES:
        return Axis(float(middles.min()) * 0.8, max(high, float(middles.max())) * 1.2, bottom, top, log=True)
    pad = 0.04 * (high - low)
    return Axis(0.0 if 0 <= low < 0.35 * high else low - pad, high + pad, bottom, top)


def _grid(x: Axis, y: Axis, across: str) -> Iterable[Html]:
    bottom = _HEIGHT - _BOTTOM
    for value, text in y.ticks().items():
        yield element("path", d=f"M{_LEFT} {y.at(value):.1f}H{_WIDTH - _RIGHT}", class_="grid")
        yield _text(text, _LEFT - 6, y.at(value) + 4, "end")
    for value, text in x.ticks().items():
        yield element("path", d=f"M{x.at(value):.1f} {bottom}v4", class_="axis")
        yield _text(text, x.at(value), bottom + 17, "middle")
    yield element("path", d=f"M{_LEFT} {bottom}H{_WIDTH - _RIGHT}", class_="axis")
    yield _text(across, (_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 5, "middle")


def _stroke(curve: Line, x: Axis, y: Axis) -> Html:
    pieces, dots = [], []
    found = np.isfinite(curve.middle).tolist()
    for place in np.flatnonzero(found):
        at = f"{x.at(curve.steps[place]):.1f} {y.at(curve.middle[place]):.1f}"
        down = place > 0 and found[place - 1]
        alone = not down and not (place + 1 < len(found) and found[place + 1])
        if alone or len(found) <= _DOTTED:  # a point without neighbours would not be visible as a line
            dots.append(f"M{at}h0")
        pieces.append(f"{'L' if down else 'M'}{at}")
    paths = [element("path", d="".join(pieces), class_=_line_class(curve.style))]
    paths += [element("path", d="".join(dots), class_=f"dot c{curve.style % STYLES}")] if dots else []
    return element("g", element("title", curve.name), *paths)


def _band(curve: Line, x: Axis, y: Axis) -> Html | None:
    """Draw the band, a piece for each stretch of points that have one."""
    if curve.low is None or curve.high is None:
        return None
    sound = np.isfinite(curve.low) & np.isfinite(curve.high)
    path = ""
    for run in np.split(np.arange(len(sound)), np.flatnonzero(np.diff(sound.astype(int))) + 1):
        if len(run) < 2 or not sound[run[0]]:
            continue
        there = [f"{x.at(curve.steps[i]):.1f} {y.at(curve.high[i]):.1f}" for i in run]
        back = [f"{x.at(curve.steps[i]):.1f} {y.at(curve.low[i]):.1f}" for i in run[::-1]]
        path += f"M{'L'.join([*there, *back])}Z"
    return element("path", d=path, class_=f"band f{curve.style % STYLES}") if path else None


def _line_class(style: int) -> str:
    return f"line c{style % STYLES} d{style % STYLES}"


def _text(text: str, x: float, y: float, anchor: str, whole: str | None = None) -> Html:
    title = element("title", whole) if whole is not None and whole != text else None
    return element("text", title, text, x=float(x), y=float(y), text_anchor=anchor)


class Axis:
    """One axis: from numbers to places, with ticks.

    Args:
        low: Lower end of the range.
        high: Upper end.
        start: Position of the lower end, in pixels.
        end: Position of the upper end.
        log: Whether the axis is logarithmic; `low` is then above 0.
        most: Ticks, at most.
    """

    def __init__(
        self, low: float, high: float, start: float, end: float, *, log: bool = False, most: int = 6
    ) -> None:
        if not high > low:
            low, high = (
                (low / 2, low * 2) if log else (low - max(abs(low), 1) / 2, low + max(abs(low), 1) / 2)
            )
        self.low, self.high, self.log, self.most = low, high, log, most
        self._start, self._end = start, end

    def at(self, value: float) -> float:
        """Return the position of a number, in pixels, clamped to the axis."""
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(max(value, low)), math.log(low), math.log(high)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> dict[float, str]:
        """Return round numbers as ticks, with their labels."""
        return self._decades() if self.log else self._steps()

    def _steps(self) -> dict[float, str]:
        rough = (self.high - self.low) / max(self.most - 1, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * nice for nice in (1, 2, 5, 10) if power * nice >= rough * 0.999)
        places = max(-math.floor(math.log10(step) + 1e-9), 0)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        found = [round(step * count, 12) for count in range(first, last + 1)]
        largest = max(map(abs, found), default=0.0)
        if largest >= 1e7 or 0 < largest < 1e-3:
            power = math.floor(math.log10(largest) + 1e-9)
            digits = max(power - math.floor(math.log10(step) + 1e-9), 0)
            return {value: _scientific(value, power, digits) for value in found}
        return {value: f"{value:,.{places}f}".replace("-", "−") for value in found}

    def _decades(self) -> dict[float, str]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        marks = (1, 2, 5) if last - first <= 2 else (1,)
        every = max(-(-(last - first) // self.most), 1)
        found = [mark * 10.0**power for power in range(first, last + 1, every) for mark in marks]
        return {v: number(v, 1) for v in found if self.low <= v * 1.0001 and v <= self.high * 1.0001}


def _scientific(value: float, power: int, digits: int) -> str:
    """Format a tick with the power of ten that all ticks of its axis have."""
    return f"{value / 10.0**power:.{digits}f}e{power}".replace("-", "−") if value else "0"
