"""Signals and descriptions: spaces, names, and no torch."""

import subprocess
import sys

import numpy as np
from gymnasium.spaces import Box, Discrete, MultiDiscrete

from antiphon.envs import Signal


def test_spaces_follow_the_kind_of_signal() -> None:
    assert Signal(shape=(2, 3), low=0.0, high=1.0).space(np.float64) == Box(0.0, 1.0, (2, 3), np.float64)
    assert Signal(classes=10).space() == Discrete(10)
    assert Signal(shape=(2,), classes=3).space() == MultiDiscrete([3, 3])


def test_describing_an_environment_loads_no_torch() -> None:
    program = (
        "import sys, antiphon.envs as envs\n"
        "for name in envs.ids()[:-1]:\n"  # the last is of the user's files
        "    assert envs.describe({'id': name}).signals\n"
        "print(envs.describe({'id': 'antiphon/Digits-v0', 'patches': 16}).hold, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False"]
