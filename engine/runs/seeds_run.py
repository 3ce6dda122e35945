"""Runs of one scenario that differ in their seed: in one program where they can be joined, else one after the other.

Each has a run directory of its own, as if it had been run alone.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.build.devices import chosen_device
from antiphon.engine.build.weights import without_weights
from antiphon.engine.metrics.description import describe_run
from antiphon.engine.runs.directory import RunDirectory, write_json
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Outcome, begin
from antiphon.engine.runs.seeds import Seeds, why_apart
from antiphon.engine.runs.together import OnStep, Scores, Together
from antiphon.engine.state.saving import read_simulation
from antiphon.engine.studies.statistics import spread
from antiphon.errors import DivergenceError, RunError
from antiphon.telemetry.names import writing
from antiphon.telemetry.over_seeds import OverSeeds

__all__ = ["SeedsOutcome", "SeedsRun", "ended", "summary_of"]

_METRICS = ("accuracy", "error", "bits", "loss")
"""What a summary is of, beside what the environment says."""


@dataclass(frozen=True)
class SeedsOutcome:
    """How runs of several seeds ended.

    Attributes:
        outcomes: By seed, in order; a signal may have come before some were begun.
        apart: Why they ran one after the other; None: they did not.
        exit_code: 0 where some are done, 3 where all have diverged, 130 or 143 where a signal stopped them.
    """

    outcomes: Mapping[int, Outcome]
    apart: str | None
    exit_code: int

    @property
    def result(self) -> dict[str, Any]:
        """The object of `--json`."""
        seeds = [dict(outcome.result) for outcome in self.outcomes.values()]
        return {"seeds": seeds, "summary": summary_of(seeds), "apart": self.apart}


class SeedsRun:
    """Runs that differ in their seed alone.

    Args:
        requests: What each shall be, equal but for the seeds.
        paths: Their directories.
        resume_if_exists: Go on with runs that are there already; those that have ended are kept.

    Raises:
        RunError: A directory holds something else; nothing has been written.
    """

    def __init__(
        self, requests: Sequence[Request], paths: Sequence[Path], *, resume_if_exists: bool = False
    ) -> None:
        self.requests, self.paths = requests, paths
        self.until = requests[0].scenario.training.steps
        self.kept: dict[int, Outcome] = {}
        self._resume = resume_if_exists
        self._there: dict[int, RunDirectory] = {}
        for place, (request, path) in enumerate(zip(requests, paths, strict=True)):
            if not resume_if_exists:
                _nothing_there(path)
                continue
            found = ended(request, path)
            directory = request.existing(path)
            if found is not None:
                self.kept[place] = found
            elif directory is not None:
                self._there[place] = directory
        self._steps = [
            self.until if place in self.kept else _step(self._there.get(place))
            for place in range(len(requests))
        ]
        self._groups = self._alike()

    def _alike(self) -> list[list[int]]:
        """Return the runs that are to be done in groups that can go on together: from the same step, if at all."""
        groups: dict[Any, list[int]] = {}
        for place in range(len(self.requests)):
            directory = self._there.get(place)
            key: Any = (self._steps[place], "float32", 1)
            if directory is not None:
                key = (self._steps[place], directory.facts["dtype"], directory.facts["threads"])
            if place not in self.kept:
                groups.setdefault(key, []).append(place)
        return list(groups.values())

    @property
    def done(self) -> int:
        """How many steps have been taken, a mean over the seeds."""
        return sum(self._steps) // len(self._steps)

    @cached_property
    def apart(self) -> str | None:
        """Why the runs cannot be joined; None where they can, or none are to be. One seed is built to find out.

        Raises:
            ScenarioError: The scenario cannot be built.
            DataError: Its data are missing or broken.
        """
        group = next((group for group in self._groups if len(group) > 1), None)
        if group is None:
            return None
        with closing(self._seeds(group[:1])) as one:
            return why_apart(one.simulations[0], self.requests[0].backend, len(group))

    def go(
        self, on_step: OnStep | None = None, checkpoint_every: int | None = None, bands: Path | None = None
    ) -> SeedsOutcome:
        """Run to the end, or to a signal.

        Args:
            on_step: Called after every step, with `done`.
            checkpoint_every: As of `Run.go`.
            bands: A folder for TensorBoard events with means and bands, and seeds.json: the object of `--json`.

        Raises:
            ScenarioError: The scenario cannot be built.
            DataError: Its data are missing or broken.
            RunError: A directory cannot be written.
        """
        apart = self.apart
        groups = self._groups if apart is None else [[place] for group in self._groups for place in group]
        outcomes = dict(self.kept)
        told = None if bands is None else self._bands(bands)
        try:
            for group in groups:
                found = self._run(group, self._noting(on_step, group), checkpoint_every, told)
                outcomes |= dict(zip(group, found, strict=True))
                for place in group:
                    self._steps[place] = self.until
                if any(outcome.exit_code > 128 for outcome in found):
                    break
        finally:
            if told is not None:
                told.close()
        ended = {self.requests[place].seed: outcomes[place] for place in sorted(outcomes)}
        outcome = SeedsOutcome(ended, apart, _exit_code([*ended.values()]))
        if bands is not None:
            with writing(bands):
                bands.mkdir(parents=True, exist_ok=True)
            write_json(bands / "seeds.json", outcome.result)
        return outcome

    def _noting(self, on_step: OnStep | None, group: Sequence[int]) -> OnStep | None:
        """Return `on_step` for some of the runs: it is told the steps of all."""
        if on_step is None:
            return None

        def noting(step: int, scores: Callable[[], Scores]) -> None:
            for place in group:
                self._steps[place] = step
            on_step(self.done, scores)

        return noting

    def _bands(self, folder: Path) -> OverSeeds:
        """Return what writes the bands; what earlier sessions have written of the runs is in them already."""
        scenario = self.requests[0].scenario
        bands = OverSeeds(folder, describe_run(scenario, {}), len(self.requests))
        for place in self.kept:
            bands.read(place, self.paths[place] / "metrics.csv")
            bands.ended(place)
        for place, directory in self._there.items():
            bands.read(place, directory.path / "metrics.csv", _step(directory))
        return bands

    def _run(
        self, group: Sequence[int], on_step: OnStep | None, every: int | None, bands: OverSeeds | None
    ) -> list[Outcome]:
        if len(group) == 1:
            return [self._alone(group[0], on_step, every, bands)]
        seeds = self._seeds(group)
        directories = self._directories(group, seeds)
        return Together(seeds, directories, self.until).go(on_step, every, bands, group)

    def _alone(
        self, place: int, on_step: OnStep | None, every: int | None, bands: OverSeeds | None
    ) -> Outcome:
        run = begin(self.requests[place], self.paths[place], resume_if_exists=self._resume)
        if bands is not None:
            run.simulation.recorders.append(bands.recorder(place))
        if on_step is None:
            return run.go(None, every)
        return run.go(lambda run: on_step(run.simulation.now, run.scores), every)

    def _seeds(self, group: Sequence[int]) -> Seeds:
        """Build the simulations of a group, at the step they go on from."""
        request, there = self.requests[group[0]], self._there.get(group[0])
        device = chosen_device(request.device)
        settings: dict[str, Any] = {"device": device, "backend": request.backend}
        if there is not None:
            facts = there.facts
            settings |= {"dtype": getattr(torch, facts["dtype"]), "threads": facts["threads"]}
        seeds = [self.requests[place].seed for place in group]
        if there is None or not there.checkpoints:
            return Seeds(request.scenario, seeds, **settings)
        found = Seeds(without_weights(request.scenario), seeds, **settings)
        try:
            for place, simulation in zip(group, found.simulations, strict=True):
                saved = read_simulation(self._there[place].path, None, device)
                simulation.scenario = request.scenario
                simulation.load_saved(saved)
        except BaseException:
            found.close()
            raise
        return found

    def _directories(self, group: Sequence[int], seeds: Seeds) -> list[RunDirectory]:
        """Return the directories of runs that share a program; run.json says which. On failure no new one is left."""
        together = [self.requests[place].seed for place in group]
        # What would run each alone: it may be gone on with by itself.
        backend = self.requests[0].backend
        found, made = [], []
        try:
            for place in group:
                request, directory = self.requests[place], self._there.get(place)
                if directory is None:
                    facts = {**request.facts, "backend": backend}
                    facts["together"] = together
                    directory = RunDirectory.create(self.paths[place], request.scenario, facts)
                    made.append(directory.path)
                else:
                    directory.note(together=together)
                found.append(directory)
        except BaseException:
            seeds.close()
            for path in made:
                shutil.rmtree(path, ignore_errors=True)
            raise
        return found


def ended(request: Request, path: Path) -> Outcome | None:
    """Return how the run that is at `path` has ended, done or diverged; None where it can be begun or gone on with.

    Raises:
        RunError: There is something else; the line names what differs.
    """
    result = request.finished(path)
    if result is not None:
        return Outcome(result)
    directory = request.existing(path)
    if directory is None or directory.facts["exit"] != "diverged" or directory.result is None:
        return None
    error = f"{path}: diverged and would do so again: {directory.facts['error']}"
    return Outcome(directory.result, DivergenceError.exit_code, error)


def summary_of(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what each metric is over seeds: of readouts (their mean) on the test split, and of the environment.

    Args:
        results: Of each seed. Those that diverged do not count; nor do those that were stopped where others are done.

    Returns:
        By metric `mean`, `error` (standard error), `median`, `iqm`, `low`, `high` (its 95 % interval) and `n`.
    """
    counted = [result for result in results if result["exit"] == "done"]
    counted = counted or [result for result in results if result["exit"] == "stopped"]
    said = [{metric: one.get(metric) for metric in _METRICS} for one in counted]
    for figures, one in zip(said, counted, strict=True):
        figures |= {metric: value for metric, value in one["env"].items() if figures.get(metric) is None}
    found = {}
    for metric in dict.fromkeys(metric for figures in said for metric in figures):
        values = [value for figures in said if (value := figures.get(metric)) is not None]
        if values:
            found[metric] = asdict(spread(values))
    return found


def _exit_code(outcomes: Sequence[Outcome]) -> int:
    codes = [outcome.exit_code for outcome in outcomes]
    stopped = [code for code in codes if code > 128]
    if stopped:
        return stopped[0]
    return 0 if 0 in codes else max(codes)


def _step(directory: RunDirectory | None) -> int:
    """Return the step that a run goes on from."""
    if directory is None or not directory.checkpoints:
        return 0
    return int(directory.checkpoints[-1].name.removeprefix("step-"))


def _nothing_there(path: Path) -> None:
    if path.is_dir() and any(path.iterdir()):
        raise RunError(
            f"{path}: is there already and not empty; choose another name, or add --resume-if-exists to go on"
        )
