"""An environment that plays back what was written down: for loops by hand that must see what the engine sees.

S steps, B environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon.envs import Description, Signal, TorchVectorEnv
from antiphon.envs.base import StepResult
from tests.contracts.builders import place_in


@dataclass(frozen=True, eq=False)
class Played:
    """A source of environments that show `shown` step by step, from the start again after the last step.

    Attributes:
        shown: [S, B, …] by signal; `_name` is the mask of a target that is not always there.
        hidden: Names of the signals for training alone.
        terminated: [S, B]; None: nowhere, or at the ends of `lengths`.
        truncated: [S, B]; None: nowhere.
        lengths: Of the episodes, cycled, where all environments end together; empty: they do not.
        endless: Whether it says that no episode ends.
    """

    shown: dict[str, Tensor]
    hidden: tuple[str, ...] = ()
    terminated: Tensor | None = None
    truncated: Tensor | None = None
    lengths: tuple[int, ...] = ()
    endless: bool = False

    @property
    def steps(self) -> int:
        """After how many steps it starts again."""
        return len(next(iter(self.shown.values())))

    @property
    def batch(self) -> int:
        """Environments."""
        return next(iter(self.shown.values())).shape[1]

    @property
    def description(self) -> Description:
        """What the engine may know beforehand."""
        signals = {
            name: Signal(
                shape=tuple(values.shape[2:]),
                classes=None if values.is_floating_point() else int(values.max()) + 1,
                training_only=name in self.hidden,
            )
            for name, values in self.shown.items()
            if not name.startswith("_")
        }
        same = len(set(self.lengths)) == 1
        return Description(
            signals=signals,
            episode_steps=self.lengths[0] if same else None,
            longest_episode=max(self.lengths) if self.lengths and not same else None,
            endless=self.endless,
            example_counts={},
        )

    def at(self, step: int) -> dict[str, Tensor]:
        """Everything that is shown at a step of a run."""
        return {name: values[step % self.steps] for name, values in self.shown.items()}

    def ends(self, step: int) -> tuple[Tensor, Tensor]:
        """Which environments terminate, and which are cut short, with a step of a run: [B] each."""
        nothing = torch.zeros(self.batch, dtype=torch.bool)
        if self.lengths and self.terminated is None:
            number, place = place_in(self.lengths, step)
            return torch.full_like(nothing, place + 1 == self.lengths[number]), nothing
        terminated, truncated = (
            nothing if flags is None else flags[step % self.steps]
            for flags in (self.terminated, self.truncated)
        )
        return terminated, truncated

    def make(self, *, batch: int, dtype: torch.dtype, **_: Any) -> TorchVectorEnv:
        """The environments."""
        assert batch == self.batch
        return _PlayedEnv(self, dtype)


class _PlayedEnv(TorchVectorEnv):
    def __init__(self, source: Played, dtype: torch.dtype) -> None:
        super().__init__(source.batch, source.description, Discrete(1), dtype=dtype)
        self._source = source
        self._step = 0

    @property
    def episode_length(self) -> int | None:
        lengths = self._source.lengths
        return lengths[place_in(lengths, self._step)[0]] if lengths else None

    def _shown(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        values = self._source.at(self._step)
        hidden = {n: v for n, v in values.items() if n in self._source.hidden or n.startswith("_")}
        return {n: v for n, v in values.items() if n not in hidden}, dict(hidden)

    def reset(self, **_: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._step = 0
        return self._shown()

    def step(self, actions: Any = None) -> StepResult:
        terminated, truncated = self._source.ends(self._step)
        self._step += 1
        shown, info = self._shown()
        return shown, torch.zeros(self.num_envs, dtype=self.dtype), terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._step = state["step"]
