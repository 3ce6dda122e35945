"""Signals and descriptions: spaces, names, and no tensors."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import envs
from antiphon.envs import Signal


def test_spaces_follow_the_kind_of_signal() -> None:
    assert Signal(shape=(2, 3), low=0.0, high=1.0).space(np.float64) == Box(0.0, 1.0, (2, 3), np.float64)
    assert Signal(classes=10).space() == Discrete(10)
    assert Signal(shape=(2,), classes=3).space() == MultiDiscrete([3, 3])


class NoTensors(TorchDispatchMode):
    """Mode in which every operation on tensors fails."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was called")


OWN = [name for name in envs.ids() if name.startswith("antiphon/")]


@pytest.mark.parametrize("name", OWN[:-2])  # the last two are of the user's files
def test_describing_an_environment_makes_no_tensors(name: str) -> None:
    with NoTensors():
        assert envs.describe({"id": name}).signals
