"""Divergence: what is not finite, or too long, never reaches a parameter (semantics 32)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.errors import DivergenceError

__all__ = ["Divergence"]


@dataclass
class Divergence:
    """Finds what has diverged, and says what follows.

    Attributes:
        quarantine: Whether the others go on; else a divergence is an error.
        bound: The largest norm that is none; None: any finite.
        events: What has been put into quarantine: (step, one line).
    """

    quarantine: bool = False
    bound: float | None = None
    events: list[tuple[int, str]] = field(default_factory=list)

    def of(
        self, gradients: Mapping[str, Sequence[Tensor | None]], losses: Mapping[str, Tensor] | None = None
    ) -> list[str]:
        """Return the names whose gradients or loss are not finite, or whose gradients are longer than the bound.

        All are looked at in one go; only where something is wrong, or there is a bound, one by one.
        """
        present = {name: [t for t in found if t is not None] for name, found in gradients.items()}
        losses = losses or {}
        every = [*losses.values(), *(t for found in present.values() for t in found)]
        if not every:
            return []
        if self.bound is None and math.isfinite(torch.stack(torch._foreach_norm(every)).sum().item()):
            return []
        return [
            name
            for name, found in present.items()
            if self._too_long(found) or not _finite([*found, *([losses[name]] if name in losses else [])])
        ]

    def _too_long(self, gradients: Sequence[Tensor]) -> bool:
        if self.bound is None or not gradients:
            return False
        return float(torch.stack(torch._foreach_norm(list(gradients))).norm()) > self.bound

    def report(self, step: int, line: str) -> None:
        """Note a quarantine, or raise.

        Raises:
            DivergenceError: There is no quarantine.
        """
        if not self.quarantine:
            raise DivergenceError(line)
        self.events.append((step, line))


def _finite(tensors: Sequence[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)
