"""Rewards of a policy: what it learns from, in place of a target (semantics 38, 39)."""

from __future__ import annotations

from dataclasses import dataclass

from antiphon.envs.signal import ENDS, OUTCOMES
from antiphon.nets.per_member import PerMember

COSINE = "goal.cosine"
"""The reward for moving a signal in the direction that a message points to."""


@dataclass(frozen=True, slots=True)
class Direction:
    """What the reward `goal.cosine` is made of."""

    place: int
    """Of the channel among the agent's incoming ones: its message is the direction."""
    signal: str
    """What moves."""


@dataclass(frozen=True, slots=True)
class Rewards:
    """The rewards whose weighted sum is a policy's own."""

    names: tuple[str, ...]
    weights: tuple[PerMember, ...]
    """In the order of the names."""
    direction: Direction | None = None
    """Of a policy with the reward `goal.cosine`."""
    ends: tuple[str, str] = ENDS
    """The signals of the ends of its episodes, which may be its own agent's in the environment."""
    life: str | None = None
    """The reward of its own agent in the environment, which is present as long as that lives; None: its rewards are."""
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
        life = () if self.life is None else (self.life,)
        turn = () if self.turn is None else (self.turn,)
        # masks are of use where the rewards themselves are not
        return *rewards, *OUTCOMES, *self.ends, *life, *turn, *moves
