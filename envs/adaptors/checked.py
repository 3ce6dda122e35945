"""Values of somebody else's world as tensors, checked; and its exceptions as errors of one line."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.envs.signal import Signal
from antiphon.errors import AntiphonError, RunError

__all__ = ["checked", "failing", "tensor_of"]


@contextmanager
def failing(name: str, call: str, *, subprocesses: bool = False) -> Iterator[None]:
    """Raise whatever a world raises as a RunError of one line.

    Args:
        name: Of the world.
        call: Of its method.
        subprocesses: Whether it runs in processes of its own, whose tracebacks Gymnasium issues as warnings.
    """
    try:
        with warnings.catch_warnings() if subprocesses else nullcontext():
            if subprocesses:
                warnings.filterwarnings("ignore", message=".*ERROR: ")
            yield
    except AntiphonError:
        raise
    except Exception as error:  # noqa: BLE001  (anything somebody's environment may raise)
        line = " ".join(f"{type(error).__name__}: {error}".split())
        raise RunError(f"env: '{name}' failed in {call}(): {line}") from None


def tensor_of(values: Any, device: torch.device) -> Tensor:
    """Return a copy of a world's value, as a tensor."""
    if isinstance(values, Tensor):
        with torch.no_grad():
            return values.to(device, copy=True)
    return torch.from_numpy(np.array(values)).to(device)


def checked(name: str, signal: Signal, value: Tensor, batch: int) -> Tensor:
    """Return a signal's values in all sub-environments, [batch, …].

    Raises:
        RunError: They have another shape, or are not finite, or no classes.
    """
    wanted = (batch, *signal.shape)
    if value.shape != wanted:
        raise RunError(f"env: '{name}' is {list(value.shape)}, not {list(wanted)} as its space is")
    if signal.classes is None:
        if math.isfinite(value.sum().item()):  # almost always, and cheaper than a look at each number
            return value
        wrong, fault = ~torch.isfinite(value), "which is no finite number"
    else:
        wrong, fault = (value < 0) | (value >= signal.classes), f"which is none of {signal.classes} classes"
    if bool(wrong.any()):
        row = int(wrong.reshape(batch, -1).any(1).nonzero()[0])
        found = value[row][wrong[row]].flatten()[0].item()
        raise RunError(f"env: '{name}' of sub-environment {row} is {found}, {fault}; repair the environment")
    return value
