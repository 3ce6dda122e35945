"""Which learning rates are compared, and which is the best, by what a seed of its own has learned with each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

TUNED = 1000
"""The seed with which rates are compared."""


def compared(grid: Sequence[float], measured: Callable[[float], float | None]) -> list[float]:
    """Return the rates that are compared: those of a grid, then half the lowest or twice the highest while it is the best.

    Args:
        grid: Rates, from the lowest on; one alone is not compared.
        measured: What is to be small, by rate; None: it is not known yet.
    """
    rates = [*grid]
    while len(rates) > 1:
        known = {rate: found for rate in rates if (found := measured(rate)) is not None}
        best = min(known, key=known.__getitem__) if len(known) == len(rates) else None
        if best == rates[0]:
            rates.insert(0, rates[0] / 2)
        elif best == rates[-1]:
            rates.append(rates[-1] * 2)
        else:
            break
    return rates


def best_rate(grid: Sequence[float], measured: Callable[[float], float | None]) -> float | None:
    """Return the best of the rates that are compared; None: one is not known yet."""
    rates = compared(grid, measured)
    if len(rates) == 1:
        return rates[0]
    known = {rate: found for rate in rates if (found := measured(rate)) is not None}
    return min(known, key=known.__getitem__) if len(known) == len(rates) else None
