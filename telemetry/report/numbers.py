"""Formatting of numbers, and tick positions on an axis."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["METRICS", "Axis", "number", "scored", "seconds", "signed"]

METRICS = ("accuracy", "error", "bits")
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


def signed(value: Any, digits: int = 3) -> str:
    """Format a change, with its sign."""
    text = number(value, digits)
    return f"+{text}" if isinstance(value, int | float) and value > 0 else text


def scored(metric: str, value: Any) -> str:
    """Format a metric: shares in percent."""
    if metric in ("accuracy",) and isinstance(value, int | float) and math.isfinite(value):
        return f"{100 * value:.2f} %"
    return number(value)


def seconds(value: Any) -> str:
    """Format a duration."""
    if not isinstance(value, int | float) or not math.isfinite(value):
        return _DASH
    if value < 100:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


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
            digits = max(math.ceil(math.log10(largest / step) - 1e-9) + 1, 2)
            return {value: number(value, digits) for value in found}
        return {value: f"{value:,.{places}f}".replace("-", "−") for value in found}

    def _decades(self) -> dict[float, str]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        marks = (1, 2, 5) if last - first <= 2 else (1,)
        every = max(-(-(last - first) // self.most), 1)
        found = [mark * 10.0**power for power in range(first, last + 1, every) for mark in marks]
        return {v: f"{v:g}" for v in found if self.low <= v * 1.0001 and v <= self.high * 1.0001}
