"""The command `run`, with one seed or several."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from antiphon.base.errors import write_error
from antiphon.base.files import display_path, write_json
from antiphon.commands import options
from antiphon.commands.arguments import parts_of, run_directory, values_of
from antiphon.jobs.job import Job
from antiphon.jobs.sources import scenario_template
from antiphon.running.callbacks import RunProgress
from antiphon.running.directory import DirectoryLock, first_free
from antiphon.running.request import Request
from antiphon.terminal.end_of_run import print_outcome, show_seeds
from antiphon.terminal.output import print_json

if TYPE_CHECKING:
    from antiphon.running.run import Run


def run(
    name_or_file: options.Scenario,
    variant: options.Variant = None,
    settings: options.Settings = None,
    steps: options.Steps = None,
    seed: options.Seed = 0,
    seeds: Annotated[
        int | None,
        options.count("K", "Run K seeds from S on, stacked where possible."),
    ] = None,
    name: options.Name = None,
    exist: options.Exist = "number",
    logdir: options.LogDir = None,
    device: options.Device = "cpu",
    backend: options.Backend = "cohort",
    parts: options.Parts = None,
    ray: options.Ray = None,
    cluster: options.Cluster = None,
    checkpoint_every: options.CheckpointEvery = None,
    json: options.Json = False,
) -> int:
    """Train the agents of a scenario, and write a run directory."""
    template = scenario_template(name_or_file)  # before torch is loaded: a wrong name is told first
    request = Request(
        template=template,
        variant=variant,
        values=values_of(settings or ()),
        steps=steps,
        seed=seed,
        device=device,
        backend=backend,
        command=("antiphon", *sys.argv[1:]),
    )
    division = parts_of(parts, request.scenario.agents, ray, cluster)
    if division is not None:  # else the scenario of this request would be read again
        request = replace(request, division=division)
    stem = f"{request.scenario.scenario}-{variant or 'default'}"
    if seeds is not None:
        summary_dir = run_directory(f"{stem}-seeds", name and f"{name}-seeds", logdir, exist)
        return _run_seeds(request, seeds, name or stem, summary_dir, exist, checkpoint_every, json)
    path = run_directory(f"{stem}-s{seed}", name, logdir, exist)
    job = Job(request, path, exist=exist, checkpoint_every=checkpoint_every)
    if job.ended is not None and job.ended.status == "done":
        return print_outcome(job.ended, json)
    with template.placing():
        started = job.begin()
    return train(started, json)


def train(run: Run, json: bool) -> int:
    """Train a run to its end, showing progress; print its result and return the exit code."""
    from antiphon.running.loop import train_to_end

    assert run.directory is not None
    progress = RunProgress(run.running.until, run.running.now)
    (outcome,) = train_to_end([run], [progress])
    code = print_outcome(outcome, json)
    if code > 128:
        path = display_path(run.directory.path)
        write_error(f"stopped; antiphon resume {path} continues from its latest checkpoint")
    return code


def _run_seeds(
    request: Request,
    count: int,
    stem: str,
    summary_dir: Path,
    exist: str,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Run a scenario with `count` seeds from that of the request on; names of run directories begin with `stem`."""
    from antiphon.jobs.scheduler import Scheduler

    if exist == "number":
        summary_dir, exist = first_free(summary_dir), "new"
    ending = summary_dir.name.removeprefix(f"{stem}-seeds")  # the time without a name, or a number
    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths = [summary_dir.with_name(f"{stem}-s{of_seed.seed}{ending}") for of_seed in requests]
    how: Any = {"exist": exist, "checkpoint_every": checkpoint_every}
    with request.template.placing():
        runs = Scheduler([Job(of_seed, path, **how) for of_seed, path in zip(requests, paths, strict=True)])
    if runs.sequential_reason is not None:
        write_error(f"the seeds run one after the other: {runs.sequential_reason}")
    with DirectoryLock(summary_dir):
        outcomes = runs.train(RunProgress(runs.until, runs.start, len(requests)))
        write_json(summary_dir / "seeds.json", outcomes.result)
    if json:
        print_json(outcomes.result)
    else:
        show_seeds(outcomes, summary_dir, summary_dir.parent)
    for seed, outcome in outcomes.by_seed.items():
        if outcome.error is not None:
            write_error(f"error: seed {seed}: {outcome.error}")
    if outcomes.exit_code > 128:
        write_error("stopped; the same command with --name and --exist resume continues")
    return outcomes.exit_code
