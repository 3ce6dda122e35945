"""A world for agents that act: what is seen, what only a critic may see, and a reward for the right action."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import gymnasium
import torch
from gymnasium.spaces import Box, Dict, Discrete
from torch import Tensor

from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from tests.contracts.builders import Play

__all__ = ["Game"]


@dataclass(frozen=True)
class Game(Play):
    """`Play`, with a reward for the action that a secret names; the secret is seen in training only.

    Attributes:
        discrete: Whether an action is one of three choices, or two numbers.
        parts: Names of the parts of an action, each rewarded for itself; empty: it has none.
    """

    share: float = 0.15
    discrete: bool = True
    parts: tuple[str, ...] = ()

    @property
    def description(self) -> Description:
        usual = super().description
        own = {"secret": Signal(classes=3, training_only=True)}
        own |= {f"reward.{part}": Signal(training_only=True, known="after_step") for part in self.parts}
        return replace(usual, signals={**usual.signals, **own}, action_space=self.space)

    @property
    def space(self) -> gymnasium.Space[Any]:
        """The actions of one environment."""
        one: gymnasium.Space[Any] = Discrete(3) if self.discrete else Box(-1.0, 1.0, (2,))
        return Dict(dict.fromkeys(self.parts, one)) if self.parts else one

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env: Any = super().make(batch=batch, **where)
        shown, step = env._shown, env.step

        def secret(x: Tensor) -> Tensor:
            return x[:, :3].argmax(1)

        def with_secret() -> tuple[dict[str, Tensor], dict[str, Any]]:
            seen, info = shown()
            return seen, {**info, "secret": secret(seen["x"])}

        def rewarded(actions: Any = None) -> Any:
            choice = secret(env._drawn(1, 4) + env._moved.unsqueeze(1))
            found = list(step(None))
            given = actions if isinstance(actions, dict) else {"": actions}
            rewards = {part: self._reward(choice, action, env.dtype) for part, action in given.items()}
            found[1] = torch.stack(list(rewards.values())).mean(0)
            found[4] |= {f"reward.{part}": reward for part, reward in rewards.items() if part}
            return tuple(found)

        env._shown, env.step = with_secret, rewarded
        made: TorchVectorEnv = env
        return made

    def _reward(self, secret: Tensor, action: Tensor | None, dtype: torch.dtype) -> Tensor:
        if action is None:
            return torch.zeros(len(secret), dtype=dtype)
        if self.discrete:
            return (action.long().view(-1) == secret).to(dtype)
        right = torch.nn.functional.one_hot(secret, 3)[:, :2]
        return -(action.to(dtype) - right).square().sum(1)
