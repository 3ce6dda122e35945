"""A GPT whose blocks have their parameters, and sleep for as long as they would compute: what crosses a line stays the same."""

from __future__ import annotations

import time
from typing import Any

import torch
from costs import FORWARD, Shape
from torch import Tensor, nn

from antiphon.agents.models import GPT


class Sleeper:
    """What a thread still has to sleep: what its processor has done since counts, as does a sleep that was too long."""

    def __init__(self) -> None:
        self._left, self._worked = 0.0, time.thread_time()

    def sleep(self, seconds: float) -> None:
        """Sleep for so many seconds more."""
        self._left += seconds - (time.thread_time() - self._worked)
        start = time.perf_counter()
        time.sleep(max(0.0, self._left))
        self._left -= time.perf_counter() - start
        self._worked = time.thread_time()


class _Sleep(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, parameters: Tensor, sleeper: Sleeper, seconds: float) -> Tensor:
        context.save_for_backward(parameters)
        context.sleeper, context.seconds = sleeper, seconds
        sleeper.sleep(FORWARD * seconds)
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]
        context.sleeper.sleep((1 - FORWARD) * context.seconds)
        return gradient, torch.zeros_like(context.saved_tensors[0]), None, None


class AsleepBlock(nn.Module):
    """A block that returns what it is given.

    Args:
        count: Of its parameters.
        sleeper: Of all blocks.
        seconds: That a step takes for each token.
    """

    def __init__(self, count: int, sleeper: Sleeper, seconds: float) -> None:
        super().__init__()
        self.parameter, self._sleeper, self._seconds = nn.Parameter(torch.zeros(count)), sleeper, seconds

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, length, width] from [batch, length, width]."""
        y: Tensor = _Sleep.apply(x, self.parameter, self._sleeper, self._seconds * x.shape[0] * x.shape[1])
        return y


def put_to_sleep(model: GPT, shape: Shape, flops: float) -> None:
    """Replace a model's blocks: together they sleep for the model's FLOP, at so many a second."""
    each, sleeper = shape.flop / shape.blocks / shape.tokens / flops, Sleeper()
    blocks = (AsleepBlock(shape.block_parameters, sleeper, each) for _ in range(shape.blocks))
    model.blocks = nn.ModuleList(blocks)
