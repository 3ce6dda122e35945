"""How a run is resumed from its directory: by the command line, in Python, with other seeds, in parts, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from antiphon.base.errors import DivergenceError, RunError
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.live_system import Executor, LiveSystem, Settings, running_of_saved
from antiphon.engine.state.changes import changed
from antiphon.engine.state.checkpoint import read_simulation
from antiphon.engine.state.compatibility import check_same_scenario, described_scenario, with_saved_links
from antiphon.running.directory import RunDirectory
from antiphon.running.directory_writer import DirectoryWriter, check_interval
from antiphon.running.execution import at_the_beginning, divide, executor_of
from antiphon.running.run import Run
from antiphon.running.trainer import Outcome
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.loading import as_scenario


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

    Device, type, threads, backend, stacking and the precision of matrix products are read from run.json. Raises as
    `Simulation.resume`.

    Args:
        step: The step of the checkpoint, or 0; None: of the newest, or 0.
        executor: Takes its steps; None: as it was run, or here.
        division: The parts that it is resumed in; None: as it was run.
        capture: See `Simulation`; False: as it was run.
        until: The step that it is to reach; None: that of the run.
        together: The seeds that it is trained together with from here on; empty: none.
    """
    check_interval(checkpoint_every, directory.path)
    with ExitStack() as undo:
        undo.callback(directory.release)
        directory.lock()
        facts, given_scenario = directory.facts, checked_scenario(directory, scenario)
        settings, recorded_division = Settings.of_facts(facts), PartsSettings.of_facts(facts)
        if recorded_division is not None and recorded_division.cluster is not None and division is not None:
            recorded_division.check_kept(division, directory.path)
            division = None
        elif division is not None and division.cluster is not None:
            raise RunError(f"{directory.path}: is no run in virtual time; leave out the cluster")
        elif division is not None:
            division = division.with_links_of(recorded_division, directory.path)
        capture = capture or (facts.get("capture", False) and division is None)
        division = division or recorded_division
        executor = executor or executor_of(settings, division, capture)
        running = _restored(directory, given_scenario, settings, executor, step)
        undo.callback(running.close)
        running.check_continues()
        changes: dict[str, Any] = {}  # of run.json
        if division is not None:
            divide(running, division)
            changes |= {"parts": None, **running.executor.facts}
        run = Run(running)
        if until is not None or facts["exit"] != "done":
            running.end_at(until or facts["steps"])
        elif facts.get("reason"):  # it was stopped early
            run.stay()
        if together and running.now < running.until:
            changes["together"] = list(together)
        elif not together and len(facts.get("together") or []) > 1 and "alone_from" not in facts:
            changes["alone_from"] = running.now  # its last bits differ from here on
        directory.rewind(running.now)
        directory.note(**changes)
        run.write_by(DirectoryWriter(run, directory, checkpoint_every))
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
    """Resume a run to reach a step, unless it has ended there: see `resume`.

    Args:
        until: The step to stop at; schedules keep the scenario's `training.steps`. None: that of the run, whose outcome
            is returned where it is at that step or past it already, or was stopped early.
        changes: Settings that change from here on, by the names of `Simulation.set`.
    """
    directory = RunDirectory.open(path)
    facts = directory.facts
    end = facts["steps"] if until is None else until
    done, result, saved = facts["exit"] == "done", directory.result, directory.checkpoints.newest_step
    step = facts["step"] if done else saved
    if until is not None and end < step:
        raise RunError(f"steps: {end}, but {path} has done {step} already; give more")
    ended = end <= step or (until is None and facts.get("reason"))
    lost = 0 < saved < facts["step"]  # its last checkpoint was damaged, and deleted
    if ended and done and result is not None and not lost:
        if changes:
            # a misspelt name is the first thing to mend
            changed(scenario or directory.scenario, changes.items())
            raise RunError(
                f"set: {path} is done, and nothing is left to change; give steps too, a later step"
            )
        return Outcome("done", result=result)
    run = resume(directory, scenario, division=division, checkpoint_every=checkpoint_every, until=end)
    try:
        if changes:
            run.set(changes)
    except BaseException:
        run.close()
        raise
    return run


def _restored(
    directory: RunDirectory,
    scenario: Scenario | None,
    settings: Settings,
    executor: Executor | None,
    step: int | None,
) -> LiveSystem:
    """Return what runs, at a checkpoint, or at step 0 where there is none of that step."""
    steps = directory.checkpoints.by_step
    if steps if step is None else step in steps or step:
        source = directory.path if step is None else directory.checkpoints.at(step)
        saved = read_simulation(source, scenario, settings.device)
        return running_of_saved(saved, settings, executor)
    # it ended before its first checkpoint
    return at_the_beginning(scenario or directory.scenario, settings, executor)


def checked_scenario(
    directory: RunDirectory, scenario: Scenario | Template | str | Path | None
) -> Scenario | None:
    """Return the scenario that a run's checkpoints are loaded with; None: they hold their own scenario.

    Raises:
        ScenarioError: `scenario` is not one, or not found.
        RunError: `scenario` is another one than the run's.
        DivergenceError: The run diverged and would do so again.
    """
    if directory.facts["exit"] == "diverged":
        error = directory.facts["error"]
        raise DivergenceError(f"{directory.path}: diverged and would do so again: {error}")
    described = directory.described  # None: it is a document
    if described is not None and scenario is None:
        directory.check_document()
    if scenario is not None:
        saved = described_scenario(directory.scenario) if described is None else described
        scenario = with_saved_links(as_scenario(scenario), saved)
        try:
            check_same_scenario(saved, described_scenario(scenario))
        except RunError as error:
            raise RunError(f"{directory.path}: {error}") from None
    return None if described is None else scenario
