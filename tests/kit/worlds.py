"""Worlds of Gymnasium and PettingZoo as rows of an environment, as a run makes it of them."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import antiphon
from antiphon.envs import TorchVectorEnv
from antiphon.envs.pettingzoo import ParallelAdaptor


def batch_of(*worlds: Any, **settings: Any) -> TorchVectorEnv:
    """Parallel worlds as rows of one environment."""
    return ParallelAdaptor(worlds, **settings)


ROWS = "tests/Rows-v0"


@antiphon.environment(ROWS)
def rows(num_envs: int, name: str, autoreset: str = "same_step", **keys: Any) -> VectorEnv[Any, Any, Any]:
    """Rows of one of Gymnasium's worlds, which are reset in one of its modes."""
    mode = AutoresetMode[autoreset.upper()]
    return SyncVectorEnv([partial(gymnasium.make, name, **keys)] * num_envs, autoreset_mode=mode)
