"""The step loop as recorded periods: one recording of a period of the schedule, replayed for each that nothing observes.

A period reads the state of before it from memory that stays where it is, and what the environment gives and what the host
computes from the step from other such memory (`inputs`); it leaves the state of after it in memory of its own. A replay
copies that back, fills in the inputs and launches the kernels again. Objects of Python are behind in the meantime; they
take over the state where it is read: tensors as they are, and steps, windows and counts advanced by the periods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from antiphon.base.errors import RunError, ScenarioError, named
from antiphon.engine.backends import BackendFactory, StackedBackend, step_once
from antiphon.engine.capture.conditions import obstacle_of, period_of
from antiphon.engine.capture.inputs import (
    NO_REPETITION,
    NumberLog,
    Numbers,
    RecordedSteps,
    StaticInputs,
    StepInput,
    inputs_of,
)
from antiphon.engine.capture.loop_state import LoopState, Snapshot
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.nets.mask import NONE, Mask
from antiphon.nets.step_numbers import numbers_from

_ATTEMPTS = 8
"""Periods that are taken step by step to see whether the state repeats, at most."""


def captured_loop(
    device: torch.device,
    backend: str | BackendFactory,
    capture: Literal[True] | CapturedLoop,
    *,
    parts: bool = False,
) -> CapturedLoop:
    """Return what replays the steps of a simulation that asks for it; ScenarioError where they cannot be replayed."""
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


class CudaGraphRecorder:
    """Keeps the kernels of one piece of work as a CUDA graph."""

    _graph: torch.cuda.CUDAGraph

    def record(self, work: Callable[[], None]) -> None:
        """Capture `work` as a graph, and launch it once; RuntimeError where it does something that cannot be repeated."""
        torch.cuda.synchronize()
        stream = torch.cuda.current_stream()
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self._graph):
                work()
        finally:
            torch.cuda.set_stream(stream)  # a capture that fails leaves its own
        self._graph.replay()

    def replay(self) -> None:
        """Launch the kernels again: same memory, same arguments, without Python."""
        self._graph.replay()


class CapturedLoop(Executor):
    """Takes steps by replaying a recorded period, where nothing reads the state within one."""

    def __init__(self, recorder: Callable[[], CudaGraphRecorder] = CudaGraphRecorder) -> None:
        self._recorder = recorder
        self._periods: _Periods | None = None
        """The periods of the newest backend."""
        self._reached = 0
        """Steps taken, by the newest period; 0: the simulation has gone on from there."""

    @property
    def period(self) -> int:
        """Steps of a period; 0: it belongs to no simulation yet."""
        return 0 if self._periods is None else self._periods.period

    @property
    def replayed(self) -> int:
        return 0 if self._periods is None else self._periods.replayed

    def attach(self, running: LiveSystem) -> None:
        """Begin with a running scenario, at its present step; ScenarioError where its steps cannot be recorded."""
        if reason := obstacle_of(running.backend.system):
            raise ScenarioError(f"capture: {reason}, so its steps cannot be recorded; leave capture out")
        self._periods = _Periods(running.backend, running, self._recorder, self.replayed)
        self._reached = 0

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask | None:
        """Take a step with those of its period, or count one that has been taken so; any other is taken alone."""
        if reader is None or not self._take_with_period(running, reader):
            self.release(running)
            return None
        running.count()
        return NONE

    def _take_with_period(self, running: LiveSystem, reader: Reader) -> bool:
        """Return whether the present step has been taken with those of its period."""
        if self._periods is None or not self._periods.are_of(running):
            self.attach(running)
        periods = self._periods
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
            running.now = max(running.now, self._reached)

    def release(self, running: LiveSystem) -> None:
        """Gather; anything may be done to the running scenario from here on."""
        self.gather(running)
        self._reached = 0


@dataclass
class _Observation:
    """A period that was taken step by step.

    Attributes:
        kinds: The structure of the state that it began with.
        growth: What each of its numbers grows by in a period.
        counted: What each counter grows by in a period.
        log: The numbers that it asked for.
        earlier: One before it, in which the state grew alike; None: there was none.
    """

    step: int
    kinds: Any
    numbers: list[int]
    growth: list[int]
    counted: list[int]
    log: NumberLog
    earlier: _Observation | None

    def numbers_at(self, step: int, period: int) -> list[int]:
        periods = (step - self.step) // period
        return [n + periods * growth for n, growth in zip(self.numbers, self.growth, strict=True)]


@dataclass
class _RecordedPeriod:
    """A recorded period, from a state in memory that stays to one in memory of its own."""

    recorder: CudaGraphRecorder
    before: Snapshot
    after: Snapshot
    inputs: StaticInputs
    numbers: Numbers


class _Periods:
    """The periods of a backend's steps from now on: one is observed, one recorded, and the recording replayed for others."""

    def __init__(
        self,
        backend: StackedBackend,
        running: LiveSystem,
        recorder: Callable[[], CudaGraphRecorder],
        replayed: int,
    ) -> None:
        self.backend, self._recorder, self.replayed = backend, recorder, replayed
        self.period = period_of(backend.system)
        if backend.moving.guard is None:
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

    def are_of(self, running: LiveSystem) -> bool:
        """Whether they are of a backend as it is: into which no other state has been loaded."""
        same_state = self._guard is self.backend.moving.guard and self._state.means is running.train_means
        return self.backend is running.backend and same_state

    def begins(self, step: int) -> bool:
        """Return whether a period begins at a step: where no window is open, if there is such a step."""
        if self._offset is None:
            waited, groups = step - self._since, self.backend.system.groups
            ticked = any(group.window.ticks_by_call for group in groups)
            if waited < self.period or (waited < 2 * self.period and ticked):
                return False
            self._offset = step % self.period
        return step % self.period == self._offset

    def take(self, running: LiveSystem) -> None:
        """Take the period that begins at the present step: replay it, or step by step; RunError where the state does not repeat."""
        inputs = inputs_of(running.world, self.period)
        step, recording, observation = running.now, self._recording, self._observation
        if recording is not None and not recording.inputs.fits(inputs):
            self.take_over()
            self._take_steps(step, inputs)
        elif observation is None or not (self._behind or self._repeats(observation, step)):
            self._recording = None
            self._observe(step, inputs, None)
        elif recording is not None:
            self._replay(recording, step, inputs)
        elif observation.earlier is None:
            self._observe(step, inputs, observation)
        else:
            self._record(observation, observation.earlier, step, inputs)

    def _take_steps(
        self, first: int, inputs: Sequence[StepInput], numbers: Numbers | NumberLog | None = None
    ) -> None:
        world = RecordedSteps(first, inputs)
        with numbers_from((numbers or NumberLog()).number):
            for step in range(first, first + len(inputs)):
                step_once(self.backend, world, self._state.means, step)

    def _observe(self, step: int, inputs: Sequence[StepInput], earlier: _Observation | None) -> None:
        """Take a period step by step, and note what of the state grows with it."""
        before, log = self._state.read(), NumberLog()
        self._take_steps(step, inputs, log)
        after = self._state.read()
        self._observation = None
        if before.kinds == after.kinds:
            growth, counted = _less(after.numbers, before.numbers), _less(after.counts, before.counts)
            self._observation = _Observation(
                step, before.kinds, before.numbers, growth, counted, log, earlier
            )
        self._attempts += 1
        if self._attempts > _ATTEMPTS:
            raise RunError(f"capture: {NO_REPETITION}")

    def _repeats(self, observation: _Observation, step: int) -> bool:
        """Return whether the present state is that of an observed period, so many periods on."""
        present = self._state.read()
        numbers = observation.numbers_at(step, self.period)
        return present.kinds == observation.kinds and present.numbers == numbers

    def _record(
        self, observation: _Observation, earlier: _Observation, step: int, inputs: Sequence[StepInput]
    ) -> None:
        """Record a period, which takes it."""
        before, static, recorder = _copied(self._state.read()), StaticInputs(inputs), self._recorder()
        device, snapshots = self.backend.system.device, list[Snapshot]()
        numbers = Numbers(earlier.step, earlier.log, observation.step, observation.log, self.period, device)
        numbers.fill(step)
        self._state.make_moments()

        def work() -> None:
            self._state.load(before)
            self._take_steps(step, static.inputs, numbers)
            snapshots.append(_unshared(self._state.read(), [*before.tensors, *static.tensors()]))

        with named("capture: a period of the schedule is recorded"):
            recorder.record(work)
        after = snapshots[-1]
        if after.kinds != before.kinds or _less(after.numbers, before.numbers) != observation.growth:
            raise RunError(f"capture: {NO_REPETITION}")
        self._recording = _RecordedPeriod(recorder, before, after, static, numbers)
        self._counts, self._behind, self._static_step = before.counts, 1, step

    def _replay(self, recording: _RecordedPeriod, step: int, inputs: Sequence[StepInput]) -> None:
        if self._behind:
            torch._foreach_copy_(recording.before.tensors, recording.after.tensors)
        else:
            present = self._state.read()
            torch._foreach_copy_(recording.before.tensors, present.tensors)
            self._counts = present.counts
        recording.inputs.fill(inputs)
        recording.numbers.fill(step)
        recording.recorder.replay()
        self._behind, self._static_step = self._behind + 1, step
        self.replayed += 1

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
