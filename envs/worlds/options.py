"""Validated options of the worlds, and their descriptions. Needs no torch.

An invalid value raises a ScenarioError, whose message names key, value and fix.
"""

from __future__ import annotations

from dataclasses import dataclass

from gymnasium.spaces import Discrete

from antiphon.envs.options import check_choice, check_whole
from antiphon.envs.signal import Description, Signal

__all__ = ["CartPoleOptions", "KeyDoorOptions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CartPoleOptions:
    """Options of the pole on a cart."""

    limit: int = 500
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_whole("limit", self.limit, 1, None)

    def description(self) -> Description:
        """Return signals and action space."""
        signals = {"observation": Signal(shape=(4,))}
        signals |= {
            name: Signal(shape=(1,)) for name in ("position", "velocity", "angle", "angular_velocity")
        }
        return Description(signals=signals, example_counts={}, action_space=Discrete(2))


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyDoorOptions:
    """Options of the room with a key and a door."""

    size: int = 13
    """Cells along each side of the room."""
    start: str = "middle"
    """Where an episode begins: `middle`, or `random`, any cell."""
    limit: int = 100
    """Steps after which an episode is truncated."""

    def __post_init__(self) -> None:
        check_whole("size", self.size, 5, 1001)
        check_choice("start", self.start, ("middle", "random"))
        check_whole("limit", self.limit, 1, None)

    def description(self) -> Description:
        """Return signals and action space."""
        signals = {
            "observation": Signal(shape=(5,), low=-1.0, high=1.0),
            "position": Signal(shape=(3,), low=-1.0, high=1.0),
        }
        return Description(signals=signals, example_counts={}, action_space=Discrete(4))
