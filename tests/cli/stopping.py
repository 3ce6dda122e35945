"""Steps of the digits of which one gets a SIGINT, as by Ctrl-C."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Callable
from typing import Any

from antiphon.envs.base import StepResult
from antiphon.envs.images import Digits


def stopped_at(moment: int) -> Callable[..., StepResult]:
    """Steps of the environment, of which one gets a SIGINT."""
    taken, step = itertools.count(1), Digits.step

    def stepped(self: Digits, actions: Any = None) -> StepResult:
        if next(taken) == moment:
            signal.raise_signal(signal.SIGINT)
        return step(self, actions)

    return stepped
