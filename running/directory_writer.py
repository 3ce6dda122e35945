"""The callback that writes a run directory, and what is in it of a run: its result, and what is measured of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from antiphon.base.errors import AntiphonError, DivergenceError, RunError, ScenarioError
from antiphon.base.files import display_path, finite, read_json, write_json
from antiphon.engine.inference.evaluation import evaluation_of, policies
from antiphon.engine.live_system import LiveSystem
from antiphon.engine.metrics.description import describe_run
from antiphon.engine.metrics.step_metrics import environment_metrics
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.running.callbacks import Callback, Outcome
from antiphon.running.directory import RunDirectory, now
from antiphon.running.run import Run
from antiphon.scenarios.training import OF_AGENTS
from antiphon.telemetry.csv_files import CsvRecorder, PartsCsv, read_metrics
from antiphon.telemetry.event_file import BESIDE, EventFile
from antiphon.telemetry.metrics import Metric, Recorder, call_each
from antiphon.telemetry.tab.channels_writer import ChannelsWriter
from antiphon.telemetry.tensorboard import TensorBoardRecorder

_OF_CHANNELS = ("cosine", "norm_ratio", "sg_loss")
"""Metrics that every channel has in a result; null where its coupling gives none."""


Newest = Mapping[tuple[str, str], Mapping[str, float]]
"""By kind and name, the newest value of each metric."""


def _newest(table: Path) -> Newest:
    newest: dict[tuple[str, str], dict[str, float]] = {}
    for _, row in read_metrics(table):
        newest.setdefault((row.kind, row.name), {})[row.metric] = row.value
    return newest


def result_of(running: LiveSystem, newest: Newest, facts: Mapping[str, Any], run_dir: str) -> dict[str, Any]:
    """Evaluate the composed system on the test split, and return the run's result.

    Returns:
        Plain data; what is not finite is None. `accuracy` (in [0, 1]), `error`, `bits` and `return` are means over the
        readouts that have them, else None, of the examples or targets in `scored`; loss and metric of agents are of the test split too (None where the
        environment has none), returns of whole episodes (`episodes`), with the most likely actions; other metrics of
        agents and those of channels are the latest of the training. `env` is what the environment says of progress;
        `no_return`, why policies could not be evaluated; `reason`, why it was stopped early. With `training.evaluate`,
        `evaluated` has the metrics of the newest evaluation during the training, and `best` is the best checkpoint.
    """
    scenario = running.scenario
    readouts = list(scenario.readouts)
    scores, more = None, dict[str, Any]()
    try:
        if policies(running.system) or "test" in running.world.env.splits:
            scores = evaluation_of(running, "test")
    except (RunError, ScenarioError) as error:
        if not policies(running.system):
            raise
        more["no_return"] = str(error)  # policies cannot be evaluated, but the run is done
    agents: dict[str, dict[str, Any]] = {}
    for name in scenario.agents:
        entries = newest.get(("agent", name), {})
        training = {metric: value for metric, value in entries.items() if metric not in OF_AGENTS}
        goal = running.system.agents[name].goal
        objective = dict.fromkeys(("loss", *goal.objective.metrics)) if goal else {}
        agents[name] = {**objective, **(scores.agents.get(name, {}) if scores else {}), **training}
    if (evaluate := scenario.training.evaluate) is not None:
        means = {metric: over(readouts, f"{evaluate.split}_{metric}", agents) for metric in OF_AGENTS}
        logged = {metric: value for metric, value in means.items() if value is not None}
        more |= {"evaluated": {"split": evaluate.split, **logged}, "best": facts.get("best")}
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
            **more,
            "env": environment_metrics(running),
            "agents": agents,
            "channels": {
                channel.name: {
                    **dict.fromkeys(_OF_CHANNELS),
                    **newest.get(("channel", channel.name), {}),
                }
                for channel in scenario.channels
            },
            "events": [{"step": step, "event": line} for step, line in running.system.events],
        }
    )
    return result


def over(readouts: Sequence[str], metric: str, agents: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the mean of a metric over the readouts that have it; `agents`: metrics by agent."""
    values = [agents[name][metric] for name in readouts if agents[name].get(metric) is not None]
    return sum(values) / len(values) if values else None


_CHECKPOINTS = 10
_FEWEST_STEPS = 100
"""Between checkpoints, where nothing else is set: ten in a run, but at least so many steps apart."""


class DirectoryWriter(Callback):
    """Writes metrics, checkpoints, run.json and result.json of a run, from here on, into its locked directory.

    Where the scenario holds Python objects a checkpoint of step 0 keeps the parameters that they begin with.
    """

    def __init__(
        self,
        run: Run,
        directory: RunDirectory,
        checkpoint_every: int | None = None,
    ) -> None:
        running = run.running
        self._run, self._directory, self._given_every = run, directory, checkpoint_every
        start, scenario, has_objects = running.now, running.scenario, directory.has_objects
        description = describe_run(
            scenario,
            directory.facts,
            start=start,
            until=running.until,
            timeline=None if directory.has_events else timeline(running.system, 0, span(running.system)),
        )
        table = directory.path / "metrics.csv"
        newest = _newest(table) if table.exists() else {}
        tables: list[Recorder] = [CsvRecorder(table)]
        parts = directory.path / "parts.csv"
        if directory.facts.get("parts") or parts.exists():
            tables.append(PartsCsv(parts))
        board = TensorBoardRecorder(directory.path)
        recorders = [*tables, board]
        with ExitStack() as begun:
            for recorder in recorders:
                begun.callback(recorder.close)
                call_each([recorder], "begin", description)
            if has_objects and running.now == 0:
                directory.checkpoint(running, recorders)
            begun.pop_all()
        # a crash leaves run.json behind the table
        logged = newest.get(("run", ""), {}).get("seconds", 0.0)
        run.write_by(self, directory, recorders, max(directory.facts["seconds"], logged))

    def start(self, running: LiveSystem) -> None:
        """Note in run.json that the run is running."""
        self._note_running()
        self._keep_best()

    def _note_running(self) -> None:
        running, facts = self._run.running, self._directory.facts
        changes = {"changes": running.changes} if running.changes or "changes" in facts else {}
        self._directory.note_running(steps=running.until, step=running.now, **changes)

    def next_step(self, running: LiveSystem) -> float:
        """Return the step of the next checkpoint."""
        every, now = self._checkpoint_every, running.now
        return now + every - now % every

    def step(self, running: LiveSystem) -> None:
        """Write a checkpoint if one is due, and the best so far; that of a loop's last step is written by `end`."""
        if not self._is_open:
            self._note_running()
        self._keep_best()
        is_last = self._run.in_loop and running.now == running.until
        if running.now % self._checkpoint_every == 0 and not is_last:
            self._directory.checkpoint(running, self._run.recorders)

    def _keep_best(self) -> None:
        """Write the checkpoint `best` where the present step is the best, and is not written yet."""
        validation = self._run.running.early_stopping
        best = None if validation is None else validation.new_best(self._run.running.now)
        if best is not None and best != self._directory.facts.get("best"):
            self._directory.keep_best(self._run.running, best)

    @property
    def _checkpoint_every(self) -> int:
        return self._given_every or max(_FEWEST_STEPS, -(-self._run.running.until // _CHECKPOINTS))

    def end(self, running: LiveSystem, outcome: Outcome) -> None:
        """Write a checkpoint, run.json and result.json; after an exception only its reason, into run.json."""
        if not self._is_open:
            return  # of an end that is written nothing changes
        run = self._run
        if outcome.status in ("failed", "interrupted"):
            self._note_end("stopped" if outcome.status == "interrupted" else "failed", outcome.error)
            return
        directory = self._directory
        ended = {
            "exit": outcome.status,
            "error": outcome.error,
            "reason": outcome.reason,
            "seconds": self._run.seconds,
            "finished": now(),
        }
        directory.checkpoint(running, run.recorders)
        newest = _newest(directory.path / "metrics.csv")
        run.result = result_of(running, newest, directory.facts | ended, display_path(directory.path))
        if outcome.status == "done":
            call_each(run.recorders, "end", run.result)
        directory.note_result(run.result, **ended)
        directory.note_sizes(running.now, run.recorders)

    @property
    def _is_open(self) -> bool:
        """Whether run.json has no end of the run yet."""
        return bool(self._directory.facts["exit"] == "running")

    def close(self, failure: BaseException | None) -> None:
        """Note how steps taken by hand have ended, as the training loop does: done, stopped early, diverged, or by an exception.

        What has an end already keeps it.
        """
        run, running = self._run, self._run.running
        if not self._is_open:
            return
        with suppress(DivergenceError):  # noted in what runs
            running.synchronize()
        if failure is None and running.closed:
            failure = RunError("an error came within a step")
        done = run.stop_reason is not None or running.now >= running.until
        outcome = Outcome("done" if done else "stopped", reason=run.stop_reason)
        if running.diverged is not None:
            outcome = Outcome("diverged", DivergenceError.exit_code, running.diverged)
        elif failure is not None:
            status = "interrupted" if isinstance(failure, KeyboardInterrupt) else "failed"
            outcome = Outcome(status, 1, str(failure) or type(failure).__name__)
        self.end(running, outcome)

    def _note_end(self, status: str, error: str | None) -> None:
        with suppress(AntiphonError):  # the failure itself matters more than that of its note
            step, seconds = self._run.running.now, self._run.seconds
            self._directory.note(exit=status, error=error, step=step, seconds=seconds, finished=now())


def keep_measured(
    directory: RunDirectory, running: LiveSystem, measurements: Mapping[str, Any], rows: Sequence[Metric]
) -> None:
    """Keep measurements, by kind, and the same as metrics of channels, in `measured.json` and in the event file.

    TensorBoard follows the newest event file of a run only: while the run continues, nothing is written there.
    """
    path = directory.path / "measured.json"
    measured = {kind: {"step": running.now, **content} for kind, content in measurements.items()}
    write_json(path, {**(read_json(path) if path.is_file() else {}), **measured})
    with ExitStack() as undo:
        try:
            directory.lock()
        except RunError:  # the run goes on
            return
        undo.callback(directory.release)
        events = undo.enter_context(closing(EventFile(directory.path, suffix=BESIDE)))
        ChannelsWriter(events, describe_run(running.scenario, directory.facts)).metrics(running.now, rows)
