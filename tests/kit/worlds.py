"""Parallel worlds of PettingZoo as rows of an environment, as a run makes it of them."""

from __future__ import annotations

from typing import Any

from antiphon.envs import TorchVectorEnv
from antiphon.envs.adaptors.parallel import ParallelAdaptor


def batch_of(*worlds: Any, **settings: Any) -> TorchVectorEnv:
    """Parallel worlds as rows of one environment."""
    return ParallelAdaptor(worlds, **settings)
