"""Signals of several replicas that run as one: one seed each, in an environment of its own, rows side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.heart.message import StepSignals

__all__ = ["joined", "joined_signals"]


def joined(each: Sequence[Mapping[str, Any]], names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Signals of several replicas by name, [B, …] each, as those of all, [replicas * B, …].

    Args:
        each: Of each replica. Where some have a signal, it is zeros for the others; a mask that is absent holds everywhere.
        names: The signals to be joined; None: all.
    """
    found = {}
    for name in dict.fromkeys(name for one in each for name in one) if names is None else names:
        like = next((one[name] for one in each if name in one), None)
        if like is not None:
            default = torch.ones_like(like) if name.startswith("_") else torch.zeros_like(like)
            found[name] = torch.cat([one.get(name, default) for one in each])
    return found


def joined_signals(each: Sequence[StepSignals]) -> StepSignals:
    """The signals of one step of several replicas."""
    return StepSignals(each[0].step, joined([one.signals for one in each]))
