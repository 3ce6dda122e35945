"""A run in this process: a running scenario, what is recorded of its steps, and its directory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack
from functools import partial
from typing import Any

from antiphon.base.problems import show_value
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.inference.early_stopping import EarlyStopping
from antiphon.engine.inference.evaluation import evaluation_of
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.metrics.description import describe_run
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.metrics.report_by_agent import LossesByAgent
from antiphon.engine.metrics.step_metrics import (
    Row,
    entry_metrics,
    keep_metrics,
    score_metrics,
    training_means,
)
from antiphon.running.callbacks import Callback, Outcome
from antiphon.running.directory import RunDirectory
from antiphon.telemetry.csv_files import read_metrics
from antiphon.telemetry.history import History
from antiphon.telemetry.metrics import Metric, Recorder, call_each

StepInfo = dict[str, Any]
"""`step`, `ended` (which episodes ended) and `losses` ({agent: scalar tensor} of those that learned)."""


class Run:
    """A running scenario whose steps are recorded: by recorders, and into a run directory.

    Attributes:
        directory: Its run directory; None: nothing is written.
        result: The object of result.json; empty without a directory, or until it has ended.
        callbacks: Follow its steps, in this order: those of the loop that steps it, and what writes its directory.
        watched: Agents and channels whose metrics of the newest step, if it has no log entry, are kept for the next one.
        observed_at: Steps taken when a callback reads its state next. 0: it is read after every step.
        stopping: Whether the loop is about to end.
        stop_reason: Why its run ends early; None: it does not.
    """

    def __init__(self, running: LiveSystem) -> None:
        self.running = running
        self.recorders: list[Recorder] = []
        self._begun: list[Recorder] = []
        """The recorders that have begun; a user may append to `recorders`."""
        self.directory: RunDirectory | None = None
        self.result: Mapping[str, Any] = {}
        self._writer: Callback | None = None
        """What writes its directory; None: nothing does."""
        self.callbacks: list[Callback] = []
        self._seconds = 0.0
        self._since: float | None = None
        """When it began to be stepped: by a loop, or at the present step; None: it is not."""
        self._timed_at = 0, 0.0
        """The step of the newest metrics of time, and the seconds until then."""
        self.watched: AbstractSet[str] = frozenset()
        self.observed_at: float = 0
        self.stopping: Callable[[], bool] = lambda: False
        self.stop_reason: str | None = None
        self.in_loop = False
        self._until = running.until
        """The step at which it ends, also while a loop ends it at another one."""
        self._logged_at: int | None = None
        self._history: History | None = None

    @property
    def steps_left(self) -> int:
        return max(0, self.running.until - self.running.now)

    @property
    def seconds(self) -> float:
        """Seconds in which it was stepped, in earlier sessions too."""
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    def _stop_clock(self) -> None:
        self._seconds, self._since = self.seconds, None

    def write_by(
        self, writer: Callback, directory: RunDirectory, recorders: Sequence[Recorder], seconds: float
    ) -> None:
        """Write a directory from here on, by recorders that have begun; `seconds`: those that the run has taken before."""
        self.directory, self._writer, self.callbacks = directory, writer, [writer]
        self.recorders += recorders
        self._begun += recorders
        self._seconds, self._timed_at = seconds, (self.running.now, seconds)

    # --- when something is read --------------------------------------------------------------------------

    @property
    def log_steps(self) -> LogSteps:
        if not self.recorders:
            return LogSteps(0, 0)
        scenario = self.running.scenario
        evaluate = scenario.training.evaluate
        may_end = evaluate.period if evaluate is not None and evaluate.patience else 0
        return LogSteps(scenario.telemetry.period, self.running.until, may_end)

    def measures(self, step: int) -> bool:
        """Whether metrics of a step are recorded, or kept for the next log entry."""
        log_steps = self.log_steps
        return log_steps.due(step) or bool(self.running.newest.watched(step, log_steps))

    def observes(self, step: int) -> bool:
        """Whether something besides metrics reads the state after a step, or what was learned at it."""
        read = self._evaluates(step)
        return read or step + 1 >= self.observed_at or step + 1 == self.running.until

    def _evaluates(self, step: int) -> bool:
        validation = self.running.early_stopping
        return validation is not None and bool(self.recorders) and validation.due(step + 1)

    # --- stepping ----------------------------------------------------------------------------------------

    def step(self) -> StepInfo:
        """Take one step, record its metrics, and return what happened: see `Simulation.step`."""
        running = self.running
        running.check_open()
        step, due = running.now, self.log_steps.due(running.now)
        watch = self.begin_step(due=due)
        ended = running.advance(self, watch=watch)
        info = {"step": step, "ended": ended.plain, "losses": LossesByAgent(running.learned)}
        self.record(step, due=due)
        return info

    def begin_step(self, *, due: bool) -> Watch:
        """Find what is kept of the step to come, which has a log entry if `due`; return what is watched while it is learned from."""
        running = self.running
        if self.in_loop:
            self.observed_at = min((c.next_step(running) for c in self.callbacks), default=math.inf)
        else:
            self._since, self.observed_at = time.perf_counter(), 0
        if self.recorders != self._begun:
            self._begin_recorders()
        self.watched = running.newest.watched(running.now, self.log_steps)
        return due or self.watched

    def record(self, step: int, *, due: bool) -> None:
        """Record what follows from the step just taken; `due`: whether it has a log entry."""
        running, executor = self.running, self.running.executor
        if self.watched and executor.reached < running.now:
            keep_metrics(running, step, self.watched)
        if due:
            row, parts = executor.recorded(running)
            running.train_means.end_row()
            if self.recorders:  # else they are those of another seed
                self._write_entry(step, row)
            running.newest.end_row()
            if parts:
                call_each(self.recorders, "parts", running.now, parts)
        if running.early_stopping is not None and self._evaluates(step):
            self._evaluate(step, running.early_stopping)
        if due and (metrics := executor.metrics()):
            self.log(step + 1, [Metric("run", "", name, value) for name, value in metrics.items()])
            executor.end_row()
        for callback in self.callbacks:
            callback.step(running)
        if not self.in_loop:
            self._stop_clock()

    def log(self, step: int, metrics: Sequence[Metric]) -> None:
        """Hand metrics of a step, counted from 1, to the recorders; with its first ones, those of the run's time."""
        if step != self._logged_at:
            self._logged_at = step
            metrics = [*metrics, *(() if self.directory is None else self._times(step))]
        call_each(self.recorders, "metrics", step, metrics)

    def _times(self, step: int) -> list[Metric]:
        """Return the seconds of the run, and where environments are stepped the steps of all of them in a second since the
        metrics before.
        """
        (past, earlier), now, running = self._timed_at, self.seconds, self.running
        self._timed_at = step, now
        rows = [Metric("run", "", "seconds", now)]
        if running.world.episodes is not None and now > earlier:
            rate = (step - past) * running.scenario.training.batch / (now - earlier)
            rows.append(Metric("run", "", "steps_per_second", rate))
        return rows

    def _write_entry(self, step: int, row: Row | None) -> None:
        """Hand the metrics and samples of the step just taken to the recorders; `row`: as parts have it."""
        if row is None:
            row = Row.of(self.running, step, sampled=self.log_steps.sampled(step))
        self.log(step + 1, entry_metrics(self.running, row))
        if row.samples:
            call_each(self.recorders, "samples", step + 1, row.samples)

    def _evaluate(self, step: int, validation: EarlyStopping) -> None:
        """Evaluate after a step as `training.evaluate` says, record the metrics, and end a run that has stopped getting better.

        They are metrics of agents, and their names begin with the split's: `validation_loss`, `validation_accuracy`, ….
        """
        spec = validation.spec
        evaluation = evaluation_of(self.running, spec.split, episodes=spec.episodes)
        self.log(step + 1, score_metrics(evaluation.agents, f"{evaluation.split}_"))
        validation.add(self.running.now, evaluation.score)
        self.stop_reason = self.stop_reason or validation.reason_to_stop
        for callback in self.callbacks:
            callback.evaluated(self.running, evaluation)

    def set(self, changes: Mapping[str, object]) -> None:
        """Change settings from the next step on, all or none of them, and write a checkpoint: see `Simulation.set`."""
        shown = ", ".join(f"{key} is {show_value(value)}" for key, value in changes.items())
        self.running.set([*changes.items()], f"{shown} from here on")
        if self.directory is not None:
            self.directory.note(changes=self.running.changes)
            self._begin_recorders()
            self.directory.checkpoint(self.running, self.recorders)

    # --- in a training loop ------------------------------------------------------------------------------

    def begin_loop(self, callbacks: Sequence[Callback], steps: int, *, stopping: Callable[[], bool]) -> None:
        """Begin to be stepped by a training loop, which callbacks follow, for so many steps; `stopping`: whether it is about to end."""
        running = self.running
        self.stop_reason, self.in_loop, self.stopping = None, True, stopping
        self._until, running.until = running.until, running.now + steps
        self.callbacks = [*callbacks, *self.callbacks]
        for callback in self.callbacks:
            callback.start(running)
        self._since = time.perf_counter()

    def end_loop(self, outcome: Outcome) -> None:
        """Be stepped by hand from here on, to the end that the run had before the loop."""
        self._stop_clock()
        for callback in self.callbacks:
            callback.end(self.running, outcome)
        self.running.until = self._until
        self.callbacks = [] if self._writer is None else [self._writer]
        self.stopping, self.in_loop = lambda: False, False

    def stop(self, reason: str) -> None:
        """End the training loop after the present step; outside of one it has no effect."""
        if self.in_loop:
            self.stop_reason = self.stop_reason or reason

    # --- what is kept ------------------------------------------------------------------------------------

    @property
    def has_history(self) -> bool:
        """Whether metrics are kept, in a directory or in memory."""
        return self.directory is not None or self._history is not None

    def history(self) -> History:
        """Return all metrics: of metrics.csv, or what is kept in memory, from here on at the latest."""
        if self.directory is not None:
            return History(partial(read_metrics, self.directory.path / "metrics.csv"))
        if self._history is None:
            self._history = History()
            self.recorders.append(self._history)
        return self._history

    def learned_nothing(self) -> Iterator[str]:
        """Yield a line about the agents with an objective that took no optimiser step, or never had a target."""
        running, means, updates = self.running, training_means(self.running), dict[str, int]()
        for agent in running.backend.system.agents.values():
            updates |= dict(zip(agent.member_names, agent.learner.counts(), strict=True))
        learners = running.scenario.relations.learners
        goals = {
            name for name, agent in running.scenario.agents.items() if agent.objectives and name in learners
        }
        scored = {n for n in goals if n in means or (self.has_history and self.history().has(n, "loss"))}
        if names := sorted(name for name in goals if not updates[name] or name not in scored):
            yield f"{', '.join(names)}: took no optimiser step, or had no target, in {running.now:,} steps"

    def history_of_run(self) -> History:
        """Return what a run's history is taken of; without a directory metrics are kept of few agents alone, by default."""
        scenario = self.running.scenario
        few = max(len(scenario.agents), len(scenario.channels)) <= scenario.telemetry.max
        kept = self.has_history or few or scenario.training.evaluate is not None
        return self.history() if kept else History()

    def _begin_recorders(self) -> None:
        """Begin the recorders that have been appended since the last call."""
        running = self.running
        facts = {} if self.directory is None else self.directory.facts
        for recorder in [r for r in self.recorders if r not in self._begun]:
            description = describe_run(running.scenario, facts, start=running.now, until=running.until)
            call_each([recorder], "begin", description)
        self._begun = [*self.recorders]

    def discard(self) -> None:
        """Close a run that has just begun, and leave nothing of it."""
        self._writer = None
        self.close()
        if self.directory is not None:
            self.directory.remove()

    def close(self, failure: BaseException | None = None) -> None:
        """Close directory, recorders and environment, once; `failure`: what ended steps that were taken by hand."""
        with ExitStack() as closing:
            if self.directory is not None:
                closing.callback(self.directory.release)
            closing.callback(self.recorders.clear)
            closing.callback(self.running.close)
            for recorder in reversed(self.recorders):
                closing.callback(call_each, [recorder], "close")
            if self._writer is not None:
                self._writer.close(failure)
