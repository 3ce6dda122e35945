"""Outliers: gradients out of all proportion to those before them, which come when a recurrent network grows unstable."""

from __future__ import annotations

from typing import Any

import torch
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
        median: The running median, a scalar; None before the first batch.
        seen: Batches it was taken from.
        bites: Samples shortened so far.
    """

    def __init__(self) -> None:
        self.median: Tensor | None = None
        self.seen = 0
        self.bites = 0

    def shortened(self, delta: Tensor) -> Tensor:
        """Return gradients [B, size] with the outliers shortened, and take their lengths into account."""
        lengths = delta.norm(dim=1)
        there = lengths[lengths > 0]
        if not len(there) or not bool(there.isfinite().all()):
            return delta  # what is no number is a divergence, and none of this class's business
        middle = there.median()
        if self.median is None:
            self.median = middle
        limit = _FACTOR * self.median
        over = int((lengths > limit).sum()) if self.seen >= _FIRST else 0
        self.seen += 1
        self.median = torch.lerp(middle.clamp_max(limit), self.median, _MEMORY)
        if not over:
            return delta
        self.bites += over
        return clipped(delta, float(limit))

    def state_dict(self) -> dict[str, Any]:
        """Return all that a fork or checkpoint needs."""
        return {"median": self.median, "seen": self.seen, "bites": self.bites}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.median, self.seen, self.bites = state["median"], state["seen"], state["bites"]
