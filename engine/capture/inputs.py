"""What a recorded period reads from outside: the environment's signals, and numbers that the host computes from the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from antiphon.base.errors import RunError
from antiphon.engine.environment import EnvironmentRunner
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.nets.mask import Mask


@dataclass(frozen=True)
class StepInput:
    """What the environment gives a step.

    Attributes:
        tick_signals: By name, the signals that are known at the tick.
        later_signals: By name, the signals that are known after the tick.
        uniform: Of the masks among both: see `StepSignals`.
    """

    tick_signals: dict[str, Tensor]
    later_signals: dict[str, Tensor]
    uniform: dict[str, Mask]
    ends: EpisodeEnds

    def signals_at(self, step: int) -> StepSignals:
        uniform = {name: value for name, value in self.uniform.items() if name in self.tick_signals}
        return StepSignals(step, dict(self.tick_signals), uniform)


class RecordedSteps:
    """Gives the steps of a period in place of the environment that they were taken in, whose episodes are of one length."""

    episode_length = None

    def __init__(self, first: int, inputs: Sequence[StepInput]) -> None:
        self._present, *self._later = inputs
        self.step_signals = self._present.signals_at(first)

    def advance(self, action: Action | None) -> EpisodeEnds:
        """Complete the present signals, go on to those of the next step, and return which episodes ended; no agent acts."""
        present, signals = self._present, self.step_signals
        signals.signals.update(present.later_signals)
        signals.uniform_masks.update(present.uniform)
        if self._later:
            self._present = self._later.pop(0)
            self.step_signals = self._present.signals_at(signals.step + 1)
        return present.ends


def inputs_of(world: EnvironmentRunner, steps: int) -> list[StepInput]:
    """Take the next steps of an environment in which no agent acts, and return what each gives."""
    step_inputs = []
    for _ in range(steps):
        signals = world.step_signals
        observed = dict(signals.signals)
        ends = world.advance(None)
        later = {name: value for name, value in signals.signals.items() if name not in observed}
        step_inputs.append(StepInput(observed, later, dict(signals.uniform_masks), ends))
    return step_inputs


class StaticInputs:
    """Memory of its own for the inputs of a period."""

    def __init__(self, inputs: Sequence[StepInput]) -> None:
        self.inputs = [
            replace(
                step_input,
                tick_signals=copy_tree(step_input.tick_signals),
                later_signals=copy_tree(step_input.later_signals),
            )
            for step_input in inputs
        ]

    def fill(self, inputs: Sequence[StepInput]) -> None:
        """Copy the inputs of another period."""
        torch._foreach_copy_(self.tensors(), _tensors(inputs))

    def fits(self, inputs: Sequence[StepInput]) -> bool:
        """Return whether other inputs have the same signals and ends."""
        return all(
            (recorded.ends, recorded.uniform) == (present.ends, present.uniform)
            and list(recorded.tick_signals) == list(present.tick_signals)
            and list(recorded.later_signals) == list(present.later_signals)
            for recorded, present in zip(self.inputs, inputs, strict=True)
        )

    def tensors(self) -> list[Tensor]:
        return _tensors(self.inputs)


def _tensors(inputs: Sequence[StepInput]) -> list[Tensor]:
    return [
        value
        for step_input in inputs
        for signals in (step_input.tick_signals, step_input.later_signals)
        for value in signals.values()
    ]


Number = int | float
Function = Callable[[int], Number]
NO_REPETITION = "the steps do not repeat with the period of their schedule; leave capture out"


class NumberLog:
    """Notes function, step and type of the numbers that are asked for in a period, in order and once, and returns them."""

    def __init__(self) -> None:
        self.asked: dict[tuple[Function, int, torch.dtype], None] = {}

    def number(self, function: Function, step: int, dtype: torch.dtype) -> Number:
        """Note a number and return it: see `numbers_from`."""
        self.asked[function, step, dtype] = None
        return function(step)


class Numbers:
    """The numbers of the periods that follow two, in memory of their own on the device; RunError where they do not grow evenly."""

    def __init__(
        self,
        first: int,
        first_log: NumberLog,
        second: int,
        second_log: NumberLog,
        period: int,
        device: torch.device,
    ) -> None:
        self._second, self._period, self._asked = second, period, list(second_log.asked)
        self._later = 0
        """Periods from the second one to that whose numbers are filled in."""
        periods = (second - first) // period
        kinds = [dtype for _, _, dtype in self._asked]
        if [dtype for _, _, dtype in first_log.asked] != kinds:
            raise RunError(f"capture: {NO_REPETITION}")
        grown = [
            now - before for (_, now, _), (_, before, _) in zip(self._asked, first_log.asked, strict=True)
        ]
        self._growth = [steps // periods for steps in grown]
        if any(steps % periods for steps in grown):
            raise RunError(f"capture: {NO_REPETITION}")
        self._memory = {dtype: torch.zeros(kinds.count(dtype), dtype=dtype, device=device) for dtype in kinds}
        slots_by_type = {dtype: iter(memory.unbind()) for dtype, memory in self._memory.items()}
        self._slots = [next(slots_by_type[dtype]) for dtype in kinds]
        self._slot_by_key: dict[tuple[Function, int, torch.dtype], Tensor] = {}

    def number(self, function: Function, step: int, dtype: torch.dtype) -> Tensor:
        """Return the tensor [] that holds a number: see `numbers_from`."""
        key = function, step, dtype
        if key not in self._slot_by_key:
            index = len(self._slot_by_key)
            # not by function: a partial that is made anew each period equals none of an earlier one
            if (step, dtype) != self._expected(index):
                raise RunError(f"capture: {NO_REPETITION}")
            self._slot_by_key[key] = self._slots[index]
        return self._slot_by_key[key]

    def _expected(self, index: int) -> tuple[int, torch.dtype] | None:
        """The step and type of a number of the period whose numbers are filled in; None: it has no such one."""
        if index == len(self._asked):
            return None
        _, step, dtype = self._asked[index]
        return step + self._later * self._growth[index], dtype

    def fill(self, step: int) -> None:
        """Fill in the numbers of the period that begins at a step."""
        self._later = (step - self._second) // self._period
        for dtype, memory in self._memory.items():
            numbers = [
                function(step + self._later * growth)
                for (function, step, kind), growth in zip(self._asked, self._growth, strict=True)
                if kind is dtype
            ]
            values = torch.tensor(numbers, dtype=dtype)
            if memory.device.type == "cuda":
                memory.copy_(values.pin_memory(), non_blocking=True)
            else:
                memory.copy_(values)
