"""A moment: the signals of one step, as whoever was there remembers them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.comms.context import ContextSpec, encode

__all__ = ["EnvMask", "StepSignals", "mask_and", "mask_fill_zero", "mask_not", "mask_or", "simplify"]

EnvMask = bool | Tensor
"""A set of environments: all, none, or a mask [B] bool."""


def mask_or(a: EnvMask, b: EnvMask) -> EnvMask:
    """Return the union of two sets of environments."""
    if a is True or b is True:
        return True
    if a is False:
        return b
    return a if b is False else torch.logical_or(a, b)


def mask_not(a: EnvMask) -> EnvMask:
    """Return the complement of a set of environments."""
    return torch.logical_not(a) if isinstance(a, Tensor) else not a


def mask_and(a: EnvMask, b: EnvMask) -> EnvMask:
    """Return the intersection of two sets of environments."""
    if a is False or b is False:
        return False
    if a is True:
        return b
    return a if b is True else torch.logical_and(a, b)


def simplify(lanes: EnvMask) -> EnvMask:
    """Return a set of environments in which all are, as all of them."""
    return True if isinstance(lanes, Tensor) and bool(lanes.all()) else lanes


def mask_fill_zero(lanes: EnvMask, value: Tensor) -> Tensor:
    """Return `value` [B, …] in `lanes` and zeros elsewhere; zeros are put, never multiplied."""
    if lanes is True:
        return value
    if lanes is False:
        return torch.zeros_like(value)
    assert isinstance(lanes, Tensor)
    return torch.where(lanes.view(-1, *([1] * (value.dim() - 1))), value, torch.zeros_like(value))


@dataclass(slots=True)
class StepSignals:
    """The signals of a step, shared by all that was made of them.

    Attributes:
        step: When.
        signals: By name, [B, …]; those known only after the step are added when it has been taken.
    """

    step: int
    signals: dict[str, Tensor]
    _encoded: dict[tuple[ContextSpec, ...], Tensor | None] = field(default_factory=dict)

    def context(self, specs: Sequence[ContextSpec], dtype: torch.dtype) -> Tensor | None:
        """Return a context's features [B, C], encoded once however many channels ask for them."""
        key = tuple(specs)
        if key not in self._encoded:
            self._encoded[key] = encode(key, self.signals, dtype)
        return self._encoded[key]
