"""Numbers that the host computes from a step: read on the device where a step is recorded to be replayed at later ones.

A recorded step (`engine/capture`) repeats its kernels with the same arguments. What differs from step to step and is no
tensor - the counter of a random number, a learning rate, a stamp - is asked for here: it is the number itself, and within a
recording a tensor [] that each replay fills anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from antiphon.nets.schedules import Rate

__all__ = ["StepNumbers", "learning_rate", "numbers_from", "stamp_number", "step_number"]

Number = int | float
SINGLE_RATES = ("cuda",)
"""Types of devices whose optimiser kernels read a rate in memory as float32."""


class StepNumbers(Protocol):
    """Where numbers come from in place of the host, in a recording."""

    def number(self, function: Callable[[int], Number], step: int, dtype: torch.dtype) -> Number | Tensor:
        """Return `function(step)`, or a tensor [] of `dtype` that holds it.

        Args:
            function: Of the step; asked again at later ones.
            step: A step, or another number that grows by a constant with every period of the schedule.
            dtype: Of the tensor.
        """


_source: StepNumbers | None = None


def step_number(function: Callable[[int], Number], step: int, dtype: torch.dtype) -> Number | Tensor:
    """Return `function(step)` as an argument of a kernel: a number, or in a recording a tensor [] of `dtype`."""
    return function(step) if _source is None else _source.number(function, step, dtype)


def stamp_number(step: int) -> int | Tensor:
    """Return a step itself as an argument of a kernel: a number, or in a recording an int64 tensor []."""
    return step_number(int, step, torch.int64)  # type: ignore[return-value]


def learning_rate(rate: Rate, step: int, device: torch.device) -> float | Tensor:
    """Return the rate at a step as an optimiser takes it; on a GPU rounded to the float32 that its kernels read there."""
    if rate.constant:
        return rate.base
    if device.type in SINGLE_RATES:
        return step_number(lambda at: float(np.float32(rate(at))), step, torch.float32)
    return step_number(rate, step, torch.float64)


@contextmanager
def numbers_from(source: StepNumbers) -> Iterator[None]:
    """Let numbers come from `source`."""
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before
