"""The window of a policy, with what its first pass has computed (rules 38 to 42, policies)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from antiphon.agents.policy_objectives import Advantages, Moved, PolicyLosses, Trajectory
from antiphon.engine.heart.window import Tick


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
    moved: list[Moved] = field(default_factory=list)
    """Of `ppo`: how far each further pass found the policy from that of the first."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy moved are the mean over further passes."""
        first = self.first_pass_losses
        moved = self.moved or ([] if first.moved is None else [first.moved])
        return Moved.metrics(moved) | first.metrics if moved else first.metrics
