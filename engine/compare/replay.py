"""Replay of two runs side by side, for the first step and the first tensor in which they differ.

Each is run again as run.json says, from its newest checkpoint that comes before the rows differ, or from the beginning, and
checked against the digests that it wrote. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from antiphon.engine.build.builder import chosen_device
from antiphon.engine.compare.differences import (
    DIGESTED,
    QUANTITIES,
    Difference,
    StepTaken,
    differences,
    equal_as_run,
    learned_tensors,
    step_tensors,
)
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.metrics.digests import digests
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.engine.state.state_dict import snapshot
from antiphon.errors import AntiphonError, DivergenceError, RunError
from antiphon.scenarios import Scenario
from antiphon.telemetry.csv_files import Column, Digests

__all__ = ["FirstDifference", "NotReproducible", "Replay", "compare_checkpoints", "replay_runs"]


class FirstDifference(NamedTuple):
    """The first step at which a quantity differs.

    Attributes:
        step: After how many steps; where it is the step that both were begun from, they differed before.
        difference: The first tensor.
        others: How many more tensors of this quantity differ then.
    """

    step: int
    difference: Difference
    others: int


class NotReproducible(NamedTuple):
    """Where a replayed run is not what it recorded.

    Attributes:
        step: The first row that differs from the record.
        different: Agents and channels whose digests differ.
    """

    step: int
    different: tuple[Column, ...]


@dataclass
class Replay:
    """Outcome of a replay.

    Attributes:
        start: The step from which both were compared.
        end: The step to which they were.
        step: The first step at which parameters or running statistics differ; None: they do not up to `end`.
        firsts: By quantity, in the order of cause and effect.
        not_reproducible: By run; None: it is reproduced.
        diverged: By run, the message of its divergence; None: it did not diverge.
        stopped: Whether it was stopped before its end.
    """

    start: int = 0
    end: int = 0
    step: int | None = None
    firsts: list[FirstDifference] = field(default_factory=list)
    not_reproducible: list[NotReproducible | None] = field(default_factory=lambda: [None, None])
    diverged: list[str | None] = field(default_factory=lambda: [None, None])
    stopped: bool = False

    @property
    def first(self) -> FirstDifference | None:
        """The first parameter or running statistic that differs."""
        found = [f for f in self.firsts if f.step == self.step and f.difference.what in DIGESTED]
        return found[-1] if found else None

    @property
    def cause(self) -> FirstDifference | None:
        """The earliest difference of all."""
        return min(self.firsts, key=lambda f: (f.step, QUANTITIES.index(f.difference.what)), default=None)

    @property
    def reproduces(self) -> bool:
        """Whether both runs are what they recorded."""
        return self.not_reproducible == [None, None]

    def add(self, step: int, found: Sequence[Difference]) -> None:
        """Keep the first difference of every quantity that has not differed before."""
        known = {first.difference.what for first in self.firsts}
        for what in dict.fromkeys(each.what for each in found):
            some = [each for each in found if each.what == what]
            if what not in known:
                self.firsts.append(FirstDifference(step, some[0], len(some) - 1))
            if what in DIGESTED:
                self.step = step


class ReplayedRun:
    """A run that is run again.

    Args:
        directory: Its run directory.
        record: Its digests.
        before: The last step whose checkpoint may be its start.
        scenario: Its scenario, if that holds Python objects; None: that of its document.

    Raises:
        RunError: It cannot be run again here; the line says why.
    """

    def __init__(
        self, directory: RunDirectory, record: Digests, before: int, scenario: Scenario | None = None
    ) -> None:
        self.directory, self.record = directory, record
        self._given = scenario
        self.not_reproducible: NotReproducible | None = None
        self.diverged: str | None = None
        self._seeds: Seeds | None = None
        facts = directory.facts
        seeds = facts.get("together") or []
        try:
            device = chosen_device(facts["device"])
            self._settings: dict[str, Any] = {"device": device, "threads": facts["threads"]}
            self.simulation = self._of_seeds(seeds, before) if len(seeds) > 1 else self._alone(before)
            self.simulation.recorders = []  # its figures are written already
        except AntiphonError as error:
            raise RunError(f"{directory.path}: cannot be run again here: {error}") from None
        self.check()

    def _alone(self, before: int) -> Simulation:
        backend = self.directory.facts["backend"]
        early = [path for path in self.directory.checkpoints if _step(path) <= before]
        if early:
            simulation = Simulation.load(early[-1], self._given, **self._settings, backend=backend)
            if simulation.obstacle is None:
                return simulation
            simulation.close()  # without the environment's state it is run again from its beginning
        return Simulation(self._scenario(), seed=self.directory.facts["seed"], **self._begun, backend=backend)

    def _of_seeds(self, seeds: Sequence[int], before: int) -> Simulation:
        """Run all seeds that shared its program: alone, the last bits would be others."""
        alone = self.directory.facts.get("alone_from")
        if alone is not None:
            if any(alone <= _step(path) <= before for path in self.directory.checkpoints):
                return self._alone(before)
            raise RunError(f"it shared a program with other seeds, and from step {alone} on went on alone")
        self._seeds = Seeds(self._scenario(), seeds, **self._begun)
        return self._seeds.simulations[seeds.index(self.directory.facts["seed"])]

    @property
    def _begun(self) -> dict[str, Any]:
        return {**self._settings, "dtype": getattr(torch, self.directory.facts["dtype"])}

    def _scenario(self) -> Scenario:
        if self._given is not None:
            return self._given
        text = self.directory.document
        if text.startswith("# No document"):
            raise RunError("its scenario holds Python objects; name what makes it with --scenario")
        return Scenario.from_yaml(text, str(self.directory.path / "scenario.yaml"))

    @property
    def now(self) -> int:
        return self.simulation.now

    def step(self) -> StepTaken:
        """Take a step as the run took it."""
        simulation = self.simulation
        for step, key, value in self.directory.facts.get("changes", ())[len(simulation.changes) :]:
            if step == simulation.now:
                simulation.set(key, value)
        signals = simulation.world.step_signals
        ended: EnvMask = False
        torch.set_num_threads(simulation.threads)
        try:
            if self._seeds is None:
                ended = simulation.step()["ended"]
            else:
                running = [one for one in self._seeds.simulations if one.diverged is None]
                infos = self._seeds.step()
                if simulation.diverged is None:
                    ended = infos[running.index(simulation)]["ended"]
        except DivergenceError as error:
            self.diverged = str(error)
        self.diverged = self.diverged or simulation.diverged
        self.check()
        return StepTaken(simulation, signals, ended)

    def check(self) -> None:
        """Compare its digests with those that were recorded at this step."""
        if self.not_reproducible is not None or self.now not in self.record.rows or self.diverged is not None:
            return
        recorded = self.record.of(self.now)
        other = tuple(
            Column(kind, name)
            for kind, name, digest in digests(self.simulation.backend, self.simulation.scenario.agents)
            if recorded.get(Column(kind, name)) != digest
        )
        if other:
            self.not_reproducible = NotReproducible(self.now, other)

    def close(self) -> None:
        (self._seeds or self.simulation).close()


def replay_runs(
    directories: tuple[RunDirectory, RunDirectory],
    records: tuple[Digests, Digests],
    *,
    last_equal: int,
    until: int,
    scenarios: tuple[Scenario | None, Scenario | None] = (None, None),
    stopped: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda step: None,
) -> Replay:
    """Run two runs again, side by side, up to the first row that differs.

    Args:
        directories: Of the runs.
        records: Their digests.
        last_equal: The last row up to which they agree; 0: there is none.
        until: The first row that differs: there it ends.
        scenarios: Those of runs whose scenario holds Python objects.
        stopped: Ends after the present step once there is something in it.
        on_step: Called after every step.

    Raises:
        RunError: One of them cannot be run again here.
    """
    runs: list[ReplayedRun] = []
    try:
        for directory, record, scenario in zip(directories, records, scenarios, strict=True):
            runs.append(ReplayedRun(directory, record, last_equal, scenario))
        first, second = runs
        while first.now != second.now and not stopped and first.diverged is second.diverged is None:
            (first if first.now < second.now else second).step()
            on_step(min(first.now, second.now))
        found = Replay(start=max(first.now, second.now))
        if first.now == second.now:
            states = [learned_tensors(snapshot(run.simulation.system)) for run in runs]
            # before the first step all moments are zeros
            found.add(found.start, [d for d in differences(*states) if found.start > 0 or d.what != "moment"])
        while first.now < until and not stopped and first.diverged is second.diverged is None:
            taken = first.step(), second.step()
            if first.diverged is second.diverged is None and found.step is None and not equal_as_run(*taken):
                found.add(first.now, differences(step_tensors(taken[0]), step_tensors(taken[1])))
            on_step(first.now)
        found.end, found.stopped = max(found.start, min(first.now, second.now)), bool(stopped)
        found.not_reproducible = [run.not_reproducible for run in runs]
        found.diverged = [run.diverged for run in runs]
    finally:
        for run in runs:
            run.close()
    if found.firsts and found.firsts[0].step == found.start > 0 and found.reproduces and not found.stopped:
        # They differ before the checkpoints.
        return replay_runs(
            directories,
            records,
            last_equal=0,
            until=until,
            scenarios=scenarios,
            stopped=stopped,
            on_step=on_step,
        )
    return found


def compare_checkpoints(first: RunDirectory, second: RunDirectory) -> FirstDifference | None:
    """Return the first difference of the runs' checkpoints, of the steps at which both have one.

    Raises:
        RunError: A checkpoint is damaged.
    """
    theirs = {_step(path): path for path in second.checkpoints}
    for path in first.checkpoints:
        step = _step(path)
        if step in theirs:
            states = [learned_tensors(checkpoint.read(saved)[1]["system"]) for saved in (path, theirs[step])]
            found = differences(*states)
            found = [each for each in found if each.what == "parameter"] or found
            if found:
                return FirstDifference(step, found[0], len(found) - 1)
    return None


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
