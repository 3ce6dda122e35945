"""Numbers that the host computes from a step; in a recorded step they are read on the device.

A recorded step (`engine/capture`) repeats its kernels with the same arguments. Numbers that change from step to step and are
not tensors - the counter of a random number, a learning rate, a stamp - are requested here: the result is the number itself,
and within a recording a tensor [] that each replay sets again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

Number = int | float


Source = Callable[[Callable[[int], Number], int, torch.dtype], Number | Tensor]
"""Returns a function's number at a step, or a tensor [] of a type that holds it."""


_source: Source | None = None


def on_host() -> bool:
    """Return whether numbers of steps are computed here, and not read on the device by a recording."""
    return _source is None


def step_number(function: Callable[[int], Number], step: int, dtype: torch.dtype) -> Number | Tensor:
    """Return `function(step)` as an argument of a kernel: a number, or in a recording a tensor [] of `dtype`."""
    return function(step) if _source is None else _source(function, step, dtype)


def stamp_number(step: int) -> int | Tensor:
    return step_number(int, step, torch.int64)  # type: ignore[return-value]


def learning_rate(rate_at: Callable[[int], Any], step: int, device: torch.device) -> float | Tensor:
    """Return a learning rate that changes, at a step, for an optimiser; on a GPU rounded to float32, which its kernels read."""
    if device.type == "cuda":
        return step_number(lambda at: float(np.float32(rate_at(at))), step, torch.float32)
    return step_number(rate_at, step, torch.float64)


@contextmanager
def numbers_from(source: Source) -> Iterator[None]:
    """Take numbers from `source` within the context.

    It is called with a function of the step, the step, or another number that grows by a constant with every period of the
    schedule, and the type of the tensor; the function is called again at later steps.
    """
    global _source
    before, _source = _source, source
    try:
        yield
    finally:
        _source = before
