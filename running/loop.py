"""The training loop: one or several runs stepped to their end, a signal or an error, followed by callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING
from warnings import warn

from antiphon.base.errors import DivergenceError, ScenarioWarning
from antiphon.base.problems import check_counts
from antiphon.base.signals import stop_signals
from antiphon.running.callbacks import Callback, Outcome
from antiphon.scenarios import warnings

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem
    from antiphon.running.run import Run


def steps_to_take(running: LiveSystem, steps: int | None, epochs: float | None) -> int | None:
    """Return the steps of a run, whichever of both limits is less; None: there is none."""
    check_counts("run", 0, steps=steps)
    limits = [steps, None if epochs is None else running.steps_of_epochs(epochs)]
    return min((limit for limit in limits if limit is not None), default=None)


def train(
    runs: Sequence[Run],
    steps: int,
    callbacks: Sequence[Callback] = (),
    step: Callable[[], object] | None = None,
) -> list[Outcome]:
    """Take steps of one run, or of several that are stepped together, until there are so many or all have diverged or were stopped.

    A `ScenarioWarning` is issued for each warning of a scenario that begins, and at the end for agents that learned nothing.
    SIGINT or SIGTERM ends it after the present step; a second one raises KeyboardInterrupt at once.

    Args:
        callbacks: Follow each run, in this order, before what writes its directory.
        step: Steps all that have not diverged (`Population.step`); None: there is one run, which is stepped itself.

    Raises:
        RunError: A run has been closed, or what follows it cannot be written.
    """
    active, signals = [*runs], list[int]()
    outcomes: dict[Run, Outcome] = {}
    for run in runs:
        run.running.check_open()
    beginning = [run.running.scenario for run in runs if run.running.now == 0]
    # those of runs of one scenario are the same
    for line in dict.fromkeys(line for scenario in beginning for line in warnings(scenario)):
        warn(line, ScenarioWarning, stacklevel=2)

    def end(ended: Iterable[Run], outcome: Outcome) -> None:
        for run in [*ended]:
            run.end_loop(outcome)
            active.remove(run)
            outcomes[run] = outcome

    def end_some() -> None:
        """End the runs that have diverged or were stopped."""
        for run in [*active]:
            if (line := run.running.diverged) is not None:
                end([run], Outcome("diverged", DivergenceError.exit_code, line))
            elif run.stop_reason is not None:
                end([run], Outcome("done", reason=run.stop_reason))

    try:
        with stop_signals() as signals:
            for run in runs:
                run.begin_loop(callbacks, steps, stopping=lambda: bool(signals))
            end_some()
            left = steps
            # parts may have taken steps that are not counted yet: the log entries of these are written too
            while left and any(not signals or r.running.executor.reached > r.running.now for r in active):
                left -= 1
                try:
                    (step or runs[0].step)()
                except DivergenceError:
                    if all(run.running.diverged is None for run in active):
                        raise
                end_some()
            for run in active:
                # a divergence that only the device knows of comes out before the end is written
                with suppress(DivergenceError):  # noted in what runs
                    run.running.synchronize()
            end_some()
            end(active, Outcome("stopped", 128 + signals[0]) if signals and left else Outcome("done"))
    except BaseException as error:
        end(active, _outcome_of(error, signals))
        raise
    done = [run for run in runs if left < steps and outcomes[run].status == "done"]
    for line in dict.fromkeys(line for run in done for line in run.learned_nothing()):
        warn(line, ScenarioWarning, stacklevel=2)
    return [outcomes[run] for run in runs]


def train_to_end(
    runs: Sequence[Run], callbacks: Sequence[Callback] = (), step: Callable[[], object] | None = None
) -> list[Outcome]:
    """Train to the step that the runs are to reach, and close them: see `train`."""
    with ExitStack() as closing:
        for run in runs:
            closing.callback(run.close)
        outcomes = train(runs, runs[0].steps_left, callbacks, step)
    return [replace(outcome, result=run.result) for outcome, run in zip(outcomes, runs, strict=True)]


def _outcome_of(error: BaseException, signals: Sequence[int]) -> Outcome:
    """Return how a run ended by an exception after these signals."""
    line = str(error) or type(error).__name__
    if not isinstance(error, KeyboardInterrupt):
        return Outcome("failed", 1, line)
    if not signals:  # a user's own way to stop
        return Outcome("interrupted", 1, line)
    line = "stopped at once by a second signal, without a checkpoint"
    return Outcome("interrupted", 128 + signals[0], line)
