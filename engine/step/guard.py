"""The guard: what is not finite reaches no parameter, and the host waits for no number to know it (semantics 32).

On a GPU every look at a number stops the stream of work. There a step that is not sound is skipped by the optimisers
themselves, on the device, and so is every step after it; at the next sync it is said who it was, and when.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Guard"]


class Guard:
    """Remembers on the device the first step at which something was not finite.

    Args:
        device: Where.

    Attributes:
        tripped: [] float32: 1 from that step on; what optimisers are told to skip by.
        step: [] int64: that step; -1: none.
        who: By cohort or bundle, [N] bool: whose numbers they were.
    """

    def __init__(self, device: torch.device) -> None:
        self.tripped = torch.zeros((), device=device)
        self.step = torch.full((), -1, dtype=torch.int64, device=device)
        self.names: dict[str, Tensor] = {}

    def look(self, name: str, count: int, numbers: Sequence[Tensor | None], step: int) -> None:
        """Look at the numbers of a cohort's or bundle's members, on the device.

        Args:
            name: Of the cohort or bundle.
            count: N.
            numbers: [N, …], or rows, each.
            step: The step.
        """
        found = [t.reshape(count, -1).isfinite().all(1) for t in numbers if t is not None]
        if not found:
            return
        broken = torch.logical_not(torch.stack(found).all(0))
        first = self.tripped == 0
        known = self.names.get(name)
        mine = broken & (first | (self.step == step))
        self.names[name] = mine if known is None else known | mine
        self.step = torch.where(first & broken.any(), step, self.step)
        self.tripped = torch.maximum(self.tripped, broken.any().to(self.tripped.dtype))

    def frozen(self, before: Tensor, after: Tensor) -> Tensor:
        """Return `after`, or `before` once something was not finite."""
        return torch.where(self.tripped > 0, before, after)

    def read(self) -> tuple[int, dict[str, list[int]]] | None:
        """Wait for the device; return the step and the members, by cohort or bundle; None: all is well."""
        if not float(self.tripped):
            return None
        return int(self.step), {
            name: members
            for name, mask in self.names.items()
            if (members := mask.nonzero().flatten().tolist())
        }
