"""Outliers: gradients out of all proportion to those before them, which come when a recurrent network grows unstable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.credit import clipped

__all__ = ["BundledOutliers", "Outliers"]

_FACTOR = 10.0
_MEMORY = 0.99
_FIRST = 10
"""Batches in the median before any gradient is clipped."""


class Outliers:
    """Clip per-sample gradients to ten times the running median of their norms.

    The median is that of each batch's lengths that are not zero, averaged over about the last hundred batches.

    Attributes:
        median: The running median; None before the first batch.
        batches: Batches it was taken from.
        clip_count: Samples clipped so far.
    """

    def __init__(self) -> None:
        self.median: float | None = None
        self.batches = 0
        self.clip_count = 0

    def clip(self, delta: Tensor) -> Tensor:
        """Return gradients [B, size] with outliers clipped, and update the running median."""
        lengths = delta.norm(dim=1)
        middle = float(lengths[lengths > 0].median()) if lengths.any() else 0.0
        if not 0 < middle < math.inf:
            return delta  # all zero, or not finite: other checks report that
        known = middle if self.median is None else self.median
        limit = _FACTOR * known
        over = int((lengths > limit).sum()) if self.batches >= _FIRST else 0
        self.median = _MEMORY * known + (1 - _MEMORY) * min(middle, limit)
        self.batches += 1
        if not over:
            return delta
        self.clip_count += over
        return clipped(delta, limit)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a fork or checkpoint needs."""
        return {"median": self.median, "seen": self.batches, "bites": self.clip_count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state returned by `state_dict`."""
        self.median, self.batches, self.clip_count = state["median"], state["seen"], state["bites"]


class BundledOutliers:
    """K stacked `Outliers`, on gradients [K B, size]; clipping never synchronises host and device.

    Args:
        members: Source of the initial state; `write_members` copies the state back.

    Attributes:
        median: [K] float64; NaN before the first batch.
        batches: [K] int64.
        clip_count: [K] int64.
    """

    def __init__(self, members: Sequence[Outliers]) -> None:
        self.members = list(members)
        self.read_members()

    def read_members(self) -> None:
        """Stack the members' state."""
        medians = [math.nan if one.median is None else one.median for one in self.members]
        self.median = torch.tensor(medians, dtype=torch.float64)
        self.batches = torch.tensor([one.batches for one in self.members])
        self.clip_count = torch.tensor([one.clip_count for one in self.members])

    def write_members(self) -> None:
        """Write the state to the members."""
        state = zip(
            self.members, self.median.tolist(), self.batches.tolist(), self.clip_count.tolist(), strict=True
        )
        for one, median, batches, clip_count in state:
            one.median, one.batches, one.clip_count = median if batches else None, batches, clip_count

    def clip(self, delta: Tensor, members: Tensor | None = None) -> Tensor:
        """Return gradients [K B, size] with outliers clipped, and update the running medians.

        Args:
            members: [K] bool, the members with a returned gradient; None: all. The rows of the others are unchanged.
        """
        if self.median.device != delta.device:
            self.median, self.batches, self.clip_count = (
                state.to(delta.device) for state in (self.median, self.batches, self.clip_count)
            )
        lengths = delta.norm(dim=1).view(len(self.members), -1)
        middle = _lower_median(lengths).double()
        sound = (middle > 0) & (middle < math.inf)
        if members is not None:
            sound = sound & members.to(delta.device)
        known = torch.where(self.batches > 0, self.median, middle)
        limit = _FACTOR * known
        reach = limit.to(lengths.dtype).unsqueeze(1)
        over = (lengths > reach) & (sound & (self.batches >= _FIRST)).unsqueeze(1)
        updated = _MEMORY * known + (1 - _MEMORY) * torch.minimum(middle, limit)
        self.median = torch.where(sound, updated, self.median)
        self.batches = self.batches + sound
        self.clip_count = self.clip_count + over.sum(1)
        short = (lengths.maximum(reach).reciprocal() * reach).view(-1, 1)
        return torch.where(over.view(-1, 1), delta * short, delta)


def _lower_median(lengths: Tensor) -> Tensor:
    """Return the median of the lengths [K, B] that are greater than zero, [K]; infinite where there is none.

    Of an even number it is the lower of the two in the middle, as torch's median is.
    """
    counts = lengths > 0
    ordered = torch.where(counts, lengths, math.inf).sort(1).values
    place = (counts.sum(1, keepdim=True) - 1).clamp_min(0) // 2
    return ordered.gather(1, place).squeeze(1)
