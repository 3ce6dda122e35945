"""Signals of several replicas that run as one: one seed each, in an environment of its own, rows side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from antiphon.engine.heart.message import StepSignals

__all__ = ["ReplicaSignals", "joined"]


@dataclass(slots=True, eq=False)
class ReplicaSignals(StepSignals):
    """One step of several replicas, each in an environment of its own; signals are [replicas * B, …].

    Attributes:
        each: The same step of each replica, [B, …].
    """

    each: Sequence[StepSignals] = ()

    def complete(self) -> None:
        """Add the signals that have become known since."""
        for name in dict.fromkeys(name for one in self.each for name in one.signals):
            if name not in self.signals:
                like = next(one.signals[name] for one in self.each if name in one.signals)
                # A mask that is absent holds everywhere.
                default = torch.ones_like(like) if name.startswith("_") else torch.zeros_like(like)
                self.signals[name] = torch.cat([one.signals.get(name, default) for one in self.each])


def joined(each: Sequence[StepSignals]) -> ReplicaSignals:
    """The signals of one step of several replicas, side by side."""
    step_signals = ReplicaSignals(each[0].step, {}, each=tuple(each))
    step_signals.complete()
    return step_signals
