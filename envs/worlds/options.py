"""Validated options of the worlds, and their descriptions. Needs no torch.

An invalid value raises a ScenarioError, whose message names key, value and fix.
"""

from __future__ import annotations

from dataclasses import dataclass

from gymnasium.spaces import Discrete

from antiphon.envs.options import check_whole
from antiphon.envs.signal import Description, Signal

__all__ = ["CartPoleOptions"]


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
