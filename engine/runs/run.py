"""A run: a simulation, its directory, and the loop that carries both to the end, or to a stop with a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.build.devices import chosen_device
from antiphon.engine.metrics.figures import figures
from antiphon.engine.metrics.tally import Tally
from antiphon.engine.metrics.timed import Timed
from antiphon.engine.runs.directory import RunDirectory, now, write_json
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.result import Newest, result_of
from antiphon.engine.runs.stopping import stop_signals
from antiphon.engine.simulation import Simulation
from antiphon.errors import AntiphonError, DivergenceError, RunError
from antiphon.scenarios import Scenario

__all__ = ["Outcome", "Run", "begin", "resume"]

_CHECKPOINTS = 10
_FEWEST_STEPS = 100
"""Between checkpoints, where nothing else is said: ten in a run, but at least so many steps apart."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        result: The object of `--json`.
        exit_code: 0 done, 3 diverged, 130 or 143 stopped by a signal.
        error: What diverged, and when; None otherwise.
    """

    result: Mapping[str, Any]
    exit_code: int = 0
    error: str | None = None


class Run:
    """A simulation that is written into a directory.

    Args:
        simulation: At the step it goes on from.
        directory: Its run directory.
        until: The step it stops at.
    """

    def __init__(self, simulation: Simulation, directory: RunDirectory, until: int) -> None:
        self.simulation = simulation
        self.directory = directory
        self.until = until
        self._newest = Newest()
        self._tally = Tally(simulation.system)
        self._before = self._start = 0.0

    def scores(self) -> dict[str, dict[str, float]]:
        """Return mean loss and metric of each readout that learned since the last call, on what it trained on."""
        found, readouts = self._tally.take(), self.simulation.scenario.readouts
        return {name: found[name] for name in readouts if name in found}

    def open(self) -> None:
        """Begin to write the simulation's figures, after those of earlier sessions.

        Raises:
            RunError: The directory cannot be written.
        """
        directory, simulation = self.directory, self.simulation
        directory.attach(simulation, self.until)
        self._newest.read(directory.path / "metrics.csv", simulation.now)
        simulation.recorders[-1] = Timed(simulation.recorders[-1], self._seconds)
        simulation.recorders.append(self._newest)
        directory.note(exit="running", steps=self.until, finished=None, error=None)
        told = self._newest.of("run", "").get("seconds", 0.0)  # a crash leaves run.json behind the table
        self._before, self._start = max(directory.facts["seconds"], told), time.perf_counter()

    def _seconds(self) -> float:
        """Return how long the run has taken so far, all sessions together."""
        return self._before + time.perf_counter() - self._start

    def finish(self, ended: str, error: str | None = None) -> dict[str, Any]:
        """Write a checkpoint, run.json and result.json, and return the result; the simulation may go on.

        Args:
            ended: done, stopped or diverged.
            error: What went wrong.

        Raises:
            RunError: The directory cannot be written.
        """
        directory, simulation = self.directory, self.simulation
        seconds = self._seconds()
        directory.checkpoint(simulation)
        directory.note(exit=ended, error=error, seconds=seconds, finished=now())
        at = max(simulation.now - 1, 0)  # a run that was stopped has no row of its own in the table
        self._newest.figures(at, figures(simulation, at))
        result = result_of(simulation, self._newest, directory.facts, str(directory.path))
        write_json(directory.path / "result.json", result)
        if ended == "done":
            for recorder in simulation.recorders:
                recorder.end(result)
        return result

    def keep(self, every: int | None = None) -> None:
        """Write a checkpoint where one is due before the end.

        Args:
            every: Steps between checkpoints; None: ten in a run, at least 100 steps apart.

        Raises:
            RunError: It cannot be written.
        """
        until, step = self.simulation.until, self.simulation.now
        every = every or max(_FEWEST_STEPS, -(-until // _CHECKPOINTS))
        if step % every == 0 and step < until:
            self.directory.checkpoint(self.simulation)

    def resumed(self) -> None:
        """Note in run.json that a run that has ended goes on."""
        if not self.running:
            self.directory.note(exit="running", finished=None, error=None)

    @property
    def running(self) -> bool:
        """Whether run.json has no end of it yet."""
        return bool(self.directory.facts["exit"] == "running")

    def broken_off(self, failure: BaseException | None = None) -> None:
        """Note in run.json that the run is over, and why, where it has come to no end of its own.

        Args:
            failure: What broke it off; None: it was closed.
        """
        diverged = self.simulation.diverged
        ended = "failed"
        if failure is None or isinstance(failure, KeyboardInterrupt):
            ended = "stopped"
        reason = None if failure is None else str(failure) or type(failure).__name__
        if diverged is not None and (failure is None or isinstance(failure, DivergenceError)):
            ended, reason = "diverged", diverged
        with suppress(AntiphonError):  # the failure itself is worth more than that of its note
            self.directory.note(
                exit=ended, error=reason, step=self.simulation.now, seconds=self._seconds(), finished=now()
            )

    def go(
        self, on_step: Callable[[Run], None] | None = None, checkpoint_every: int | None = None
    ) -> Outcome:
        """Run to the end; the simulation is closed afterwards.

        Ctrl-C or SIGTERM ends it after the present step, with a checkpoint and a result; a second one at once.

        Args:
            on_step: Called after every step.
            checkpoint_every: Steps between checkpoints; the newest two are kept. None: ten in a run, at least
                100 steps apart.

        Raises:
            RunError: The directory cannot be written any more.
        """
        error: str | None = None
        try:
            with stop_signals() as stopped:
                self.open()
                try:
                    self._loop(stopped, on_step, checkpoint_every)
                except DivergenceError as divergence:
                    error = str(divergence)
                ended = "diverged" if error else "stopped" if self.simulation.now < self.until else "done"
                result = self.finish(ended, error)
        except BaseException as failure:
            with suppress(AntiphonError):
                reason = str(failure) or type(failure).__name__
                self.directory.note(exit="failed", error=reason, finished=now())
            raise
        finally:
            self.simulation.close()
        exit_code = {"done": 0, "diverged": DivergenceError.exit_code}.get(ended)
        return Outcome(result, 128 + stopped[0] if exit_code is None else exit_code, error)

    def _loop(
        self, stopped: list[int], on_step: Callable[[Run], None] | None, checkpoint_every: int | None
    ) -> None:
        simulation = self.simulation
        simulation.until = self.until
        while simulation.now < self.until and not stopped:
            simulation.step()
            self._tally.add(simulation.learned)
            if on_step is not None:
                on_step(self)
            self.keep(checkpoint_every)
        simulation.settle()  # a signal may have come between two syncs


def begin(request: Request, path: str | Path, *, resume_if_exists: bool = False) -> Run:
    """Begin a run; what is asked of it is checked, and its scenario built, before anything is written.

    Args:
        request: What it shall be.
        path: Its directory.
        resume_if_exists: Go on with the run that is there already, if it is this one.

    Raises:
        ScenarioError: The scenario cannot be resolved or built.
        DataError: Its data are missing or broken.
        RunError: The directory holds something else, or cannot be written.
    """
    if resume_if_exists:
        directory = request.existing(path)
        if directory is not None:
            return _go_on(directory, request.scenario.training.steps)
    elif Path(path).is_dir() and any(Path(path).iterdir()):
        raise RunError(
            f"{path}: is there already and not empty; choose another name, or add --resume-if-exists to go on"
        )
    device = chosen_device(request.device)
    simulation = Simulation(request.scenario, seed=request.seed, device=device, backend=request.backend)
    # Chosen once, for resuming too.
    facts = {**request.facts, "backend": simulation.backend.name}
    try:
        directory = RunDirectory.create(path, request.scenario, facts)
    except BaseException:
        simulation.close()
        raise
    return Run(simulation, directory, request.scenario.training.steps)


def resume(path: str | Path, steps: int | None = None) -> Run | Outcome:
    """Go on with a run from its newest checkpoint, to the same bits as if it had never stopped.

    Args:
        path: The run directory.
        steps: The step to stop at; schedules keep the scenario's `training.steps`. None: as the run was told.

    Returns:
        The run, or its outcome where it is at that step already.

    Raises:
        RunError: No run is there, it has gone further, or it cannot go on.
        DivergenceError: It diverged and would do so again.
    """
    directory = RunDirectory.open(path)
    facts = directory.facts
    until = facts["steps"] if steps is None else steps
    done, result = facts["step"], directory.result
    if until < done:
        raise RunError(f"--steps: {until}, but {path} has done {done} already; give more")
    if until == done and facts["exit"] == "done" and result is not None:
        return Outcome(result)
    return _go_on(directory, until)


def _go_on(directory: RunDirectory, until: int) -> Run:
    facts = directory.facts
    if facts["exit"] == "diverged":
        raise DivergenceError(f"{directory.path}: diverged and would do so again: {facts['error']}")
    device = chosen_device(facts["device"])
    threads, backend = facts["threads"], facts["backend"]
    if directory.checkpoints:
        simulation = Simulation.load(directory.path, device=device, threads=threads, backend=backend)
    else:  # it ended before its first checkpoint
        scenario = Scenario.from_yaml(directory.document, str(directory.path / "scenario.yaml"))
        dtype = getattr(torch, facts["dtype"])
        settings = {"device": device, "dtype": dtype, "threads": threads, "backend": backend}
        simulation = Simulation(scenario, seed=facts["seed"], **settings)
    if len(facts.get("together") or []) > 1 and "alone_from" not in facts:
        directory.note(
            alone_from=simulation.now
        )  # from here on its last bits are others than among its seeds
    return Run(simulation, directory, until)
