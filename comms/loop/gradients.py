"""Gradients on the parameters of a loop's networks: they add up, as torch's do, until a step has used them.

In a loop without `zero_grad` a gradient that has been used must not be added to. A gradient counts as used once an optimiser
has stepped with it, once its parameter has changed in place, or once a channel that its network sends on has learned.
"""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook


@dataclass(slots=True, eq=False)
class ChannelStep:
    """The time of a loop between two steps of one channel's predictor."""

    name: str
    over: bool = False
    optimiser_steps: Counter[int] = field(default_factory=Counter)
    """Steps that optimisers took in it, each by its identity, with gradients of a `learn` that the channel was sent in."""

    @property
    def most_optimiser_steps(self) -> int:
        """Steps of the optimiser that took most: a `learn` of both ends may be followed by an optimiser for each."""
        return max(self.optimiser_steps.values(), default=0)


class _WrittenGradient(weakref.ref[Tensor]):
    """A gradient that was written here, and when it was written last.

    Attributes:
        key: The gradient's identity.
        version: Of the parameter: changes in place so far.
        steps: The steps of the channels that the network sends on.
        used: Its changes in place when an optimiser stepped with it; None: none has.
    """

    __slots__ = ("key", "steps", "used", "version")
    key: int
    version: int
    steps: Sequence[ChannelStep]
    used: int | None

    def __new__(cls, gradient: Tensor, version: int, steps: Sequence[ChannelStep]) -> Self:
        return super().__new__(cls, gradient, cls._forget)

    def __init__(self, gradient: Tensor, version: int, steps: Sequence[ChannelStep]) -> None:
        self.key, self.version, self.steps, self.used = id(gradient), version, steps, None
        _written[self.key] = self  # for as long as the gradient is kept itself

    def use(self, gradient: Tensor) -> None:
        """Note that an optimiser has stepped with it."""
        self.used = gradient._version

    @staticmethod
    def _forget(written: Any) -> None:
        key = written.key
        if _written.get(key) is written:
            del _written[key]

    @staticmethod
    def of(gradient: Tensor) -> _WrittenGradient | None:
        """Return when a gradient was written; None if it was not written here."""
        written = _written.get(id(gradient))
        return written if written is not None and written() is gradient else None


_written: dict[int, _WrittenGradient] = {}
"""Gradients that were written here, by identity."""
_hooks: list[Any] = []


def add_gradients(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], steps: Sequence[ChannelStep]
) -> None:
    """Add gradients to `grad` of parameters, or replace those that a step has used, and call the hooks that follow; None: nothing is added.

    Args:
        gradients: In the order of `parameters`.
        steps: The present steps of the channels that their network sends on.
    """
    if not _hooks:  # fused optimisers change parameters without torch's count of changes
        _hooks.append(register_optimizer_step_post_hook(_mark_used))
    changed: list[Tensor] = []
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if parameter.grad is not None and _is_over(parameter, parameter.grad, changed):
            parameter.grad = None
        if gradient is None:
            continue
        if parameter.grad is not None:
            parameter.grad = parameter.grad + gradient
        elif (
            gradient.layout == torch.strided
        ):  # autograd may give one tensor to several, or a view with strides of its own
            parameter.grad = torch.empty_like(parameter).copy_(gradient)
        else:
            parameter.grad = gradient.clone()
        assert parameter.grad is not None
        _WrittenGradient(parameter.grad, parameter._version, steps)
        if hooks := getattr(parameter, "_post_accumulate_grad_hooks", None):
            with torch.no_grad():
                for hook in list(hooks.values()):
                    hook(parameter)
            if parameter.grad is not None and _WrittenGradient.of(parameter.grad) is None:
                _WrittenGradient(parameter.grad, parameter._version, steps)
    by_device: dict[torch.device, list[Tensor]] = {}
    for nonzero in changed:
        by_device.setdefault(nonzero.device, []).append(nonzero)
    if any(torch.stack(of_device).any() for of_device in by_device.values()):
        warnings.warn(
            "comms.learn: a gradient that a step has used has changed since, and is replaced; where your loop calls backward too, "
            "call zero_grad(), which sets gradients to None, before",
            stacklevel=3,
        )


def _is_over(parameter: Tensor, gradient: Tensor, changed: list[Tensor]) -> bool:
    """Whether a step has used the gradient of a parameter since it was written.

    `changed`: gets whether a used one that has changed since is other than zero, as a tensor: on a GPU, to read it is to wait.
    """
    written = _WrittenGradient.of(gradient)
    if written is None:
        return False
    if written.used is not None and written.used != gradient._version:
        changed.append(gradient.any())
    if written.used is not None or written.version != parameter._version:
        return True
    over = next((step for step in written.steps if step.over), None)
    if over is not None:
        warnings.warn(
            f"comms.learn: a gradient that no optimiser has used is replaced, because channel {over.name} has learned "
            "since; to add up several batches, call the channel's learn after the optimiser's step",
            stacklevel=4,
        )
    return over is not None


def _mark_used(optimiser: torch.optim.Optimizer, *_: Any) -> None:
    """Mark the gradients that an optimiser has stepped with, and count the step for the channels of their senders."""
    channel_steps: dict[int, ChannelStep] = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None and (written := _WrittenGradient.of(parameter.grad)) is not None:
                written.use(parameter.grad)
                channel_steps |= {id(step): step for step in written.steps}
    for step in channel_steps.values():
        step.optimiser_steps[id(optimiser)] += 1
