"""A policy's window: what was done in it, what followed, and what each pass over it gives (semantics 38-42)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.policy_objectives import Advantages, PolicyLosses, Trajectory
from antiphon.engine.heart.message import Tick

MOVED = ("approx_kl", "clip_fraction")
"""The metrics of `ppo` that say how far a policy has moved since the first pass."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyWindow:
    """A policy over a window, as its first pass found it: constants that further passes keep."""

    ticks: Sequence[Tick]
    """Its ticks."""
    trajectory: Trajectory
    """What was done, and what followed."""
    advantages: Advantages
    """Of its ticks."""
    first: PolicyLosses
    """The first pass."""
    further: list[dict[str, Tensor]] = field(default_factory=list)
    """The metrics of the further passes, by name, [N] each."""

    @property
    def figures(self) -> dict[str, Tensor]:
        """Metrics by name, [N]: of the first pass, but for how far the policy moved, a mean over the further ones."""
        if not self.further:
            return self.first.figures
        moved = {
            name: torch.stack([metrics[name] for metrics in self.further]).mean(0)
            for name in MOVED
            if name in self.first.figures
        }
        return self.first.figures | moved
