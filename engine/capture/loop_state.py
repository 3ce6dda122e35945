"""The state of the step loop between two steps, as trees of tensors and numbers: what a period reads and leaves behind.

Parameters and moments of optimisers are changed in place and are not in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.engine.backends import StackedBackend
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.metrics.report_by_agent import MeanAccumulator
from antiphon.engine.state.state_dict import load_messages, messages, stateful
from antiphon.engine.state.trees import mapped


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, int) and not isinstance(leaf, bool)


def _kind(leaf: Any) -> Any:
    """What two leaves of the same place have in common at every period."""
    if isinstance(leaf, Tensor):
        return "tensor", tuple(leaf.shape), leaf.dtype, leaf.device
    return "number" if _is_number(leaf) else leaf


@dataclass
class Snapshot:
    """The state of the loop after a step, without a copy of a tensor.

    Attributes:
        stamps: What holds steps, windows and tensors: messages, windows, running statistics. Its numbers grow by the same
            with every period.
        counters: Sums and counts since they were last reset.
    """

    stamps: Any
    counters: Any

    def __post_init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.numbers: list[int] = []
        self.counts: list[int] = []
        mapped(self.stamps, self._add(self.numbers))
        mapped(self.counters, self._add(self.counts))
        self.kinds = mapped(self.stamps, _kind), mapped(self.counters, _kind)

    def _add(self, numbers: list[int]) -> Callable[[Any], None]:
        def add(leaf: Any) -> None:
            if isinstance(leaf, Tensor):
                self.tensors.append(constant(leaf))
            elif _is_number(leaf):
                numbers.append(leaf)

        return add

    def with_leaves(self, tensors: list[Tensor], numbers: list[int], counts: list[int]) -> Snapshot:
        next_tensors = iter(tensors)

        def put(next_numbers: Iterator[int]) -> Callable[[Any], Any]:
            return lambda leaf: (
                next(next_tensors)
                if isinstance(leaf, Tensor)
                else next(next_numbers)
                if _is_number(leaf)
                else leaf
            )

        return Snapshot(mapped(self.stamps, put(iter(numbers))), mapped(self.counters, put(iter(counts))))


class LoopState:
    """Reads and loads the state of a backend's step loop."""

    def __init__(self, backend: StackedBackend, means: MeanAccumulator) -> None:
        self.backend, self.means = backend, means
        system = backend.system
        learners, predictors, inputs, *_ = stateful(system).values()
        self._owners = [*learners.values(), *predictors.values(), *inputs.values()]
        self._zeros: dict[tuple[str, ...], Any] = {}

    def make_moments(self) -> None:
        """Have the state of all optimisers in memory, which else is made at their first step."""
        for owner in self._owners:
            _ = owner.optimiser.state

    def read(self) -> Snapshot:
        tree = messages(self.backend.system)
        tree["signals"] = [
            [shared.step, dict(shared.signals), dict(shared.uniform_masks)] for shared in tree["signals"]
        ]
        tree["events"] = []  # noted where the device is waited for, and never within a period
        return Snapshot(
            {
                "messages": tree,
                "buffers": [dict(owner.buffers) for owner in self._owners],
            },
            {
                "means": list(self._sums().items()),
                "updates": [[owner.updates, *owner.steps_taken.tolist()] for owner in self._owners],
            },
        )

    def _sums(self) -> dict[tuple[str, ...], Any]:
        """Return the sums of losses of all that have had any, zeros where they have begun anew, in one order."""
        present = self.means.sums()
        for names, sums in present.items():
            if names not in self._zeros:
                self._zeros[names] = tuple(
                    torch.zeros_like(total) if isinstance(total, Tensor) else 0 for total in sums
                )
        sums_by_agents = self._zeros | present
        self.means.load_sums(sums_by_agents)
        return sums_by_agents

    def load(self, snapshot: Snapshot) -> None:
        """Load a state; its tensors are used as they are, and open windows are replayed."""
        system, stamps = self.backend.system, snapshot.stamps
        all_signals = [
            StepSignals(step, dict(signals), dict(uniform))
            for step, signals, uniform in stamps["messages"]["signals"]
        ]
        for owner, buffers in zip(self._owners, stamps["buffers"], strict=True):
            owner.put_statistics(buffers)
        unchanged = {"events": system.events, "signals": all_signals}
        load_messages(system, {**stamps["messages"], **unchanged})
        self.means.load_sums({tuple(names): tuple(sums) for names, sums in snapshot.counters["means"]})
        for owner, (updates, *steps_taken) in zip(self._owners, snapshot.counters["updates"], strict=True):
            owner.updates, owner.steps_taken = updates, torch.tensor(steps_taken, dtype=torch.int64)
        self.backend.move_on()
        self.backend.moving.statistics.keep()
        for group in system.groups:
            self.backend.forward_pass.replay(group.window)
