"""The training loop: one or several runs stepped to a limit, a signal or an error, followed by callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from antiphon.base.errors import DivergenceError, ScenarioError, ScenarioWarning, warn_caller
from antiphon.base.memory import was_refused
from antiphon.base.signals import stop_signals
from antiphon.running.callbacks import Callback, Outcome
from antiphon.scenarios import warnings

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem
    from antiphon.running.run import Run, StepInfo


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
        callbacks: Follow each of them, in this order, before what writes its directory.
        step: Steps all that have not diverged (`Population.step`); None: there is one run, which is stepped itself.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        callbacks: Sequence[Callback] = (),
        step: Callable[[], Sequence[StepInfo]] | None = None,
    ) -> None:
        self.runs, self._active, self._callbacks = list(runs), list(runs), callbacks
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
            RunError: A run has been closed, or what follows it cannot be written.
        """
        for run in self.runs:
            run.running.check_open()
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
                    run.begin_loop(
                        self._callbacks,
                        steps,
                        each_step=episodes is not None,
                        stopping=lambda: bool(signals) or reached(),
                    )
                self._end_some()
                start = time.monotonic()
                # parts may have taken steps that are not counted yet: the log entries of these are written too
                while self._active and (self._ahead or not (signals or reached())):
                    infos = self._take_step()
                    steps_taken += 1
                    if episodes is not None and infos:
                        mask = infos[0]["ended"]
                        ended += bool(mask if isinstance(mask, bool) else mask[0])
                for run in self._active:
                    # a divergence that only the device knows of comes out before the end is written
                    with suppress(DivergenceError):  # noted in what runs
                        run.running.synchronize()
                self._end_some()
                stopped = signals and not reached()
                outcome = Outcome("stopped", 128 + signals[0]) if stopped else Outcome("done")
                self._end(self._active, outcome)
        except BaseException as error:
            self._end(self._active, _outcome_of(error, signals))
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
            outcomes = self.run(self.runs[0].steps_left)
        return [replace(outcome, result=run.result) for outcome, run in zip(outcomes, self.runs, strict=True)]

    @property
    def _ahead(self) -> bool:
        return any(run.running.executor.reached > run.running.now for run in self._active)

    def _take_step(self) -> Sequence[StepInfo]:
        """Take one step, and end the runs that diverged or were stopped at it."""
        infos: Sequence[StepInfo] = ()
        try:
            infos = self._step()
        except DivergenceError:
            if all(run.running.diverged is None for run in self._active):
                raise
        self._end_some()
        return infos

    def _end_some(self) -> None:
        """End the runs that have diverged or were stopped."""
        for run in [*self._active]:
            if (line := run.running.diverged) is not None:
                self._end([run], Outcome("diverged", DivergenceError.exit_code, line))
            elif run.stop_reason is not None:
                self._end([run], Outcome("done", reason=run.stop_reason))

    def _end(self, runs: Sequence[Run], outcome: Outcome) -> None:
        for run in [*runs]:
            run.end_loop(outcome)
            self._active.remove(run)
            self._outcomes[run] = outcome
