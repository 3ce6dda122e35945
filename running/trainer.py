"""The training loop: one or several runs stepped to a limit, a signal or an error, followed by observers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import DivergenceError, ScenarioError, ScenarioWarning, warn_caller
from antiphon.base.memory import was_refused
from antiphon.base.signals import stop_signals
from antiphon.scenarios import warnings

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem
    from antiphon.running.run import Run, StepInfo


@dataclass(frozen=True)
class Outcome:
    """How the training of a run ended."""

    status: str
    """`done`, `stopped` (by a signal), `diverged`, `failed` (an exception, raised again afterwards) or `interrupted` (a
    KeyboardInterrupt or exhausted memory, raised again too): what an interrupted run computed is right; it can be resumed."""
    exit_code: int = 0
    """0, 128 + the signal's number, 3, 4 or 1."""
    error: str | None = None
    """What went wrong; None where it is done or stopped."""
    result: Mapping[str, Any] = field(default_factory=dict)
    """The object of result.json, where there is a run directory."""
    reason: str | None = None
    """Why it was done before its last step: `Simulation.stop`; None: it was not."""

    @property
    def signal(self) -> int:
        """The signal that stopped it; 0: none did."""
        return self.exit_code - 128 if self.exit_code > 128 else 0


class Observer:
    """Callbacks of the training loop; a subclass overrides those it needs."""

    def start(self, trainer: Trainer) -> None:
        """Prepare, before the first step."""

    def step(self, trainer: Trainer) -> None:
        """Follow a step of the runs that are `trainer.active`."""

    def reads_state_at(self, run: Run) -> float:
        """Return how many steps have been taken when `step` reads a run's state or losses next; `inf`: never."""
        return run.running.now + 1

    def end(self, run: Run, outcome: Outcome) -> None:
        """Finish one run; others may continue."""


class SharedClock:
    """Seconds of wall-clock time, divided between runs that are stepped together; it starts paused."""

    def __init__(self) -> None:
        self._before, self._since, self._rate = 0.0, time.perf_counter(), 0.0

    def __call__(self) -> float:
        """Return the seconds of each run so far."""
        return self._before + (time.perf_counter() - self._since) * self._rate

    def divide(self, runs: int) -> None:
        """Divide the time from now on between so many; 0 pauses the clock."""
        self._before, self._since = self(), time.perf_counter()
        self._rate = 1 / runs if runs else 0.0


def _outcome_of(error: BaseException, signals: Sequence[int]) -> Outcome:
    """Return how a run ended by an exception after these signals."""
    line = str(error) or type(error).__name__
    if was_refused(error):
        return Outcome("interrupted", 4, line)
    if not isinstance(error, KeyboardInterrupt):
        return Outcome("failed", 1, line)
    if not signals:  # a user's own way to stop
        return Outcome("interrupted", 1, line)
    return Outcome(
        "interrupted", 128 + signals[0], "stopped at once by a second signal, without a checkpoint"
    )


def _warn(lines: Iterable[str]) -> None:
    """Issue a `ScenarioWarning` for each line; of runs of one scenario they are the same lines."""
    for line in dict.fromkeys(lines):
        warn_caller(line, ScenarioWarning)


def check_limit(name: str, limit: object, *, integral: bool = True) -> None:
    """Raise ScenarioError where a limit of a run is less than 0 or no (whole) number; None is no limit."""
    number = limit is None or hasattr(limit, "__index__" if integral else "__float__")
    if not number or isinstance(limit, bool | str):
        raise ScenarioError(f"run: {name}={limit!r}; must be a {'whole ' * integral}number")
    if limit is not None and not limit >= 0:  # type: ignore[operator]
        raise ScenarioError(f"run: {name}={limit}; must be at least 0")


def steps_to_take(running: LiveSystem, steps: int | None, epochs: float | None) -> int | None:
    """Return the steps of a run, whichever of both limits is less; None: there is none."""
    check_limit("steps", steps)
    steps = None if steps is None else int(steps)
    if epochs is None:
        return steps
    check_limit("epochs", epochs, integral=False)
    needed = running.steps_of_epochs(epochs)
    return needed if steps is None else min(steps, needed)


class Trainer:
    """The training loop of one run, or of several that are stepped together.

    Args:
        runs: At the step they start from.
        observers: Called in this order, before the writers of the runs' directories.
        step: Steps all that have not diverged (`Population.step`); None: there is one run, which is stepped itself.

    Attributes:
        clock: The time of each of them.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        observers: Sequence[Observer] = (),
        step: Callable[[], Sequence[StepInfo]] | None = None,
    ) -> None:
        self.runs = list(runs)
        self.active = list(runs)
        self.clock = SharedClock()
        writers: list[object] = [run.writer for run in runs]
        self._observers = [*observers, *(writer for writer in writers if isinstance(writer, Observer))]
        self._step = step or (lambda: [self.runs[0].step()])
        self._outcomes: dict[Run, Outcome] = {}

    def run(
        self, steps: int | None = None, *, episodes: int | None = None, seconds: float | None = None
    ) -> list[Outcome]:
        """Step until a limit is met or all runs have diverged or were stopped.

        A `ScenarioWarning` is issued for each warning of a scenario that begins, and at the end for agents that learned nothing.
        SIGINT or SIGTERM ends it after the present step; a second one raises KeyboardInterrupt at once.

        Args:
            steps: Environment steps.
            episodes: Ends of episodes in the first environment.
            seconds: Wall-clock time.

        Raises:
            ScenarioError: A limit is no number or less than 0, or episodes are the only one and the environment's never end.
            RunError: A run has been closed, or another thread runs it, or what is observed cannot be written.
        """
        for run in self.runs:
            run.running.check_open()
            run.check_free()
        _warn(line for run in self.runs if run.running.now == 0 for line in warnings(run.running.scenario))
        for name, limit in (("steps", steps), ("episodes", episodes), ("seconds", seconds)):
            check_limit(name, limit, integral=name != "seconds")
        endless = self.runs[0].running.env.endless
        if episodes is not None and steps is None and seconds is None and endless:
            raise ScenarioError(
                "run: the environment's episodes never end; give steps=…, or use `episode: example`"
            )
        steps_taken = ended = 0
        signals: list[int] = []
        start = time.monotonic()

        def reached() -> bool:
            return (
                (steps is not None and steps_taken >= steps)
                or (episodes is not None and ended >= episodes)
                or (seconds is not None and time.monotonic() - start >= seconds)
            )

        try:
            with stop_signals() as signals:
                for run in self.runs:
                    run.begin_loop(steps, lambda: bool(signals) or reached())
                for observer in self._observers:
                    observer.start(self)
                self.clock.divide(len(self.active))
                self._end_diverged()
                self._end_stopped()
                start = time.monotonic()
                # parts may have taken steps that are not counted yet: the log entries of these are written too
                while self.active and (any(run.ahead for run in self.active) or not (signals or reached())):
                    for run in self.active if episodes is None else ():  # else every step's ends are read
                        run.plan_reads(observer.reads_state_at(run) for observer in self._observers)
                    infos = self._take_step()
                    steps_taken += 1
                    if episodes is not None and infos:
                        mask = infos[0]["ended"]
                        ended += bool(mask if isinstance(mask, bool) else mask[0])
                for run in self.active:
                    # a divergence that only the device knows of comes out before the end is written
                    with suppress(DivergenceError):  # noted in what runs
                        run.running.synchronize()
                self._end_diverged()
                stopped = signals and not reached()
                outcome = Outcome("stopped", 128 + signals[0]) if stopped else Outcome("done")
                self._end(self.active, outcome)
        except BaseException as error:
            self._end(self.active, _outcome_of(error, signals))
            raise
        done = [run for run in self.runs if steps_taken and self._outcomes[run].status == "done"]
        _warn(line for run in done for line in run.learned_nothing())
        return [self._outcomes[run] for run in self.runs]

    def finish(self) -> list[Outcome]:
        """Train to the step that the runs are to reach, and close them; RunError where a directory cannot be written any more.

        Ctrl-C or SIGTERM ends all after the present step, with checkpoints and results; a second one at once.
        """
        with ExitStack() as closing:
            for run in self.runs:
                closing.callback(run.close)
                closing.enter_context(run.followed())
            outcomes = self.run(self.runs[0].steps_left())
        return [replace(outcome, result=run.result) for outcome, run in zip(outcomes, self.runs, strict=True)]

    def _take_step(self) -> Sequence[StepInfo]:
        """Take one step, end the runs that diverged at it, call the observers for the others, and end those stopped."""
        infos: Sequence[StepInfo] = ()
        try:
            infos = self._step()
            self._end_diverged()
            for observer in self._observers if self.active else ():
                observer.step(self)
            self._end_stopped()
        except DivergenceError:
            if all(run.running.diverged is None for run in self.active):
                raise
            self._end_diverged()
        return infos

    def _end_diverged(self) -> None:
        for run in [*self.active]:
            if (line := run.running.diverged) is not None:
                self._end([run], Outcome("diverged", DivergenceError.exit_code, line))

    def _end_stopped(self) -> None:
        for run in [*self.active]:
            if run.stop_reason is not None:
                self._end([run], Outcome("done", reason=run.stop_reason))

    def _end(self, runs: Sequence[Run], outcome: Outcome) -> None:
        for run in [*runs]:
            run.end_loop()
            self.clock.divide(0)
            for observer in self._observers:
                observer.end(run, outcome)
            self.active.remove(run)
            self._outcomes[run] = outcome
            self.clock.divide(len(self.active))
