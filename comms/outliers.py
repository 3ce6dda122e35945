"""Outliers: gradients out of all proportion to those before them, which come when a recurrent network grows unstable."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from antiphon.comms.credit import clipped

__all__ = ["Outliers"]

_FACTOR = 10.0
_MEMORY = 0.99
_FIRST = 10
"""Batches from which the median is taken before anything is shortened."""


class Outliers:
    """Shortens per-sample gradients longer than ten times their running median.

    The median is that of each batch's lengths that are not zero, averaged over about the last hundred batches.

    Attributes:
        median: The running median; None before the first batch.
        seen: Batches it was taken from.
        bites: Samples shortened so far.
    """

    def __init__(self) -> None:
        self.median: float | None = None
        self.seen = 0
        self.bites = 0

    def shortened(self, delta: Tensor) -> Tensor:
        """Return gradients [B, size] with the outliers shortened, and take their lengths into account."""
        lengths = delta.norm(dim=1)
        middle = float(lengths[lengths > 0].median()) if lengths.any() else 0.0
        if not 0 < middle < math.inf:
            return (
                delta  # nothing has come back; or what is no number, which is none of this class's business
            )
        known = middle if self.median is None else self.median
        limit = _FACTOR * known
        over = int((lengths > limit).sum()) if self.seen >= _FIRST else 0
        self.median = _MEMORY * known + (1 - _MEMORY) * min(middle, limit)
        self.seen += 1
        if not over:
            return delta
        self.bites += over
        return clipped(delta, limit)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a fork or checkpoint needs."""
        return {"median": self.median, "seen": self.seen, "bites": self.bites}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.median, self.seen, self.bites = state["median"], state["seen"], state["bites"]
