"""The window of a policy, with what its first pass has computed (rules 38 to 42, policies)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.policy_objectives import Advantages, PolicyLosses, Trajectory
from antiphon.engine.heart.window import Tick

MOVED_METRICS = ("approx_kl", "clip_fraction")
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
    first_pass_losses: PolicyLosses
    """What the first pass has computed of the objective, with its metrics."""
    further_metrics: list[dict[str, Tensor]] = field(default_factory=list)
    """The metrics of the further passes, by name, [N] each."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy moved are the mean over further passes."""
        if not self.further_metrics:
            return self.first_pass_losses.metrics
        mean_of_moved = {
            name: torch.stack([metrics[name] for metrics in self.further_metrics]).mean(0)
            for name in MOVED_METRICS
            if name in self.first_pass_losses.metrics
        }
        return self.first_pass_losses.metrics | mean_of_moved
