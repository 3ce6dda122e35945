"""A run: simulations and their run directories, begun or resumed, and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError
from antiphon.engine.base_simulation import StepInfo
from antiphon.engine.build.builder import chosen_device
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.planning.advice import advice
from antiphon.engine.runs.directory import RunDirectory, check_free
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run_loop import Observer, Outcome, RunLoop
from antiphon.engine.runs.run_writer import RunWriter, open_writer
from antiphon.engine.simulation import Simulation, resumed
from antiphon.engine.state.changes import changed
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.scenarios import Scenario


@dataclass(frozen=True)
class Run:
    """Simulations that are trained together, each with a run directory; one for most runs."""

    simulations: Sequence[Simulation]
    """At the step they start from."""
    until: int
    """The step they stop at."""
    step: Callable[[], Sequence[StepInfo]] | None = None
    """Steps several (`RunLoop`)."""

    @property
    def writers(self) -> list[RunWriter]:
        """Those of the simulations."""
        return [one._writer for one in self.simulations if one._writer is not None]

    def train(self, *observers: Observer) -> list[Outcome]:
        """Train to the end, and close the simulations; RunError where a directory cannot be written any more.

        Ctrl-C or SIGTERM ends all after the present step, with checkpoints and results; a second one at once.
        """
        loop = RunLoop(self.simulations, [*observers, *self.writers], self.step)
        for simulation in self.simulations:
            simulation._keeps_messages = bool(simulation.recordings)
        try:
            outcomes = loop.run(max(0, self.until - self.simulations[0].now))
        finally:
            with ExitStack() as closing:
                for simulation in self.simulations:
                    closing.callback(simulation.close)
        return [
            replace(outcome, result=writer.result)
            for outcome, writer in zip(outcomes, self.writers, strict=True)
        ]


def begin(
    request: Request,
    path: str | Path,
    *,
    exist: str = "error",
    division: PartsSettings | None = None,
    checkpoint_every: int | None = None,
) -> Run:
    """Begin a run; the request is checked, and its scenario built, before anything is written.

    Args:
        request: What is run.
        path: Its directory.
        exist: Where the directory exists and is not empty (`EXIST`); `resume` continues the run there if it is this one.
        division: The parts that compute it; None: it is computed as a whole, or resumed as it was run.
        checkpoint_every: See `RunWriter`.

    Raises:
        ScenarioError: The scenario cannot be resolved, built or divided.
        DataError: Its data are missing or broken.
        RunError: The directory holds something else, or cannot be written.
    """
    until = request.until
    if exist != "resume":
        check_free(Path(path), exist)
    elif (there := request.existing(path)) is not None:
        return _resumed(there, until, request.given, division, checkpoint_every)
    how: dict[str, Any] = {"seed": request.seed, "device": chosen_device(request.device)}
    facts = request.facts
    simulation: Simulation
    if (cluster := request.cluster) is not None:
        simulation = VirtualSimulation(request.scenario, cluster.profile, cluster.placement, **how)
        facts["virtual"] = simulation.facts
        facts["warnings"] = [*advice(request.scenario, request.variants), *simulation.warnings]
    else:
        of_steps: dict[str, Any] = {"backend": request.backend, "capture": request.capture}
        simulation = Simulation(request.scenario, parts=division, **of_steps, **how)
    if simulation._division is not None:
        facts["parts"] = simulation._division
    simulation.until = until
    try:
        simulation._writer = open_writer(
            simulation, Path(path), checkpoint_every, facts, request.variants, exist
        )
    except BaseException:
        simulation.close()
        raise
    return Run([simulation], until)


def resume(
    path: str | Path,
    steps: int | None = None,
    scenario: Scenario | None = None,
    division: PartsSettings | None = None,
    checkpoint_every: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run | Outcome:
    """Resume a run from its newest checkpoint, to the same bits as if it had never stopped.

    Args:
        path: The run directory.
        steps: The step to stop at; schedules keep the scenario's `training.steps`. None: that of the run, whose outcome
            is returned where it is at that step already, or was stopped early.
        scenario: Needed where it holds Python objects.
        division: The parts that it is resumed in; None: as it was run.
        checkpoint_every: See `RunWriter`.
        changes: Settings that change from here on, by the names of `Simulation.set`.

    Raises:
        ScenarioError: It cannot be divided or changed like this.
        RunError: No run is there, it has gone further, it cannot be continued, or `scenario` is another one.
        DivergenceError: It diverged and would do so again.
    """
    directory = RunDirectory.open(path)
    facts = directory.facts
    until = facts["steps"] if steps is None else steps
    done, result = facts["exit"] == "done", directory.result
    step = facts["step"] if done else directory.checkpoint_step
    if until < step:
        raise RunError(f"--steps: {until}, but {path} has done {step} already; give more")
    ended = until == step or (steps is None and facts.get("reason"))
    if ended and done and result is not None:
        if changes:
            # a misspelt name is the first thing to mend
            changed(scenario or directory.scenario, changes.items())
            raise RunError(
                f"--set: {path} is done, and nothing is left to change; add --steps N, a later step"
            )
        return Outcome("done", result=result)
    run = _resumed(directory, until, scenario, division, checkpoint_every)
    try:
        for key, value in (changes or {}).items():
            run.simulations[0].set(key, value)
    except BaseException:
        run.simulations[0].close()
        raise
    return run


def _resumed(
    directory: RunDirectory,
    until: int,
    scenario: Scenario | None,
    division: PartsSettings | None,
    checkpoint_every: int | None,
) -> Run:
    kind = VirtualSimulation if "virtual" in directory.facts else Simulation
    return Run([resumed(kind, directory, scenario, division, checkpoint_every, until)], until)
