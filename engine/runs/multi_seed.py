"""Runs of one scenario that differ in their seed: trained together where possible, else one after the other.

Each has a run directory of its own, as if it had been trained alone.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.build.devices import chosen_device
from antiphon.engine.build.weights import without_weights
from antiphon.engine.metrics.description import describe_run
from antiphon.engine.runs.directory import RunDirectory, write_json
from antiphon.engine.runs.observers import OnStep, Scores
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, check_empty
from antiphon.engine.runs.seeds import Seeds, sequential_reason
from antiphon.engine.runs.trainer import Outcome
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.telemetry.names import writing
from antiphon.telemetry.over_seeds import OverSeeds
from antiphon.telemetry.statistics import seed_statistics

__all__ = ["MultiSeedOutcome", "MultiSeedRun", "summary_of"]

_METRICS = ("accuracy", "error", "bits", "loss")
"""Metrics of a summary, beside those of the environment."""


@dataclass(frozen=True)
class MultiSeedOutcome:
    """How runs of several seeds ended.

    Attributes:
        outcomes: By seed, in order; without those that had not begun when a signal came.
        sequential_reason: Why they were trained one after the other; None: they were trained together.
        exit_code: 0 where some are done, 3 where all have diverged, 130 or 143 where a signal stopped them.
    """

    outcomes: Mapping[int, Outcome]
    sequential_reason: str | None
    exit_code: int

    @property
    def result(self) -> dict[str, Any]:
        """The object of `--json`."""
        seeds = [dict(outcome.result) for outcome in self.outcomes.values()]
        return {"seeds": seeds, "summary": summary_of(seeds), "apart": self.sequential_reason}


class MultiSeedRun:
    """Runs that differ in their seed alone.

    Args:
        requests: One for each run, equal but for the seeds.
        paths: Their directories.
        resume_if_exists: Resume runs that are there already; those that have ended are kept.

    Attributes:
        until: The step they stop at.
        sequential_reason: Why they cannot be trained together; None where they can, or there is only one.

    Raises:
        ScenarioError: The scenario cannot be built.
        DataError: Its data are missing or broken.
        RunError: A directory holds something else; nothing has been written.
    """

    def __init__(
        self, requests: Sequence[Request], paths: Sequence[Path], *, resume_if_exists: bool = False
    ) -> None:
        self.requests, self.paths = requests, paths
        self.until = requests[0].scenario.training.steps
        self._resume = resume_if_exists
        self._ended: dict[int, Outcome] = {}
        self._existing: dict[int, RunDirectory] = {}
        for index, (request, path) in enumerate(zip(requests, paths, strict=True)):
            if not resume_if_exists:
                check_empty(path)
            elif (outcome := request.outcome(path)) is not None:
                self._ended[index] = outcome
            elif (directory := request.existing(path)) is not None:
                self._existing[index] = directory
        begun = {index: directory.checkpoint_step for index, directory in self._existing.items()}
        begun |= dict.fromkeys(self._ended, self.until)
        self._steps = [begun.get(index, 0) for index in range(len(requests))]
        self._groups = self._group_runs()
        several = next((group for group in self._groups if len(group) > 1), None)
        self.sequential_reason: str | None = None
        if several is not None:
            with closing(self._build(several[:1])) as one:
                self.sequential_reason = sequential_reason(
                    one.simulations[0], requests[0].backend, len(several)
                )
        if self.sequential_reason is not None:
            self._groups = [[index] for group in self._groups for index in group]

    def _group_runs(self) -> list[list[int]]:
        """Group the indices of runs by what must be equal to train them together: step, dtype and threads."""
        groups: dict[Any, list[int]] = {}
        for index, step in enumerate(self._steps):
            facts = self._existing[index].facts if index in self._existing else {}
            if index not in self._ended:
                key = step, facts.get("dtype", "float32"), facts.get("threads", 1)
                groups.setdefault(key, []).append(index)
        return list(groups.values())

    @property
    def done(self) -> int:
        """How many steps have been taken, a mean over the seeds."""
        return sum(self._steps) // len(self._steps)

    def train(
        self,
        on_step: OnStep | None = None,
        checkpoint_every: int | None = None,
        summary_dir: Path | None = None,
    ) -> MultiSeedOutcome:
        """Train to the end, or until a signal.

        Args:
            on_step: Called after each step, with `done`.
            checkpoint_every: As of `RunWriter`.
            summary_dir: A folder for TensorBoard events with means and bands, and seeds.json: the object of `--json`.

        Raises:
            RunError: A directory cannot be written.
        """
        outcomes = dict(self._ended)
        bands = None if summary_dir is None else self._open_bands(summary_dir)
        try:
            for group in self._groups:
                found = self._train_group(group, self._mean_progress(on_step, group), checkpoint_every, bands)
                outcomes |= dict(zip(group, found, strict=True))
                for index in group:
                    self._steps[index] = self.until
                if any(outcome.exit_code > 128 for outcome in found):
                    break
        finally:
            if bands is not None:
                bands.close()
        by_seed = {self.requests[index].seed: outcomes[index] for index in sorted(outcomes)}
        codes = {outcome.exit_code for outcome in by_seed.values()}
        exit_code = max(codes) if max(codes) > 128 or 0 not in codes else 0
        outcome = MultiSeedOutcome(by_seed, self.sequential_reason, exit_code)
        if summary_dir is not None:
            with writing(summary_dir):
                summary_dir.mkdir(parents=True, exist_ok=True)
            write_json(summary_dir / "seeds.json", outcome.result)
        return outcome

    def _mean_progress(self, on_step: OnStep | None, group: Sequence[int]) -> OnStep | None:
        """Return the callback for a group: it passes on the mean step of all runs."""
        if on_step is None:
            return None

        def on_group_step(step: int, scores: Callable[[], Scores]) -> None:
            for index in group:
                self._steps[index] = step
            on_step(self.done, scores)

        return on_group_step

    def _open_bands(self, folder: Path) -> OverSeeds:
        """Return the writer of the bands, with the figures of earlier sessions."""
        bands = OverSeeds(folder, describe_run(self.requests[0].scenario, {}), len(self.requests))
        for index, path in enumerate(self.paths):
            bands.read(index, path / "metrics.csv", math.inf if index in self._ended else self._steps[index])
            if index in self._ended:
                bands.ended(index)
        return bands

    def _train_group(
        self, group: Sequence[int], on_step: OnStep | None, every: int | None, bands: OverSeeds | None
    ) -> list[Outcome]:
        recorders = [] if bands is None else [bands.recorder(index) for index in group]
        if len(group) == 1:
            request, path = self.requests[group[0]], self.paths[group[0]]
            run = begin(request, path, resume_if_exists=self._resume)
        else:
            replicas = self._build(group)
            run = Run(replicas.simulations, self._directories(group, replicas), self.until, replicas.step)
        return run.train(on_step, every, recorders)

    def _build(self, group: Sequence[int]) -> Seeds:
        """Build the replicas of a group, at the step they go on from."""
        request, existing = self.requests[group[0]], self._existing.get(group[0])
        device, facts = chosen_device(request.device), {} if existing is None else existing.facts
        settings: dict[str, Any] = {"device": device, "backend": request.backend}
        settings["threads"] = facts.get("threads", 1)
        settings["dtype"] = getattr(torch, facts.get("dtype", "float32"))
        seeds = [self.requests[index].seed for index in group]
        if existing is None or not existing.checkpoints:
            return Seeds(request.scenario, seeds, **settings)
        replicas = Seeds(without_weights(request.scenario), seeds, **settings)
        with ExitStack() as undo:
            undo.callback(replicas.close)
            for index, simulation in zip(group, replicas.simulations, strict=True):
                saved = read_simulation(self._existing[index].path, None, device)
                simulation.scenario = request.scenario
                simulation.load_saved(saved)
            undo.pop_all()
        return replicas

    def _directories(self, group: Sequence[int], replicas: Seeds) -> list[RunDirectory]:
        """Return the directories of runs that are trained together; on failure no new one is left."""
        together = [self.requests[index].seed for index in group]
        facts = {"backend": self.requests[0].backend, "together": together}
        directories = []
        with ExitStack() as undo:
            undo.callback(replicas.close)
            for index in group:
                directory = self._existing.get(index)
                if directory is not None:
                    directory.note(together=together)
                else:
                    request, path = self.requests[index], self.paths[index]
                    directory = RunDirectory.create(path, request.scenario, request.facts | facts)
                    undo.callback(shutil.rmtree, path, ignore_errors=True)
                directories.append(directory)
            undo.pop_all()
        return directories


def summary_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return statistics over seeds of each metric: of readouts (their mean) on the test split, and of the environment.

    Args:
        results: One for each seed. Diverged runs do not count; nor do stopped ones where others are done.

    Returns:
        By metric `mean`, `error` (standard error), `median`, `iqm`, `low`, `high` (its 95 % interval) and `n`.
    """
    counted = [result for result in results if result["exit"] == "done"]
    counted = counted or [result for result in results if result["exit"] == "stopped"]
    rows = [{metric: one.get(metric) for metric in _METRICS} for one in counted]
    for row, one in zip(rows, counted, strict=True):
        row |= {metric: value for metric, value in one["env"].items() if row.get(metric) is None}
    found = {}
    for metric in dict.fromkeys(metric for row in rows for metric in row):
        values = [value for row in rows if (value := row.get(metric)) is not None]
        if values:
            found[metric] = asdict(seed_statistics(values))
    return found
