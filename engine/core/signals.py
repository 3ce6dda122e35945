"""The environment's signals at one step, of one run or of several replicas side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.comms.context import ContextSpec, encode

__all__ = ["ReplicaSignals", "StepSignals", "joined"]


@dataclass(slots=True)
class StepSignals:
    """The signals of a step, shared by every record and tape that was made from them.

    Attributes:
        step: The environment step.
        signals: By name, [B, …]; those known only after the step are added when it has been taken.
    """

    step: int
    signals: dict[str, Tensor]
    _encoded: dict[tuple[ContextSpec, ...], Tensor | None] = field(default_factory=dict)

    def context(self, specs: Sequence[ContextSpec], dtype: torch.dtype) -> Tensor | None:
        """Features [B, C] of a context, encoded once for all channels that use it."""
        key = tuple(specs)
        if key not in self._encoded:
            self._encoded[key] = encode(key, self.signals, dtype)
        return self._encoded[key]


@dataclass(slots=True)
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
