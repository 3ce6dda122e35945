"""Signals and descriptions: spaces, names, and no tensors."""

from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import envs
from antiphon.envs import Signal
from antiphon.errors import ScenarioError


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


@pytest.mark.parametrize("wrong", [{"shape": (-3,)}, {"every": 0}, {"every": 2.5}, {"low": 2.0, "high": 1.0}])
def test_a_signal_that_cannot_be_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match=rf"^Signal: {next(iter(wrong))}="):
        Signal(**wrong)
