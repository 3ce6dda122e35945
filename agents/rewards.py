"""Rewards, which a policy learns from in place of a target (rules 38 to 42, policies)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # scenarios import this file, and load no torch
    from antiphon.nets.per_member import PerMember

COSINE = "goal.cosine"
"""The reward for moving a signal in the direction that a message points to."""


@dataclass(frozen=True, slots=True)
class Direction:
    """The message and the signal that the reward `goal.cosine` compares."""

    channel_index: int
    """Among the agent's incoming channels: of the one whose message is the direction."""
    signal_name: str


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards whose weighted sum a policy learns from."""

    names: tuple[str, ...]
    weights: tuple[PerMember, ...]
    end_names: tuple[str, str]
    """The signals of the ends of its episodes, which may be its own agent's in the environment."""
    direction: Direction | None = None
    """What the reward `goal.cosine` is made of; None: it is not among the names."""
    life_reward_name: str | None = None
    """The reward of the agent that it acts for, which is present as long as that lives; None: its rewards are present as long."""
    may_act_signal_name: str | None = None
    """The signal that is 1 where the agent that it acts for may act, and 0 elsewhere; None: it may act at every tick."""

    @property
    def weight_by_name(self) -> dict[str, PerMember]:
        return dict(zip(self.names, self.weights, strict=True))

    @property
    def signal_names(self) -> tuple[str, ...]:
        """Names of the signals that a policy reads, beside those of any step's outcome."""
        rewards = [name for name in self.names if name != COSINE]
        moved = None if self.direction is None else self.direction.signal_name
        others = self.life_reward_name, self.may_act_signal_name, moved
        return *rewards, *self.end_names, *(name for name in others if name is not None)
