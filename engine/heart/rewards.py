"""What a policy learns from in place of a target: its rewards, and its window (rules 38 to 42, policies)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.policy_objectives import Advantages, PolicyLosses, Trajectory
from antiphon.engine.heart.window import Tick
from antiphon.envs.signal import ENDS, OUTCOMES
from antiphon.nets.per_member import PerMember

COSINE = "goal.cosine"
"""The reward for moving a signal in the direction that a message points to."""


@dataclass(frozen=True, slots=True)
class Direction:
    """The message and the signal that the reward `goal.cosine` compares."""

    place: int
    """The place, among the agent's incoming channels, of the one whose message is the direction."""
    signal: str
    """The name of the signal that moves."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards whose weighted sum a policy learns from."""

    names: tuple[str, ...]
    weights: tuple[PerMember, ...]
    """The weights, in the order of the names."""
    direction: Direction | None = None
    """What the reward `goal.cosine` is made of; None: it is not among the names."""
    ends: tuple[str, str] = ENDS
    """The signals of the ends of its episodes, which may be its own agent's in the environment."""
    life_reward: str | None = None
    """The reward of the agent that it acts for, which is present as long as that lives; None: its rewards are present as long."""
    turn: str | None = None
    """The signal of the turns of the agent that it acts for; None: it acts at every tick."""

    @property
    def by_name(self) -> dict[str, PerMember]:
        """The weights by name."""
        return dict(zip(self.names, self.weights, strict=True))

    @property
    def signals(self) -> tuple[str, ...]:
        """Names of the signals that a policy reads."""
        rewards = [name for name in self.names if name != COSINE]
        moves = () if self.direction is None else (self.direction.signal,)
        life = () if self.life_reward is None else (self.life_reward,)
        turn = () if self.turn is None else (self.turn,)
        # some are read for their masks alone
        return *rewards, *OUTCOMES, *self.ends, *life, *turn, *moves


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
    further_metrics: list[dict[str, Tensor]] = field(default_factory=list)
    """The metrics of the further passes, by name, [N] each."""

    @property
    def metrics(self) -> dict[str, Tensor]:
        """The metrics of the first pass, [N], by name; those of how far the policy moved are the mean over further passes."""
        if not self.further_metrics:
            return self.first.metrics
        moved = {
            name: torch.stack([metrics[name] for metrics in self.further_metrics]).mean(0)
            for name in MOVED
            if name in self.first.metrics
        }
        return self.first.metrics | moved
