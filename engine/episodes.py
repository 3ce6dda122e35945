"""Returns and lengths of episodes, of every environment and every reward."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from antiphon.nets.mask import ALL, NONE, Mask

REWARD = "reward"
"""The reward that all share; `reward.NAME` is that of one agent, if the environment has a reward for each."""
_LENGTH = "length"


def own_reward(names: Iterable[str]) -> str:
    """Return the reward whose sum is the return of an agent that learns from these.

    It is the only one that the environment gives a single agent, or else the one that all share.
    """
    of_env = [name for name in names if name.partition(".")[0] == REWARD]
    return of_env[0] if len(of_env) == 1 else REWARD


class EpisodeStatistics:
    """Returns and lengths of each environment's newest finished episode.

    A return is the sum of an episode's rewards, undiscounted. Where the mask `_reward` (`_reward.NAME`) of a step does
    not hold, the step was no experience: it adds neither length nor reward.

    Args:
        names: The rewards of single agents that are counted beside the reward that all share.

    Attributes:
        returns: Of the newest finished episode, by reward, [B] each.
        lengths: Its length in steps, [B].
        finished: Finished episodes, [B] int64.
    """

    def __init__(
        self, names: Collection[str], batch: int, device: torch.device | str, dtype: torch.dtype
    ) -> None:
        self._rewards = (REWARD, *(name for name in names if name != REWARD))
        self._return_names = [f"episode_return{name.removeprefix(REWARD)}" for name in self._rewards]
        self._mask_names = [f"_{name}" for name in self._rewards]
        self._present = torch.zeros(1 + len(self._rewards), batch, device=device, dtype=dtype)
        """Length and returns of the episodes in progress, a row each."""
        self._newest = torch.zeros_like(self._present)
        self._zeros = torch.zeros_like(self._present[0])
        self._of_step = torch.ones_like(self._present)
        """What a step adds to each row; the first stays 1."""
        self._rewards_of_step = self._of_step[1:].unbind()
        self.finished = torch.zeros(batch, device=device, dtype=torch.int64)

    @property
    def returns(self) -> dict[str, Tensor]:
        return dict(zip(self._rewards, self._newest[1:], strict=True))

    @property
    def lengths(self) -> Tensor:
        return self._newest[0]

    def latest(self, reward: str = REWARD) -> Tensor:
        """Return each environment's latest return, [environments that have taken a step].

        It is that of the newest finished episode, or of the one in progress as soon as that is longer: an episode that does
        not end is better or worse than what an earlier policy has done, and never counts as that.
        """
        row = 1 + self._rewards.index(reward)
        longer = self._present[0] > self._newest[0]
        returns = torch.where(longer, self._present[row], self._newest[row])
        return returns[longer | (self.finished > 0)]

    def add(
        self,
        reward: Tensor,
        info: Mapping[str, Any],
        ended: Mask,
        uniform: Mapping[str, Mask] = MappingProxyType({}),
    ) -> None:
        """Add a step; `info` has rewards of single agents and masks, of which those in `uniform` are known to be `ALL` or `NONE`."""
        self._rewards_of_step[0].copy_(reward)
        for name, row in zip(self._rewards[1:], self._rewards_of_step[1:], strict=True):
            row.copy_(info.get(name, self._zeros))
        masks = [None if uniform.get(name) is ALL else info.get(name) for name in self._mask_names]
        rows = self._of_step
        if len(masks) > 1:
            rows = torch.stack(
                [
                    row if mask is None else torch.where(mask, row, self._zeros)
                    for mask, row in zip((masks[0], *masks), rows, strict=True)
                ]
            )
        elif masks[0] is not None:
            rows = torch.where(masks[0], rows, self._zeros)
        self._present = present = self._present + rows
        if ended is not NONE:
            over = ended.tensor(len(self._zeros), self._zeros.device)
            self._newest = torch.where(over, present, self._newest)
            self._present = present.masked_fill(over, 0)
            self.finished = self.finished + over

    def mean(self, reward: str) -> float | None:
        """Return the mean return of each environment's newest finished episode; of those in progress until one has finished.

        None: no step has been taken.
        """
        row, has_finished = 1 + self._rewards.index(reward), self.finished > 0
        if bool(has_finished.any()):
            return float(self._newest[row, has_finished].mean())
        begun = self._present[0] > 0
        return float(self._present[row, begun].mean()) if bool(begun.any()) else None

    def metrics(self) -> dict[str, float]:
        """Return means over environments of their newest finished episodes; nothing before the first one.

        `episode_return`, `episode_return.NAME` of single agents, `episode_length` in steps; and `episodes`: how many have
        finished, of all environments.
        """
        has_finished = self.finished > 0
        if not bool(has_finished.any()):
            return {}
        length, *returns = self._newest[:, has_finished].mean(1).tolist()
        named = dict(zip(self._return_names, returns, strict=True))
        return {**named, "episode_length": length, "episodes": float(self.finished.sum())}

    def by_environment(self) -> dict[str, Tensor]:
        """Return what `metrics` has the means of, [environments that have finished an episode]."""
        length, *returns = self._newest[:, self.finished > 0]
        return {**dict(zip(self._return_names, returns, strict=True)), "episode_length": length}

    def state_dict(self) -> dict[str, Any]:
        """Return the state: by reward, and `length`, sums of the episodes in progress and of the newest finished ones."""
        names = (_LENGTH, *self._rewards)
        return {
            "present": dict(zip(names, self._present, strict=True)),
            "newest": dict(zip(names, self._newest, strict=True)),
            "finished": self.finished,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; a reward that it does not have begins at 0."""
        names = (_LENGTH, *self._rewards)
        self._present = torch.stack([state["present"].get(name, self._zeros) for name in names])
        self._newest = torch.stack([state["newest"].get(name, self._zeros) for name in names])
        self.finished = state["finished"]
