"""How a run begins and is resumed: by the command line, in Python, with other seeds, in parts, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.files import given_path
from antiphon.base.problems import check_counts
from antiphon.distributed.automatic_link import with_chosen_links
from antiphon.distributed.coordinator import Coordinator
from antiphon.distributed.parts.placement import placement_for
from antiphon.distributed.settings import PartsSettings
from antiphon.distributed.virtual.virtual_coordinator import VirtualCoordinator
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.live_system import Executor, LiveSystem, Settings, running_of_saved
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.nets.random import seed_for, seed_globally
from antiphon.running.callbacks import Outcome
from antiphon.running.directory import RunDirectory, is_free
from antiphon.running.directory_writer import DirectoryWriter
from antiphon.running.run import Run
from antiphon.running.templates import template_named
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.loading import MADE_IN_PYTHON, as_scenario


def begin(
    scenario: Scenario | Template | str | Path,
    settings: Settings,
    path: str | Path | None = None,
    *,
    exist: str = "number",
    executor: Executor | None = None,
    division: PartsSettings | None = None,
    capture: bool | CapturedLoop = False,
    checkpoint_every: int | None = None,
    until: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Run:
    """Begin a run; it is checked and built before anything is written. Raises as `Simulation`, whose `logdir` is `path`.

    Args:
        exist: `new`: the folder must be free; else of `EXIST`.
        executor: Takes its steps; None: they are taken here.
        until: The step that it is to reach; None: the scenario's `training.steps`.
        facts: For run.json, beside those of what runs.
    """
    check_counts("simulation", checkpoint_every=checkpoint_every)
    folder = None if path is None else given_path(path)
    if isinstance(scenario, str) and scenario in MADE_IN_PYTHON:
        scenario = template_named(scenario).resolve()
    scenario = as_scenario(scenario)
    if folder is not None and not isinstance(settings.backend, str):
        raise ScenarioError(
            "logdir: a run is resumed with the backend that run.json names, and a function was given; leave logdir out, "
            "or use cohort or native"
        )
    if folder is not None and exist == "resume" and not is_free(folder):
        directory = RunDirectory.open(folder)
        directory.check_no_member()
        directory.check_same(scenario, settings.facts)
        how: dict[str, Any] = {"executor": executor, "division": division, "capture": capture, "until": until}
        return resume(directory, scenario, checkpoint_every=checkpoint_every, **how)
    with ExitStack() as undo:
        if division is not None:
            scenario, division = with_chosen_links(scenario, division, settings)
        running = _at_the_beginning(scenario, settings, executor or _executor_of(settings, division, capture))
        undo.callback(running.close)
        _divide(running, division)
        if until is not None:
            running.until = until
        run = Run(running)
        if folder is not None:
            captured = {"capture": True} if capture is True else {}
            run_facts = {**captured, **running.executor.facts, **(facts or {})}
            directory = RunDirectory.create(folder, running, run_facts, exist)
            undo.callback(directory.remove)
            DirectoryWriter(run, directory, checkpoint_every)
        undo.pop_all()
    return run


def resume(
    directory: RunDirectory,
    scenario: Scenario | Template | str | Path | None = None,
    *,
    step: int | None = None,
    executor: Executor | None = None,
    division: PartsSettings | None = None,
    capture: bool | CapturedLoop = False,
    checkpoint_every: int | None = None,
    until: int | None = None,
    together: Sequence[int] = (),
) -> Run:
    """Resume a run in its directory, to the same bits as if it had never stopped.

    Device, type, threads, backend and stacking are read from run.json. Raises as
    `Simulation.resume`.

    Args:
        step: The step of the checkpoint, or 0; None: of the newest, or 0.
        executor: Takes its steps; None: as it was run, or here.
        division: The parts that it is resumed in; None: as it was run.
        capture: See `Simulation`; False: as it was run.
        until: The step that it is to reach; None: that of the run.
        together: The seeds that it is trained together with from here on; empty: none.
    """
    check_counts("simulation", checkpoint_every=checkpoint_every)
    with ExitStack() as undo:
        undo.callback(directory.release)
        directory.lock()
        facts, given = directory.facts, None
        if facts["exit"] == "diverged":
            raise DivergenceError(f"{directory.path}: diverged and would do so again: {facts['error']}")
        if scenario is None:
            directory.check_document()
        else:
            given = directory.check_same(as_scenario(scenario))
        settings = Settings.of_facts(facts)
        capture = capture or (facts.get("capture", False) and division is None)
        division = PartsSettings.resumed(PartsSettings.of(facts.get("parts")), division, directory.path)
        executor = executor or _executor_of(settings, division, capture)
        given = given if directory.has_objects else None
        running = _restored(directory, given, settings, executor, step)
        undo.callback(running.close)
        running.check_continues()
        changes: dict[str, Any] = {}  # of run.json
        if division is not None:
            _divide(running, division)
            changes |= {"parts": None, **running.executor.facts}
        if until is not None or facts["exit"] != "done":
            running.until = until or facts["steps"]
        elif facts.get("reason"):  # it was stopped early
            running.until = running.now
        if running.now < running.until and facts.get("together", []) != list(together):
            changes["together"] = list(together)  # the last bits depend on it
        directory.rewind(running.now)
        directory.note(**changes)
        run = Run(running)
        DirectoryWriter(run, directory, checkpoint_every)
        undo.pop_all()
    return run


def resume_until(
    path: str | Path,
    until: int | None = None,
    scenario: Scenario | None = None,
    division: PartsSettings | None = None,
    checkpoint_every: int | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Run | Outcome:
    """Resume a run to reach a step (None: its own; schedules keep `training.steps`), with settings changed from here on.

    Returns its outcome where it is done: past that step, or stopped early and no step is given.
    """
    directory = RunDirectory.open(path)
    step = directory.newest_step
    end = directory.facts["steps"] if until is None else until
    outcome = directory.outcome(end, beyond=until is not None)
    if until is not None and until < step:
        raise RunError(f"steps: {until}, but {path} has done {step} already; give more")
    if outcome is not None and outcome.status == "done":
        if changes:
            raise RunError(
                f"set: {path} is done, and nothing is left to change; give steps too, a later step"
            )
        return outcome
    run = resume(directory, scenario, division=division, checkpoint_every=checkpoint_every, until=end)
    with ExitStack() as undo:
        undo.callback(run.close)
        if changes:
            run.set(changes)
        undo.pop_all()
    return run


def _executor_of(
    settings: Settings, division: PartsSettings | None, capture: bool | CapturedLoop
) -> Executor | None:
    """Return what takes the steps of a run from its beginning; None: they are taken one by one, until it is divided."""
    if capture:
        return captured_loop(settings.device, settings.backend, capture, parts=division is not None)
    return VirtualCoordinator(division) if division is not None and division.cluster is not None else None


def _at_the_beginning(scenario: Scenario, settings: Settings, executor: Executor | None) -> LiveSystem:
    """Return what runs, at step 0, with the generators of torch, numpy and Python seeded, which users' code may draw from."""
    seed_globally(seed_for(settings.seed, "build"))
    running = LiveSystem(scenario, settings, executor)
    seed_globally(seed_for(settings.seed, "run"))
    return running


def _divide(running: LiveSystem, division: PartsSettings | None) -> None:
    """Have parts take the steps from here on that nothing observes; one part in this process divides nothing."""
    if division is None or division.cluster is not None:
        return  # from its beginning
    if division.placement is not None:
        placement_for(running, division.count, division.placement)
    if not division.one_process:
        running.execute_by(Coordinator(division))


def _restored(
    directory: RunDirectory,
    scenario: Scenario | None,
    settings: Settings,
    executor: Executor | None,
    step: int | None,
) -> LiveSystem:
    """Return what runs, at a checkpoint, or at step 0 where there is none of that step."""
    saved, step = directory.checkpoints, directory.newest_step if step is None else step
    if step or step in saved:
        simulation = read_simulation(saved[step], scenario, settings.device)
        return running_of_saved(simulation, settings, executor)
    # it ended before its first checkpoint
    return _at_the_beginning(scenario or directory.scenario, settings, executor)
