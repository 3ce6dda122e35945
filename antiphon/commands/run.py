"""The verbs `run` and `resume`."""

from __future__ import annotations

import sys
from pathlib import Path

from antiphon.commands.arguments import new_directory, scenario_template, values_of
from antiphon.commands.output import display_path, print_json, remark, show_result
from antiphon.commands.progress import ProgressDisplay
from antiphon.commands.seeds import run_seeds, warn
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin
from antiphon.engine.runs.run import resume as resume_run
from antiphon.engine.runs.trainer import Outcome
from antiphon.errors import RunError

__all__ = ["resume", "run"]


def run(
    scenario: str,
    *,
    variant: str | None,
    settings: list[str],
    steps: int | None,
    seed: int,
    seeds: int | None,
    name: str | None,
    resume_if_exists: bool,
    logdir: Path | None,
    device: str,
    backend: str,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Run a scenario, with one seed or several; return the exit code."""
    if seeds is not None and seeds < 1:
        raise RunError(f"--seeds: got {seeds}; give at least 1")
    if resume_if_exists and name is None:
        raise RunError("--resume-if-exists: which run? name it with --name")
    request = Request(
        template=scenario_template(scenario),
        variant=variant,
        values=values_of(settings),
        steps=steps,
        seed=seed,
        device=device,
        backend=backend,
        command=("antiphon", *sys.argv[1:]),
    )
    if seeds is not None:
        return run_seeds(
            request,
            seeds,
            name=name,
            resume_if_exists=resume_if_exists,
            logdir=logdir,
            checkpoint_every=checkpoint_every,
            json=json,
        )
    stem = f"{request.scenario.scenario}-{variant or 'default'}-s{seed}"
    path = new_directory(logdir, name, stem)
    outcome = request.outcome(path) if resume_if_exists else None
    if outcome is not None and outcome.status == "done":
        return _report(outcome, json)
    return _train(begin(request, path, resume_if_exists=resume_if_exists), checkpoint_every, json)


def resume(path: Path, *, steps: int | None, checkpoint_every: int | None, json: bool) -> int:
    """Resume a run; return the exit code."""
    resumed = resume_run(path, steps)
    if isinstance(resumed, Outcome):
        remark(f"{display_path(path)}: is done; --steps N goes on to a later step")
        return _report(resumed, json)
    return _train(resumed, checkpoint_every, json)


def _train(run: Run, checkpoint_every: int | None, json: bool) -> int:
    warn(run.directories[0].facts["warnings"])
    with ProgressDisplay(run.until, run.simulations[0].now) as display:
        (outcome,) = run.train(display.update, checkpoint_every)
    return _report(outcome, json)


def _report(outcome: Outcome, json: bool) -> int:
    if json:
        print_json(outcome.result)
    else:
        show_result(outcome.result)
    if outcome.error is not None:
        remark(f"error: {outcome.error}")
    return outcome.exit_code
