"""A policy's window: actions, rewards and advantages, and the metrics of each pass over it (semantics 38-42)."""

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
    """A policy's window, with the constants that its first pass has computed and further passes keep."""

    ticks: Sequence[Tick]
    """The ticks of the agent in the window."""
    trajectory: Trajectory
    """The actions, and the rewards and ends of episodes that followed."""
    advantages: Advantages
    """The advantages of its ticks."""
    first: PolicyLosses
    """The losses of the first pass."""
    further: list[dict[str, Tensor]] = field(default_factory=list)
    """The metrics of the further passes, by name, [N] each."""

    @property
    def figures(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy moved are the mean over further passes."""
        if not self.further:
            return self.first.figures
        moved = {
            name: torch.stack([metrics[name] for metrics in self.further]).mean(0)
            for name in MOVED
            if name in self.first.figures
        }
        return self.first.figures | moved
