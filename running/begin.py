"""How a run begins: by the command line, in Python, with other seeds, in parts, in virtual time."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from antiphon.base.errors import ScenarioError
from antiphon.base.files import given_path
from antiphon.distributed.automatic_link import with_chosen_links
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.capture.loop import CapturedLoop
from antiphon.engine.live_system import Executor, Settings
from antiphon.running.directory import (
    RunDirectory,
    check_free,
    is_free,
)
from antiphon.running.directory_writer import check_interval, open_writer
from antiphon.running.execution import at_the_beginning, divide, executor_of
from antiphon.running.library import template_named
from antiphon.running.request import Request
from antiphon.running.resume import resume
from antiphon.running.run import Run
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
    check_interval(checkpoint_every, path)
    if path is None and exist in ("resume", "overwrite"):
        raise ScenarioError(f"exist: {exist!r} has no effect without a logdir; give one")
    folder = None if path is None else given_path(path, "logdir")
    if isinstance(scenario, str) and scenario in MADE_IN_PYTHON:
        scenario = template_named(scenario).resolve()
    scenario = as_scenario(scenario)
    evaluate = scenario.training.evaluate
    if folder is None and evaluate is not None and evaluate.keep_best is not None:
        line = "no checkpoint is kept without a logdir; give one, or leave it out"
        raise ScenarioError(f"training.evaluate.keep_best: {line}")
    if folder is not None and not isinstance(settings.backend, str):
        raise ScenarioError(
            "logdir: a run is resumed with the backend that run.json names, and a function was given; leave logdir out, "
            "or use cohort or native"
        )
    with ExitStack() as undo:
        if folder is not None and exist == "resume" and not is_free(folder):
            directory = RunDirectory.open(folder)
            directory.check_no_member()
            directory.check_same(directory.differences(**settings.facts))
            options: dict[str, Any] = {"division": division, "capture": capture, "until": until}
            return resume(directory, scenario, checkpoint_every=checkpoint_every, **options)
        if folder is not None and exist != "number":
            check_free(folder, overwrite=exist == "overwrite")
        opened = None
        if division is not None:
            scenario, division, opened = with_chosen_links(scenario, division, settings)
            if opened is not None:
                undo.callback(opened.close)
        executor = executor or (executor_of(settings, division, capture) if division or capture else None)
        running = at_the_beginning(scenario, settings, executor)
        undo.callback(running.close)
        if division is not None:
            divide(running, division, opened)
        run = Run(running)
        if until is not None:
            running.end_at(until)
        if folder is not None:
            run_facts: dict[str, Any] = {} if settings.stacked else {"stacked": False}
            run_facts |= {"capture": True} if capture is True else {}
            run_facts |= {**running.executor.facts, **(facts or {})}
            run.write_by(open_writer(run, folder, checkpoint_every, run_facts, exist))
        undo.pop_all()
    return run


def begin_request(
    request: Request,
    path: str | Path,
    *,
    exist: str = "new",
    checkpoint_every: int | None = None,
    until: int | None = None,
    directory: RunDirectory | None = None,
) -> Run:
    """Begin the run that the command line asks for, see `begin`, or resume it: `directory` has been compared (`Request.existing`)."""
    how: dict[str, Any] = {
        "division": request.division,
        "capture": request.capture,
        "checkpoint_every": checkpoint_every,
        "until": request.scenario.training.steps if until is None else until,
    }
    if directory is not None:
        return resume(directory, request.given_scenario, **how)
    exist = "new" if exist == "resume" else exist
    return begin(request.scenario, request.settings, path, exist=exist, facts=request.facts, **how)
