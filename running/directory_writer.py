"""The observer that writes a run directory, and what is in it of a run: its result, and what is measured of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from antiphon.base.argument_checks import check_counts
from antiphon.base.errors import AntiphonError, DivergenceError, RunError, ScenarioError
from antiphon.base.extensions import Catalogue, made, name_of
from antiphon.base.files import display_path, finite, read_json, write_json
from antiphon.engine.inference.evaluation import policies
from antiphon.engine.inference.live_inference import evaluation_of
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.metrics.description import describe_run
from antiphon.engine.metrics.step_metrics import environment_metrics, step_metrics
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.running.directory import MEASURED, RunDirectory, commit, now, versions
from antiphon.running.recorders import call_each
from antiphon.running.run import Run
from antiphon.running.trainer import Observer, Outcome, SharedClock, Trainer
from antiphon.scenarios import Scenario
from antiphon.scenarios.training import OF_AGENTS, RecorderSpec
from antiphon.telemetry.csv_files import CsvRecorder, read_metrics
from antiphon.telemetry.event_file import BESIDE, EventFile
from antiphon.telemetry.metrics import Metric, Recorder
from antiphon.telemetry.parts.parts_csv import PartsCsv
from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tensorboard import TensorBoardRecorder

_OF_CHANNELS = ("cosine", "norm_ratio", "sg_loss")
"""Metrics that every channel has in a result; null where its coupling gives none."""


class LatestMetrics(Recorder):
    """A recorder that keeps the latest value of every metric, and its step."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[str, float]] = {}
        self._steps: dict[tuple[str, str], dict[str, int]] = {}

    def of(self, kind: str, name: str) -> dict[str, float]:
        """Return the latest metrics of an agent or channel by metric."""
        return self._values.get((kind, name), {})

    def earlier(self, kind: str, name: str, step: int) -> dict[str, dict[str, int]]:
        """Return `{"earlier": steps}`, the steps of the metrics that are older than a step; empty if there are none."""
        steps = {metric: at for metric, at in self._steps.get((kind, name), {}).items() if at < step}
        return {"earlier": steps} if steps else {}

    def read(self, table: Path) -> None:
        """Read the metrics of an earlier session from metrics.csv."""
        for step, row in read_metrics(table):
            self.metrics(step, [row])

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        for row in rows:
            self._values.setdefault((row.kind, row.name), {})[row.metric] = row.value
            self._steps.setdefault((row.kind, row.name), {})[row.metric] = step


def result_of(
    running: LiveSystem,
    latest: LatestMetrics,
    facts: Mapping[str, Any],
    run_dir: str,
) -> dict[str, Any]:
    """Evaluate the composed system on the test split, and return the run's result.

    Returns:
        Plain data; what is not finite is None. `accuracy` (in [0, 1]), `error`, `bits` and `return` are means over the
        readouts that have them, else None, of the examples or targets in `scored`; loss and metric of agents are of the test split too (None where the
        environment has none), returns of whole episodes (`episodes`), with the most likely actions; other metrics of
        agents and those of channels are the latest of the training, `earlier` the steps of those that channels did not
        have at the last step. `env` is what the environment says of progress;
        `no_return`, why policies could not be evaluated; `reason`, why it was stopped early. With `training.evaluate`,
        `evaluated` has the metrics of the newest evaluation during the training, and `best` is the best checkpoint.
    """
    scenario = running.scenario
    readouts = list(scenario.readouts)
    scores, problem = None, {}
    try:
        if policies(running.system) or "test" in running.world.env.splits:
            scores = evaluation_of(running, "test")
    except (RunError, ScenarioError) as error:
        if not policies(running.system):
            raise
        problem = {"no_return": str(error)}  # policies cannot be evaluated, but the run is done
    agents = _metrics_by_agent(running, latest, scores.agents if scores else {})
    nothing = dict.fromkeys(_OF_CHANNELS)
    channels: dict[str, dict[str, Any]] = {
        name: {**nothing, **latest.of("channel", name), **latest.earlier("channel", name, running.now)}
        for name in (channel.name for channel in scenario.channels)
    }
    result: dict[str, Any] = finite(
        {
            "scenario": scenario.scenario,
            "variant": facts.get("variant"),
            "seed": running.seed,
            "steps": running.now,
            "seconds": round(facts["seconds"], 3),
            "run_dir": run_dir,
            "exit": facts["exit"],
            "reason": facts["reason"],
            "readout": readouts[0] if len(readouts) == 1 else readouts,
            **{metric: over(readouts, metric, agents) for metric in OF_AGENTS},
            "examples": scores.examples if scores else None,
            "scored": scores.scored if scores else {},
            "episodes": asdict(scores.episodes) if scores and scores.episodes else None,
            **problem,
            **_evaluated_in_training(scenario, agents, facts.get("best")),
            "env": environment_metrics(running),
            "agents": agents,
            "channels": channels,
            "events": [{"step": step, "event": line} for step, line in running.events],
        }
    )
    return result


def _metrics_by_agent(
    running: LiveSystem, latest: LatestMetrics, scores: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return scores by agent, with the latest metrics of the training that are not scored: scores are of the test split."""
    agents: dict[str, dict[str, Any]] = {}
    for name in running.scenario.agents:
        training = {k: v for k, v in latest.of("agent", name).items() if k not in OF_AGENTS}
        goal = running.system.agents[name].goal
        objective = dict.fromkeys(("loss", *goal.objective.metrics)) if goal else {}
        agents[name] = {**objective, **scores.get(name, {}), **training}
    return agents


def _evaluated_in_training(
    scenario: Scenario, agents: Mapping[str, Mapping[str, Any]], best: Any
) -> dict[str, Any]:
    """Return what a result has with `training.evaluate`; empty without it."""
    evaluate = scenario.training.evaluate
    if evaluate is None:
        return {}
    means = {metric: over(scenario.readouts, f"{evaluate.split}_{metric}", agents) for metric in OF_AGENTS}
    newest = {metric: value for metric, value in means.items() if value is not None}
    return {"evaluated": {"split": evaluate.split, **newest}, "best": best}


def _recorder(spec: RecorderSpec, directory: Path) -> Recorder:
    """Return a recorder of a user's; ScenarioError where it cannot be made."""
    name = name_of(spec.kind)
    try:
        recorder = made("recorder", spec.kind, spec.options, factory=True, directory=directory)
    except ScenarioError as error:
        raise ScenarioError(f"telemetry.recorders: {error}") from None
    if not isinstance(recorder, Recorder):
        raise ScenarioError(
            f"telemetry.recorders: {name} made {type(recorder).__name__}; make it a subclass of antiphon.telemetry.Recorder"
        )
    return recorder


def over(readouts: Sequence[str], metric: str, agents: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the mean of a metric over the readouts that have it; `agents`: metrics by agent."""
    values = [agents[name][metric] for name in readouts if agents[name].get(metric) is not None]
    return sum(values) / len(values) if values else None


_CHECKPOINTS = 10
_FEWEST_STEPS = 100
"""Between checkpoints, where nothing else is set: ten in a run, but at least so many steps apart."""


def check_interval(steps: int | None, logdir: str | Path | None) -> None:
    """Refuse an interval of checkpoints that is no number of steps, or that has no folder to write to."""
    check_counts("simulation", checkpoint_every=steps)
    if steps is not None and logdir is None:
        raise ScenarioError(f"checkpoint_every: {steps} has no effect without a logdir; give one")


class DirectoryWriter(Observer):
    """Writes metrics, checkpoints, run.json and result.json of a run into its directory.

    What an earlier session wrote after its present step is dropped. Where the
    scenario holds Python objects a checkpoint of step 0 keeps the parameters that they begin with.

    Args:
        checkpoint_every: Steps between checkpoints. None: ten in a run, at least 100 steps apart.

    Attributes:
        recorders: What receives the run's metrics for it.
        result: The object of result.json; empty until the run has ended.
    """

    def __init__(
        self,
        run: Run,
        directory: RunDirectory,
        checkpoint_every: int | None = None,
    ) -> None:
        self.directory = directory
        self.result: dict[str, Any] = {}
        running = run.running
        self._run, self._live, self._given_every = run, running, checkpoint_every
        self._ended_at: int | None = running.now
        self._latest = LatestMetrics()
        start, scenario, has_objects = running.now, running.scenario, directory.has_objects
        description = describe_run(
            scenario,
            directory.facts,
            document=directory.document,
            start=start,
            until=running.until,
            timeline=None if directory.has_events else timeline(running.system, 0, span(running.system)),
        )
        table = directory.path / "metrics.csv"
        if table.exists():
            self._latest.read(table)
        tables: list[Recorder] = [CsvRecorder(table)]
        parts = directory.path / "parts.csv"
        if directory.facts.get("parts") or parts.exists():
            tables.append(PartsCsv(parts))
        board = TensorBoardRecorder(directory.path)
        own_recorders = [_recorder(spec, directory.path) for spec in scenario.telemetry.recorders]
        recorders = [*tables, board, *own_recorders]
        # A crash leaves run.json behind the table.
        logged = self._latest.of("run", "").get("seconds", 0.0)
        self._seconds_before: float = max(directory.facts["seconds"], logged)
        self.recorders: list[Recorder] = [*recorders, self._latest]
        with ExitStack() as begun:
            for recorder in recorders:
                begun.callback(recorder.close)
                call_each([recorder], "begin", description)
            self._clock = SharedClock()
            self._timed_at = start, self._seconds()
            if has_objects and running.now == 0:
                directory.checkpoint(running, self.recorders)
            begun.pop_all()

    def _seconds(self) -> float:
        return self._seconds_before + self._clock()

    def times(self, step: int) -> list[Metric]:
        """Return the seconds of the run, and where environments are stepped the steps of all of them in a second since the
        metrics before.
        """
        (past, earlier), now = self._timed_at, self._seconds()
        self._timed_at = step, now
        rows = [Metric("run", "", "seconds", now)]
        if self._live.world.episodes is not None and now > earlier:
            rate = (step - past) * self._live.scenario.training.batch / (now - earlier)
            rows.append(Metric("run", "", "steps_per_second", rate))
        return rows

    def start(self, trainer: Trainer) -> None:
        """Note in run.json that the run is running."""
        self._seconds_before, self._clock = self._seconds() - trainer.clock(), trainer.clock
        self._note_running()
        self._keep_best(missed=True)

    def _note_running(self) -> None:
        facts: dict[str, Any] = {"steps": self._live.until, "step": self._live.now}
        if self._live.changes or "changes" in self.directory.facts:
            facts["changes"] = self._live.changes
        # those after the checkpoint that it goes on from are gone
        if loads := self.directory.facts.get("weights"):
            facts["weights"] = [load for load in loads if load["step"] <= self._live.now]
        self.directory.note_running(**facts)

    def step(self, trainer: Trainer) -> None:
        if self._run in trainer.active:
            self.follow()

    def reads_state_at(self, run: Run) -> float:
        """Return the step of the next checkpoint."""
        every, now = self._checkpoint_every, run.running.now
        return now + every - now % every

    def begin_step(self) -> None:
        """Count the time of a step that is taken by hand, until `follow`: between such steps a caller may do anything else."""
        self._clock.divide(1)

    def follow(self) -> None:
        """Write a checkpoint if one is due, and the best so far; that of the training loop's last step is written by `end`."""
        running, run = self._live, self._run
        if not self.is_open:
            self._note_running()
        self._keep_best()
        if running.now % self._checkpoint_every == 0 and not (run.in_run and running.now == running.until):
            self.directory.checkpoint(running, run.recorders)
            run.notify("on_checkpoint")
        if not run.in_run:
            self._clock.divide(0)

    def _keep_best(self, *, missed: bool = False) -> None:
        """Write the checkpoint `best` where the present step is the best; `missed`: only if a failed callback has prevented it."""
        validation = self._live.early_stopping
        best = None if validation is None else validation.new_best(self._live.now)
        if best is not None and not (missed and best == self.directory.facts.get("best")):
            self.directory.keep_best(self._live, best)
            self._run.notify("on_checkpoint")

    @property
    def _checkpoint_every(self) -> int:
        return self._given_every or max(_FEWEST_STEPS, -(-self._live.until // _CHECKPOINTS))

    def end(self, run: Run, outcome: Outcome) -> None:
        """Write a checkpoint, run.json and result.json; after an exception only its reason, into run.json."""
        if run is not self._run or not self.is_open:
            return  # of an end that is written nothing changes
        running = self._live
        self._ended_at = running.now
        if outcome.status in ("failed", "interrupted"):
            self._note_end("stopped" if outcome.status == "interrupted" else "failed", outcome.error)
            return
        directory = self.directory
        ended = {
            "exit": outcome.status,
            "error": outcome.error,
            "reason": outcome.reason,
            "seconds": self._seconds(),
            "finished": now(),
        }
        directory.checkpoint(running, run.recorders)
        if not run.newest_logged:  # it was stopped at another step, or parts logged what they know
            self._latest.metrics(running.now, step_metrics(running, max(running.now - 1, 0)))
        about = directory.facts | ended, display_path(directory.path)
        result = result_of(running, self._latest, *about)
        for recorder in run.recorders:
            if outcome.status == "done":
                call_each([recorder], "end", result)
            call_each([recorder], "sync")
        directory.note_result(result, **ended)
        self.result = result
        run.notify("on_checkpoint")

    def withdraw_result(self) -> None:
        """Note that an ended run goes on, and is evaluated anew when it ends: its parameters are other ones without a step."""
        if not self.is_open:
            self._note_running()
            self._ended_at = None

    @property
    def is_open(self) -> bool:
        """Whether run.json has no end of the run yet."""
        return bool(self.directory.facts["exit"] == "running")

    def close(self, failure: BaseException | None = None) -> None:
        """Note how steps taken by hand have ended, as the training loop does: done, stopped early, diverged, or by an exception.

        Where no step was taken since the last end nothing but run.json is written; nor is it where it has an end already, but
        for the result that rewinding to the last checkpoint has dropped from its event files.
        """
        run, running = self._run, self._live
        if not self.is_open:
            if not self.result and self.directory.facts["exit"] == "done":
                self._write_result_again()
            return
        with suppress(DivergenceError):  # noted in what runs
            running.synchronize()
        if running.diverged is not None and (failure is None or isinstance(failure, DivergenceError)):
            self.end(run, Outcome("diverged", DivergenceError.exit_code, running.diverged))
        elif failure is not None or running.broken_off is not None:
            status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "failed"
            line = running.broken_off if failure is None else str(failure) or type(failure).__name__
            self.end(run, Outcome(status, 1, line))
        elif running.now == self._ended_at:
            self._note_end("stopped", None)
        else:
            reason = run.stop_reason
            done = reason is not None or running.now >= running.until
            self.end(run, Outcome("done" if done else "stopped", reason=reason))

    def _write_result_again(self) -> None:
        """Hand the result of a run that was done, of which no further step was taken, to the recorders of this session."""
        with suppress(AntiphonError):  # its end is noted already
            if (result := self.directory.result) is not None:
                self.result = result
                for recorder in self.recorders:
                    call_each([recorder], "end", result)
                    call_each([recorder], "sync")
                self.directory.note_result(result)

    def _note_end(self, status: str, error: str | None) -> None:
        with suppress(AntiphonError):  # the failure itself matters more than that of its note
            step, seconds = self._live.now, self._seconds()
            self.directory.note(exit=status, error=error, step=step, seconds=seconds, finished=now())


def open_writer(
    run: Run,
    path: Path,
    checkpoint_every: int | None,
    facts: Mapping[str, Any],
    exist: str = "number",
) -> DirectoryWriter:
    """Create the directory of a run; its metrics are written from the first step on.

    Args:
        facts: For run.json, beside those of what runs or in their place.

    Raises:
        RunError: The folder holds something, or cannot be written; nothing is left.
        ScenarioError: There is no such recorder, or its package is not installed; a run to be overwritten is still there.
    """
    directory = _create_directory(run.running, path, facts, exist)
    try:
        return DirectoryWriter(run, directory, checkpoint_every)
    except BaseException as error:
        with suppress(AntiphonError):
            directory.note(exit="failed", error=str(error) or type(error).__name__, finished=now())
        directory.release()
        raise


def _create_directory(running: LiveSystem, path: Path, facts: Mapping[str, Any], exist: str) -> RunDirectory:
    """Create the directory of a run, locked; raises as `open_writer`."""
    scenario = running.scenario
    try:
        for spec in scenario.telemetry.recorders:
            if isinstance(spec.kind, str):
                Catalogue("recorder")[spec.kind]
    except ScenarioError as error:
        raise ScenarioError(f"telemetry.recorders: {error}") from None
    initial_facts = {
        "scenario": scenario.scenario,
        "seed": running.seed,
        "steps": scenario.training.steps,
        "device": str(running.device),
        "dtype": str(running.dtype).removeprefix("torch."),
        "matmul_precision": running.settings.matmul_precision,
        "threads": running.settings.threads,
        "backend": running.backend.name,
        "versions": versions(),
        "git": commit(),
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "step": 0,
        "exit": "running",
        "error": None,
        "reason": None,
    }
    return RunDirectory.create(path, scenario, {**initial_facts, **facts}, exist)


def keep_measured(
    directory: RunDirectory, running: LiveSystem, measurements: Mapping[str, Any], rows: Sequence[Metric]
) -> bool:
    """Keep measurements in `measured.json`, where each replaces the older one of its kind, and in the event file.

    TensorBoard follows the newest event file of a run only: while the run continues, nothing is written there.

    Args:
        running: Of its newest checkpoint, which was measured.
        measurements: By kind (`ablation_zero`, `value`), plain data.
        rows: The same as metrics of channels.

    Returns:
        Whether the Channels tab shows them.
    """
    path = directory.path / MEASURED
    measured = {kind: {"step": running.now, **content} for kind, content in measurements.items()}
    write_json(path, {**(read_json(path) if path.is_file() else {}), **measured})
    with ExitStack() as undo:
        try:
            directory.lock()
        except RunError:  # the run goes on
            return False
        undo.callback(directory.release)
        events = undo.enter_context(closing(EventFile(directory.path, suffix=BESIDE)))
        ChannelsWriter(events, describe_run(running.scenario, directory.facts)).metrics(running.now, rows)
    return True
