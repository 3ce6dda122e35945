"""The step loop as recorded periods: one recording of a period of the schedule, replayed for each that nothing observes.

A period reads the state of before it from memory that stays where it is, and what the environment gives and what the host
computes from the step from other such memory (`inputs`); it leaves the state of after it in memory of its own. A replay
copies that back, fills in the inputs and launches the kernels again. Objects of Python are behind in the meantime; they
take over the state where it is read: tensors as they are, and steps, windows and counts advanced by the periods.

Nothing is trusted: the first periods are computed both ways, and where a bit differs no period is replayed. Whatever goes
wrong while a period is recorded, the simulation goes on from the state that was computed step by step, and logs a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, first_line
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.engine.backends import BackendFactory, StackedBackend, step_once
from antiphon.engine.capture.conditions import obstacle_of, period_of
from antiphon.engine.capture.inputs import (
    NumberLog,
    Numbers,
    RecordedSteps,
    StaticInputs,
    StepInput,
    inputs_of,
)
from antiphon.engine.capture.kernel_recorder import CudaGraphRecorder, NotRecordable
from antiphon.engine.capture.loop_state import LoopState, Snapshot
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.engine.state.compatibility import same_bits
from antiphon.nets.step_numbers import numbers_from

_CHECKED = 2
"""Periods that are computed both ways: the recorded one, and the first that is replayed."""
_ATTEMPTS = 8
"""Periods that are taken step by step to see whether the state repeats, at most."""

_log = logging.getLogger(__name__)


def captured_loop(
    device: torch.device,
    backend: str | BackendFactory,
    capture: Literal[True] | CapturedLoop,
    *,
    parts: bool = False,
) -> CapturedLoop:
    """Return what replays the steps of a simulation that asks for it.

    Args:
        capture: True, or what replays them.
        parts: Whether parts take its steps.

    Raises:
        ScenarioError: The steps cannot be replayed.
    """
    if parts:
        raise ScenarioError("capture: the steps of parts are not captured; leave out one of them")
    if isinstance(capture, CapturedLoop):
        return capture
    if device.type != "cuda" or backend != "cohort":
        name = backend if isinstance(backend, str) else "given"
        raise ScenarioError(
            f"capture: True on {device} with the {name} backend; recorded steps are CUDA graphs of the cohort backend: "
            "run on --device cuda (in Python device='cuda'), or leave it out"
        )
    return CapturedLoop()


@dataclass
class _Observation:
    """A period that was taken step by step.

    Attributes:
        kinds: The structure of the state that it began with.
        growth: What each of them grows by in a period.
        counted: What each counter grows by in a period.
        log: The numbers that it asked for.
    """

    step: int
    kinds: Any
    numbers: list[int]
    growth: list[int]
    counted: list[int]
    log: NumberLog

    def numbers_at(self, step: int, period: int) -> list[int]:
        periods = (step - self.step) // period
        return [n + periods * growth for n, growth in zip(self.numbers, self.growth, strict=True)]


@dataclass
class _RecordedPeriod:
    """A recorded period.

    Attributes:
        before: The state that it reads, in memory that stays.
        after: The state that it leaves, in its own memory.
        checked: Periods that have been computed both ways, to the same bits.
    """

    step: int
    recorder: CudaGraphRecorder
    before: Snapshot
    after: Snapshot
    inputs: StaticInputs
    numbers: Numbers
    checked: int = 0

    def fits(self, periods: int, inputs: Sequence[StepInput]) -> bool:
        """Return whether the period that comes `periods` after it launches the same kernels."""
        return self.inputs.fits(inputs) and self.numbers.fits(periods)


@dataclass
class _ComputedPeriod:
    """What a period that was taken step by step leaves.

    Attributes:
        in_place: Parameters and moments.
        values: Copies of the parameters and moments.
    """

    state: Snapshot
    in_place: list[Tensor]
    values: list[Tensor]


class CapturedLoop(Executor):
    """Takes steps by replaying a recorded period, where nothing reads the state within one.

    Args:
        recorder: Makes what records and replays.
    """

    def __init__(self, recorder: Callable[[], CudaGraphRecorder] = CudaGraphRecorder) -> None:
        self._recorder = recorder
        self._periods: _Periods | None = None
        """The periods of the newest backend; None: no step has been taken."""
        self._reached = 0
        """Steps taken, by the newest period; 0: the simulation has gone on from there."""

    @property
    def obstacle(self) -> str | None:
        """Why all steps are taken one by one; None: they need not be, or it is not known yet."""
        return None if self._periods is None else self._periods.obstacle

    @property
    def period(self) -> int:
        """Steps of a period; 0: no step has been taken."""
        return 0 if self._periods is None else self._periods.period

    @property
    def replayed(self) -> int:
        return 0 if self._periods is None else self._periods.replayed

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask | None:
        """Take a step with those of its period, or count one that has been taken so; any other is taken alone."""
        if reader is None or not self._take_with_period(running, reader):
            self.release(running)
            return None
        running.count()
        return NONE

    def _take_with_period(self, running: LiveSystem, reader: Reader) -> bool:
        """Return whether the present step has been taken with those of its period."""
        backend, periods = running.backend, self._periods
        if isinstance(backend, StackedBackend) and not (periods and periods.are_of(backend)):
            periods = _Periods(backend, running, self._recorder, self.replayed)
            self._periods, self._reached = periods, 0
        assert periods is not None
        step, every = running.now, running.scenario.telemetry.period
        if step < self._reached:
            return True

        def alone(step: int) -> bool:
            return reader.observes(step) or (step + 1) % every == 0 or reader.measures(step)

        if not periods.begins(step) or any(alone(step + n) for n in range(periods.period)):
            return False
        periods.take(running)
        self._reached = step + periods.period
        return True

    def gather(self, running: LiveSystem) -> None:
        """Let the running scenario take over the state that replays have reached, and its step."""
        if self._periods is not None and self._periods.backend is running.backend:
            self._periods.take_over()
            running.reach(self._reached)

    def release(self, running: LiveSystem) -> None:
        """Gather; anything may be done to the running scenario from here on."""
        self.gather(running)
        self._reached = 0


class _Periods:
    """The periods of a backend's steps: one is observed, one recorded, and the recording replayed for others.

    Args:
        running: What runs, at the step from which on they are looked at.
        replayed: Periods that have been replayed before, of other backends.

    Attributes:
        obstacle: Why all steps are taken one by one; None: they need not be.
    """

    def __init__(
        self,
        backend: StackedBackend,
        running: LiveSystem,
        recorder: Callable[[], CudaGraphRecorder],
        replayed: int,
    ) -> None:
        self.backend, self._recorder, self.replayed = backend, recorder, replayed
        self.obstacle = obstacle_of(backend.system, running.scenario)
        self.period = period_of(backend.system)
        if self.obstacle is None and backend.moving.guard is None:
            backend.moving.check_later()
        self._guard = backend.moving.guard
        self._state = LoopState(backend, running.train_means)
        self._since, self._attempts = running.now, 0
        self._offset: int | None = None
        """The step of the period at which it begins, counted from the schedule's."""
        self._observation: _Observation | None = None
        self._recording: _RecordedPeriod | None = None
        self._behind = 0
        """Periods since the simulation held the state itself; 0: it does."""
        self._counts: list[int] = []
        """The counters when it held the state last."""
        self._static_step = 0
        """The first step of the newest of these periods."""

    def are_of(self, backend: StackedBackend) -> bool:
        """Whether they are of a backend as it is: into which no other state has been loaded."""
        return self.backend is backend and self._guard is backend.moving.guard

    def begins(self, step: int) -> bool:
        """Return whether a period begins at a step: where no window is open, if there is such a step."""
        if self.obstacle is not None:
            return False
        if self._offset is None:
            waited, groups = step - self._since, self.backend.system.groups
            ticked = any(group.window.ticks_by_call for group in groups)
            if waited < self.period or (waited < 2 * self.period and ticked):
                return False
            self._offset = step % self.period
        return step % self.period == self._offset

    def take(self, running: LiveSystem) -> None:
        """Take the period that begins at the present step: replay it, or step by step."""
        inputs = inputs_of(running.world, self.period)
        step, recording, observation = running.now, self._recording, self._observation
        varying = any(
            step_input.ends.ended is not ALL and step_input.ends.ended is not NONE for step_input in inputs
        )
        if varying or (recording is not None and not recording.fits(self._later(recording, step), inputs)):
            self.take_over()
            if varying:
                self._refuse("the lengths of its episodes differ")
            self._take_steps(step, inputs)
        elif observation is not None and (self._behind or self._repeats(observation, step)):
            if recording is None:
                self._record(observation, step, inputs)
            else:
                self._replay(recording, step, inputs)
        else:
            self._recording = None
            self._observe(step, inputs)

    def _take_steps(
        self, first: int, inputs: Sequence[StepInput], numbers: Numbers | NumberLog | None = None
    ) -> None:
        world = RecordedSteps(first, inputs)
        with numbers_from((numbers or NumberLog()).number):
            for step in range(first, first + len(inputs)):
                step_once(self.backend, world, self._state.means, step)

    def _observe(self, step: int, inputs: Sequence[StepInput]) -> None:
        """Take a period step by step, and note what of the state grows with it."""
        self.take_over()
        before, log = self._state.read(), NumberLog()
        self._take_steps(step, inputs, log)
        after = self._state.read()
        self._observation = None
        if before.kinds == after.kinds:
            growth, counted = _less(after.numbers, before.numbers), _less(after.counts, before.counts)
            self._observation = _Observation(step, before.kinds, before.numbers, growth, counted, log)
        self._attempts += 1
        if self._attempts > _ATTEMPTS:
            self._refuse("its state does not repeat with the period of its schedule")

    def _repeats(self, observation: _Observation, step: int) -> bool:
        """Return whether the present state is that of an observed period, so many periods on."""
        present = self._state.read()
        numbers = observation.numbers_at(step, self.period)
        return present.kinds == observation.kinds and present.numbers == numbers

    def _record(self, observation: _Observation, step: int, inputs: Sequence[StepInput]) -> None:
        """Record a period, and take it step by step beside."""
        before, log = _copied(self._state.read()), NumberLog()
        truth = self._computed(step, inputs, log)
        if truth is None:
            self._observation = None
            return
        try:
            recording = self._recorded(observation, before, log, step, inputs)
        except Exception as error:  # noqa: BLE001 - torch's, or of a kernel that takes no number from the device
            cause = error.__cause__ or error  # a backend names where a user's code failed
            reason = f"they cannot be recorded: {type(cause).__name__}: {first_line(cause)}"
            self._give_up(str(error) if isinstance(error, NotRecordable) else reason, truth)
            return
        self._recording = recording
        self._counts, self._behind, self._static_step = before.counts, 1, step
        self._check(recording, truth)

    def _recorded(
        self,
        observation: _Observation,
        before: Snapshot,
        log: NumberLog,
        step: int,
        inputs: Sequence[StepInput],
    ) -> _RecordedPeriod:
        """Return the recording of a period that has also been taken step by step, which asked for the numbers of `log`."""
        periods = (step - observation.step) // self.period
        numbers = Numbers(observation.log, log, periods, self.backend.system.device)
        static, recorder, snapshots = StaticInputs(inputs), self._recorder(), []

        def work() -> None:
            self._state.load(before)
            self._take_steps(step, static.inputs, numbers)
            snapshots.append(_unshared(self._state.read(), [*before.tensors, *static.tensors()]))

        recorder.record(work)
        after: Snapshot = snapshots[-1]
        if after.kinds != before.kinds or _less(after.numbers, before.numbers) != observation.growth:
            raise NotRecordable("its state does not repeat with the period of its schedule")
        return _RecordedPeriod(step, recorder, before, after, static, numbers)

    def _replay(self, recording: _RecordedPeriod, step: int, inputs: Sequence[StepInput]) -> None:
        checked = recording.checked >= _CHECKED
        if not checked:
            self.take_over()
        if self._behind:
            torch._foreach_copy_(recording.before.tensors, recording.after.tensors)
        else:
            present = self._state.read()
            torch._foreach_copy_(recording.before.tensors, present.tensors)
            self._counts = present.counts
        truth = None if checked else self._computed(step, inputs)
        if truth is None and not checked:
            self._recording = None
            return
        recording.inputs.fill(inputs)
        recording.numbers.fill(self._later(recording, step))
        recording.recorder.replay()
        self._behind, self._static_step = self._behind + 1, step
        self.replayed += 1
        if truth is not None:
            self._check(recording, truth)

    def _later(self, recording: _RecordedPeriod, step: int) -> int:
        """How many periods after the recorded one that of a step comes."""
        return (step - recording.step) // self.period

    def _computed(
        self, step: int, inputs: Sequence[StepInput], log: NumberLog | None = None
    ) -> _ComputedPeriod | None:
        """Take a period step by step, and put parameters and moments back to what they were.

        Returns:
            What the period leaves. None: it has been taken for good, since something has learned for the first time.
        """
        in_place = self._state.in_place()
        before = [tensor.clone() for tensor in in_place]
        self._take_steps(step, inputs, log)
        now = self._state.in_place()
        if len(now) > len(in_place):
            return None
        truth = _ComputedPeriod(_copied(self._state.read()), now, [tensor.clone() for tensor in now])
        torch._foreach_copy_(in_place, before)
        return truth

    def _check(self, recording: _RecordedPeriod, truth: _ComputedPeriod) -> None:
        """Compare a recorded or replayed period with the same one taken step by step, bit for bit."""
        replayed = [*recording.after.tensors, *truth.in_place]
        if all(map(same_bits, replayed, [*truth.state.tensors, *truth.values])):
            recording.checked += 1
        else:
            self._give_up("a replayed period differs from one that is computed step by step", truth)

    def _give_up(self, reason: str, truth: _ComputedPeriod) -> None:
        """Take all steps one by one from here on, from a state that was computed so."""
        torch._foreach_copy_(truth.in_place, truth.values)
        self._state.load(truth.state)
        self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        """Take all steps one by one from here on."""
        self.obstacle, self._recording, self._observation, self._behind = reason, None, None, 0
        _log.warning("capture: steps are taken one by one: %s", reason)

    def take_over(self) -> None:
        """Load the state that replays have reached into the objects of the running scenario."""
        recording, observation = self._recording, self._observation
        if recording is None or observation is None or not self._behind:
            return
        after = recording.after
        counts = [
            n + self._behind * growth for n, growth in zip(self._counts, observation.counted, strict=True)
        ]
        numbers = observation.numbers_at(self._static_step + self.period, self.period)
        tensors = [tensor.clone() for tensor in after.tensors]
        self._state.load(after.with_leaves(tensors, numbers, counts))
        self._behind = 0


def _less(numbers: Sequence[int], subtracted: Sequence[int]) -> list[int]:
    return [b - a for a, b in zip(subtracted, numbers, strict=True)]


def _copied(snapshot: Snapshot) -> Snapshot:
    """Return a state in memory of its own."""
    tensors = [tensor.clone() for tensor in snapshot.tensors]
    return snapshot.with_leaves(tensors, snapshot.numbers, snapshot.counts)


def _unshared(snapshot: Snapshot, owners: Sequence[Tensor]) -> Snapshot:
    """Return a state none of whose tensors lies in the memory of others."""
    addresses = {tensor.untyped_storage().data_ptr() for tensor in owners}
    tensors = [t.clone() if t.untyped_storage().data_ptr() in addresses else t for t in snapshot.tensors]
    return snapshot.with_leaves(tensors, snapshot.numbers, snapshot.counts)
