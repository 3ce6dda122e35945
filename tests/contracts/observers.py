"""Ways of running a document, each held to its plain run: on the cohort backend, in float64, one step after the other.

An observer takes the plain run and an empty folder and yields a line for each difference; what does not apply to a document
raises `NotApplicable`. Exact where the same operations run in the same order; else to 1e-9: in float64 over 14 steps three
orders of summation differ by less than 1e-11 of the largest number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from antiphon import DivergenceError, RunError, Scenario, Simulation
from tests.contracts.builders import STEPS
from tests.contracts.twins import TOLERANCE, differences, facts, stepped
from tests.engine.capture.dispatch_recorder import HostReads
from tests.kit.running import captured, in_parts, native_agents, seeds_together, two_parts
from tests.reference import backend as oracle

LOOKS = (7, STEPS)
"""Steps after which everything is compared: in the middle of most windows, and at the end."""
SEED = 3
SETTINGS: dict[str, Any] = {"dtype": torch.float64, "seed": SEED}


class NotApplicable(Exception):
    """A document cannot be run in this way."""


class Making(Protocol):
    """Makes the scenario of a document, its own object each time, with some keys of `training` changed."""

    def __call__(self, **training: Any) -> Scenario: ...


@dataclass(frozen=True)
class Plain:
    """The plain run of a document.

    Attributes:
        scenario: Makes its scenario.
        steps: What each step returned; the line with which it diverged, as the last one then.
        facts: Everything known after the steps of `LOOKS`.
    """

    scenario: Making
    steps: list[Any]
    facts: dict[int, dict[str, Any]]

    def made(self, backend: oracle.Chosen = "cohort", **settings: Any) -> Simulation:
        """Return another simulation of the document, with other arguments of `Simulation`."""
        return Simulation(self.scenario(), backend=backend, **{**SETTINGS, **settings})

    def against(
        self, other: Simulation, tolerance: float = 0.0, look: Callable[[Simulation], object] = bool
    ) -> Iterator[str]:
        """Let another simulation go on to the end; yield what differs: its losses at each step, after some of them everything.

        Args:
            other: Of the same document, after any of its steps.
            tolerance: Of `differences`; 0: to the bit.
            look: Called with it after each step.
        """
        with other:
            for now in range(other.now, len(self.steps)):
                yield from differences(self.steps[now], stepped(other), f"step {now}", tolerance)
                look(other)
                if now + 1 in self.facts:
                    yield from differences(self.facts[now + 1], facts(other), f"after {now + 1}", tolerance)


def run_plainly(scenario: Making) -> Plain:
    """Return the plain run of a document."""
    steps: list[Any] = []
    found: dict[int, dict[str, Any]] = {}
    with Simulation(scenario(), **SETTINGS) as simulation:
        while len(steps) < STEPS and simulation.diverged is None:
            steps.append(stepped(simulation))
            if len(steps) in LOOKS or simulation.diverged is not None:
                found[len(steps)] = facts(simulation)
    return Plain(scenario, steps, found)


# --- the same numbers, computed otherwise ------------------------------------------------------------------


def reference(plain: Plain, folder: Path) -> Iterator[str]:
    """The reference backend: one agent at a time."""
    yield from plain.against(plain.made(oracle.reference), TOLERANCE)


def unstacked(plain: Plain, folder: Path) -> Iterator[str]:
    """Every agent alone."""
    yield from plain.against(plain.made(stacked=False), TOLERANCE)


def native(plain: Plain, folder: Path) -> Iterator[str]:
    """The native kernel, where it computes any agent."""
    simulation = plain.made("native")
    if not native_agents(simulation):
        raise NotApplicable
    yield from plain.against(simulation, TOLERANCE)


def sweep(plain: Plain, folder: Path) -> Iterator[str]:
    """The other order: each group differentiated as soon as it has ticked, or all together."""
    other = plain.scenario(sweep=not plain.scenario().training.sweep)
    yield from plain.against(Simulation(other, **SETTINGS), TOLERANCE)


def seeds(plain: Plain, folder: Path) -> Iterator[str]:
    """The second of two seeds in one program."""
    together = seeds_together(plain.scenario(), (SEED + 1, SEED), dtype=torch.float64)
    if together is None:
        raise NotApplicable
    own = together.simulations[1]
    for now in range(len(plain.steps)):
        if own.diverged is None:
            together.step()
        if now + 1 in plain.facts:
            yield from differences(plain.facts[now + 1], facts(own), f"after {now + 1}", TOLERANCE)


def parts(plain: Plain, folder: Path) -> Iterator[str]:
    """Two parts in lockstep, each exchange as late as it may be, where channels can be cut."""
    placement = two_parts(plain.scenario(), **SETTINGS)
    if placement is None:
        raise NotApplicable
    joined = in_parts(plain.scenario(), placement, LOOKS[0], **SETTINGS)
    yield from differences(plain.facts[LOOKS[0]], facts(joined), "joined", TOLERANCE)
    yield from plain.against(joined, TOLERANCE)


# --- the same bits, interrupted or looked at ----------------------------------------------------------------


def saved(plain: Plain, folder: Path) -> Iterator[str]:
    """Saved and loaded after five steps, forked after nine; what was saved and forked goes on too."""
    simulation = plain.made()
    for _ in range(5):
        stepped(simulation)
    again = Simulation.load(simulation.save(folder / "saved"), plain.scenario())
    for _ in range(4):
        stepped(again)
    yield from plain.against(again.fork())
    yield from plain.against(again)
    yield from plain.against(simulation)


def handed_over(plain: Plain, folder: Path) -> Iterator[str]:
    """From one backend to the other, by a checkpoint and by a fork."""
    simulation = plain.made()
    for _ in range(5):
        stepped(simulation)
    path = simulation.save(folder / "saved")
    other = Simulation.load(path, plain.scenario(), backend=oracle.reference)
    for _ in range(4):
        stepped(other)
    again = Simulation.load(other.save(folder / "again"), plain.scenario(), backend=oracle.reference)
    yield from plain.against(other.fork("cohort"), TOLERANCE)
    yield from plain.against(again, TOLERANCE)


def recorded(plain: Plain, folder: Path) -> Iterator[str]:
    """A run directory is written, metrics are taken, and every step is looked at."""
    scenario = plain.scenario()
    telemetry = scenario.telemetry.model_copy(update={"period": 3})
    watched = Simulation(
        scenario.model_copy(update={"telemetry": telemetry}), logdir=folder / "run", **SETTINGS
    )
    yield from plain.against(watched, look=facts)


def replayed(plain: Plain, folder: Path) -> Iterator[str]:
    """Steady periods are recorded and replayed, as CUDA graphs are."""
    found = captured(plain.scenario(), **SETTINGS)
    if found is None:
        raise NotApplicable
    (simulation, loop), unobserved = found, plain.made()
    try:
        unobserved.run(60)
    except DivergenceError as error:
        raise NotApplicable from error
    try:
        simulation.run(60)
    except (RuntimeError, RunError) as error:
        if not isinstance(error, HostReads | RunError) and "must match the size" not in str(error):
            raise
        raise NotApplicable from error  # rows selected by what is drawn, or read: CUDA refuses to record that
    if loop.replayed < 2:
        raise NotApplicable
    yield from differences(facts(unobserved), facts(simulation), "after 60")


# --- the same effects ---------------------------------------------------------------------------------------


def changed(plain: Plain, folder: Path) -> Iterator[str]:
    """Rates that change in mid-run, on either backend; a change to the value that there was changes no bit."""
    both = plain.made(), plain.made(oracle.reference)
    for simulation in both:
        for _ in range(5):
            stepped(simulation)
        simulation.set("*.learning_rate", 0.002)
        for _ in range(5):
            stepped(simulation)
    yield from differences(facts(both[1]), facts(both[0]), "changed")


def metrics(plain: Plain, folder: Path) -> Iterator[str]:
    """The metrics of a run: who has one, and which, on either backend."""
    rows = []
    for backend in ("cohort", oracle.reference):
        scenario = plain.scenario()
        telemetry = scenario.telemetry.model_copy(update={"period": 2})
        with Simulation(
            scenario.model_copy(update={"telemetry": telemetry}), backend=backend, **SETTINGS
        ) as simulation:
            history = simulation.history
            for _ in range(6):
                stepped(simulation)
            # gradients that are none and gradients that are zeros are written in either way
            rows.append(
                {
                    row[:4]: row.value
                    for row in history
                    if row.metric != "seconds" and (row.metric, row.value) != ("gradient_norm", 0.0)
                }
            )
    ours, theirs = rows
    if ours.keys() != theirs.keys():
        yield f"only on one backend: {ours.keys() ^ theirs.keys()}"
    for key in ours.keys() & theirs.keys():
        one, other = ours[key], theirs[key]
        if not (
            math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(one) and math.isnan(other))
        ):
            yield f"{key}: {one} and {other}"


OBSERVERS: dict[str, Callable[[Plain, Path], Iterator[str]]] = {
    observer.__name__: observer
    for observer in (
        reference,
        saved,
        sweep,
        seeds,
        recorded,
        parts,
        unstacked,
        native,
        handed_over,
        changed,
        metrics,
        replayed,
    )
}
EXACT = ("saved", "recorded", "replayed")
"""Observers that must see the same bits; for the others rounding may make a difference."""
