"""Replaying two runs side by side, to find the first step and the first number in which they part.

Each is run again as run.json says, from its newest checkpoint that comes before the rows part, or from the beginning, and
checked against the digests that it wrote. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from antiphon.engine.build.devices import chosen_device
from antiphon.engine.compare.differences import (
    LEARNED,
    WHATS,
    Difference,
    Taken,
    compared,
    difference,
    same,
    state,
    view,
)
from antiphon.engine.core.mask import EnvMask
from antiphon.engine.metrics.digests import digests
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import AntiphonError, DivergenceError, RunError
from antiphon.scenarios import Scenario
from antiphon.telemetry.digests_csv import Column, Digests

__all__ = ["Broken", "First", "Replay", "checkpoints_apart", "replay"]


class First(NamedTuple):
    """The first step at which something of its kind differs.

    Attributes:
        step: After how many steps; where it is the step that both were begun from, they differed before.
        difference: The first one.
        others: How many more of its kind differ then.
    """

    step: int
    difference: Difference
    others: int


class Broken(NamedTuple):
    """Where a run, run again, is not what it has recorded.

    Attributes:
        step: The first row that is another one.
        columns: Whose digests.
    """

    step: int
    columns: tuple[Column, ...]


@dataclass
class Replay:
    """What came of it.

    Attributes:
        start: The step from which both were compared.
        end: The step to which they were.
        firsts: By what differs, in the order of cause and effect.
        parted: What both have learned differs from this step on; None: up to `end` it does not.
        broken: By run, where it is not reproduced; None: it is.
        diverged: By run, what diverged; None: nothing.
        stopped: Whether it was stopped before its end.
    """

    start: int = 0
    end: int = 0
    firsts: list[First] = field(default_factory=list)
    parted: int | None = None
    broken: list[Broken | None] = field(default_factory=lambda: [None, None])
    diverged: list[str | None] = field(default_factory=lambda: [None, None])
    stopped: bool = False

    @property
    def learned(self) -> First | None:
        """The first parameter or running statistic that differs."""
        found = [f for f in self.firsts if f.step == self.parted and f.difference.what in LEARNED]
        return found[-1] if found else None

    @property
    def cause(self) -> First | None:
        """The earliest thing that differs."""
        return min(self.firsts, key=lambda f: (f.step, WHATS.index(f.difference.what)), default=None)

    @property
    def reproduces(self) -> bool:
        """Whether both are what they have recorded."""
        return self.broken == [None, None]


class _Again:
    """A run that is run again.

    Args:
        directory: Its run directory.
        record: Its digests.
        before: Checkpoints after this step are not taken.

    Raises:
        RunError: It cannot be run again here; the line says why.
    """

    def __init__(self, directory: RunDirectory, record: Digests, before: int) -> None:
        self.directory, self.record = directory, record
        self.broken: Broken | None = None
        self.diverged: str | None = None
        self._seeds: Seeds | None = None
        facts = directory.facts
        try:
            self._settings: dict[str, Any] = {
                "device": chosen_device(facts["device"]),
                "threads": facts["threads"],
            }
            together = facts.get("together") or []
            self.simulation = self._together(together, before) if len(together) > 1 else self._alone(before)
            self.simulation.recorders = []  # nobody looks at its figures
        except AntiphonError as error:
            raise RunError(f"{directory.path}: cannot be run again here: {error}") from None
        self.check()

    def _alone(self, before: int) -> Simulation:
        backend = self.directory.facts["backend"]
        early = [path for path in self.directory.checkpoints if _step(path) <= before]
        if early:
            return Simulation.load(early[-1], **self._settings, backend=backend)
        return Simulation(self._scenario(), seed=self.directory.facts["seed"], **self._begun, backend=backend)

    def _together(self, seeds: Sequence[int], before: int) -> Simulation:
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
        text = self.directory.document
        if text.startswith("# No document"):
            raise RunError("its scenario holds Python objects")
        return Scenario.from_yaml(text, str(self.directory.path / "scenario.yaml"))

    @property
    def now(self) -> int:
        return self.simulation.now

    def step(self) -> Taken:
        """Take a step as the run took it."""
        simulation = self.simulation
        step_signals = simulation.world.step_signals
        ended: EnvMask = False
        torch.set_num_threads(simulation.threads)
        try:
            ended = self._stepped()
        except DivergenceError as error:
            self.diverged = str(error)
        self.check()
        return Taken(simulation, step_signals, ended)

    def _stepped(self) -> EnvMask:
        if self._seeds is None:
            return self.simulation.step()["ended"]  # type: ignore[no-any-return]
        running = [simulation for simulation in self._seeds.simulations if simulation.diverged is None]
        infos = self._seeds.step()
        if self.simulation.diverged is not None:
            raise DivergenceError(self.simulation.diverged)
        return infos[running.index(self.simulation)]["ended"]  # type: ignore[no-any-return]

    def check(self) -> None:
        """Compare what it has learned with what it had at this step."""
        if self.broken is not None or self.now not in self.record.rows or self.diverged is not None:
            return
        recorded = self.record.of(self.now)
        other = tuple(
            (kind, name)
            for kind, name, digest in digests(self.simulation)
            if recorded.get((kind, name)) != digest
        )
        if other:
            self.broken = Broken(self.now, other)

    def close(self) -> None:
        (self._seeds or self.simulation).close()


def replay(
    directories: tuple[RunDirectory, RunDirectory],
    records: tuple[Digests, Digests],
    *,
    equal: int,
    apart: int,
    stopped: Sequence[int] = (),
    on_step: Callable[[int], None] = lambda step: None,
) -> Replay:
    """Run two runs again, side by side, and say where they part.

    Args:
        directories: Of the runs.
        records: Their digests.
        equal: The last row up to which they agree; 0: there is none.
        apart: The first row that differs: there it ends.
        stopped: Ends after the present step once there is something in it.
        on_step: Called after every step.

    Raises:
        RunError: One of them cannot be run again here.
    """
    found = _replay(directories, records, equal, apart, stopped, on_step)
    if found.firsts and found.firsts[0].step == found.start > 0 and found.reproduces and not found.stopped:
        return _replay(directories, records, 0, apart, stopped, on_step)  # it was before the checkpoints
    return found


def _replay(
    directories: tuple[RunDirectory, RunDirectory],
    records: tuple[Digests, Digests],
    before: int,
    apart: int,
    stopped: Sequence[int],
    on_step: Callable[[int], None],
) -> Replay:
    runs: list[_Again] = []
    try:
        for directory, record in zip(directories, records, strict=True):
            runs.append(_Again(directory, record, before))
        first, second = runs
        while first.now != second.now and not stopped and first.diverged is second.diverged is None:
            (first if first.now < second.now else second).step()
            on_step(min(first.now, second.now))
        found = Replay(start=max(first.now, second.now))
        if first.now == second.now:
            begun = compared(*(state(run.simulation.system) for run in runs))
            if found.start == 0:  # all moments are zeros
                begun = [each for each in begun if each.what != "moment"]
            _note(found, found.start, begun)
        while first.now < apart and not stopped and first.diverged is second.diverged is None:
            taken = first.step(), second.step()
            if first.diverged is second.diverged is None and found.parted is None and not same(*taken):
                _note(found, first.now, compared(view(taken[0]), view(taken[1])))
            on_step(first.now)
        found.end, found.stopped = max(found.start, min(first.now, second.now)), bool(stopped)
        found.broken = [run.broken for run in runs]
        found.diverged = [run.diverged for run in runs]
        return found
    finally:
        for run in runs:
            run.close()


def _note(found: Replay, step: int, differences: Sequence[Difference]) -> None:
    """Keep the first difference of every kind that has not been seen before."""
    seen = {first.difference.what for first in found.firsts}
    by_what: dict[str, list[Difference]] = {}
    for each in differences:
        by_what.setdefault(each.what, []).append(each)
    found.firsts += [
        First(step, some[0], len(some) - 1) for what, some in by_what.items() if what not in seen
    ]
    if any(what in LEARNED for what in by_what):
        found.parted = step


def checkpoints_apart(first: RunDirectory, second: RunDirectory) -> First | None:
    """Return the first number in which the checkpoints of two runs differ, of the steps at which both have one.

    Raises:
        RunError: A checkpoint is damaged.
    """
    theirs = {_step(path): path for path in second.checkpoints}
    for path in first.checkpoints:
        step = _step(path)
        if step in theirs:
            differences = _saved_apart(_saved(path), _saved(theirs[step]))
            if differences:
                return First(step, differences[0], len(differences) - 1)
    return None


def _saved(path: Path) -> dict[tuple[str, str, str, str], torch.Tensor]:
    """Return what was learned, as a checkpoint has it."""
    _, tree = checkpoint.read(path)
    system: Mapping[str, Mapping[str, Any]] = tree["system"]
    parts = (
        ("agent", "", "learners"),
        ("channel", "predictor.", "predictors"),
        ("channel", "input.", "inputs"),
    )
    return {
        (what, kind, name, prefix + tensor): value
        for what, held in (("parameter", "parameters"), ("running statistic", "buffers"))
        for kind, prefix, section in parts
        for name, saved in system[section].items()
        for tensor, value in saved[held].items()
    }


def _saved_apart(
    first: Mapping[tuple[str, str, str, str], torch.Tensor],
    second: Mapping[tuple[str, str, str, str], torch.Tensor],
) -> list[Difference]:
    found = (difference(place, first[place], second[place]) for place in first if place in second)
    return [each for each in found if each is not None]


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
