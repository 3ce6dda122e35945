"""Moments of several worlds as one: the signals of all seeds that are run together, and of each by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from antiphon.engine.core.signals import StepSignals

__all__ = ["JointSignals", "joined"]


@dataclass(slots=True)
class JointSignals(StepSignals):
    """A step in several worlds, its signals [worlds * B, …].

    Attributes:
        each: The same step in each world, [B, …].
    """

    each: Sequence[StepSignals] = ()

    def complete(self) -> None:
        """Add what has become known since."""
        for name in dict.fromkeys(name for one in self.each for name in one.signals):
            if name not in self.signals:
                like = next(one.signals[name] for one in self.each if name in one.signals)
                # A mask that is not there is all present.
                blank = torch.ones_like(like) if name.startswith("_") else torch.zeros_like(like)
                self.signals[name] = torch.cat([one.signals.get(name, blank) for one in self.each])


def joined(each: Sequence[StepSignals]) -> JointSignals:
    """Return the moments of one step in several worlds as one."""
    step_signals = JointSignals(each[0].step, {}, each=tuple(each))
    step_signals.complete()
    return step_signals
