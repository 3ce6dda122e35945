"""The command `run`, with one seed or several."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from antiphon.base.errors import RunError, with_count
from antiphon.base.files import display_path, write_json
from antiphon.base.imports import with_imports
from antiphon.commands import options
from antiphon.commands.arguments import parts_of, values_of
from antiphon.jobs.job import Job
from antiphon.jobs.sources import logdir_root, new_directory, scenario_template
from antiphon.running.callbacks import RunProgress
from antiphon.running.directory import DirectoryLock, check_exist, first_free
from antiphon.running.request import Request, check_alone
from antiphon.running.trainer import Trainer
from antiphon.terminal.end_of_run import print_outcome, show_seeds
from antiphon.terminal.output import print_json, remark, second_signal

if TYPE_CHECKING:
    from antiphon.running.run import Run


@dataclass(frozen=True)
class RunPlace:
    """Where runs are written: `--name`, `--logdir` and `--exist`; RunError where the last is wrong, or lacks a name."""

    name: str | None
    logdir: Path | None
    exist: str

    def __post_init__(self) -> None:
        check_exist(self.exist)
        if self.exist != "number" and self.name is None:
            raise RunError(f"--exist {self.exist}: needs the name of the run; give it with --name")

    def directory(self, stem: str) -> Path:
        return new_directory(self.logdir, self.name, stem)


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
    """Run a scenario, with one seed or several; return the exit code."""
    place = RunPlace(name, logdir, exist)
    template = scenario_template(name_or_file)  # before torch is loaded: a wrong name is told first
    # 0.96 times the processor time of a run of one step, in eight paired turns
    import_module("antiphon.running.start")
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
    with request.template.placing():
        check_alone(request.scenario)
    division = parts_of(parts, request.scenario.agents, ray, cluster)
    if division is not None:  # else the scenario of this request would be read again
        request = replace(request, division=division)
    run_all = _run_one if seeds is None else partial(_run_seeds, count=seeds)
    return run_all(request, place, checkpoint_every, json)


def _run_one(request: Request, place: RunPlace, checkpoint_every: int | None, json: bool) -> int:
    """Run a scenario with one seed, or print the result of a run that is done and would be resumed."""
    stem = f"{request.scenario.scenario}-{request.variant or 'default'}-s{request.seed}"
    job = Job(request, place.directory(stem), exist=place.exist, checkpoint_every=checkpoint_every)
    if job.ended is not None and job.ended.status == "done":
        return print_outcome(job.ended, json)
    with request.template.placing():
        started = job.begin()
    return train(started, json)


def train(run: Run, json: bool) -> int:
    """Train a run to its end, showing progress; print its result and return the exit code."""
    assert run.directory is not None
    running, start = run.running, run.running.now
    directory = run.directory
    parts = directory.facts.get("parts") or {}
    chosen = []
    if delay := parts.get("delay"):
        chosen.append(f"a message is read {with_count(delay, 'step')} later in the next part (delay: auto)")
    if bits := parts.get("bits"):
        chosen.append(f"a component takes {bits} bits on its way (bits: auto)")
    if chosen:
        remark(f"parts: {parts['count']}; {', '.join(chosen)}")
    path = display_path(directory.path)

    def way_on() -> str:
        if (obstacle := running.executor.no_resume(running)) is not None:
            return f"it cannot be continued: {obstacle}"
        return f"{with_imports(f'antiphon resume {path}')} continues from its latest checkpoint"

    with second_signal(way_on()):
        (outcome,) = Trainer([run], [RunProgress(running.until, start)]).finish()
    code = print_outcome(outcome, json)
    if code > 128:
        remark(f"stopped; {way_on()}")
    return code


# --- several seeds -----------------------------------------------------------------------------------------


def _run_seeds(
    request: Request, place: RunPlace, checkpoint_every: int | None, json: bool, *, count: int
) -> int:
    """Run a scenario with seeds from that of the request on; `--name` begins the run directories' names."""
    from antiphon.jobs.scheduler import Scheduler

    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths, summary_dir = _directories(requests, place)
    how: Any = {
        "exist": "new" if place.exist == "number" else place.exist,
        "checkpoint_every": checkpoint_every,
    }
    with request.template.placing():
        runs = Scheduler([Job(of_seed, path, **how) for of_seed, path in zip(requests, paths, strict=True)])
    if runs.sequential_reason is not None:
        remark(f"the seeds run one after the other: {runs.sequential_reason}")
    same = "the same command with --exist resume continues"
    remedy = same if place.name else f"{with_imports('antiphon resume')} continues each run that has started"
    with second_signal(remedy), DirectoryLock(summary_dir):
        outcomes = runs.train(RunProgress(runs.until, runs.start, len(requests)))
        write_json(summary_dir / "seeds.json", outcomes.result)
    if json:
        print_json(outcomes.result)
    else:
        show_seeds(outcomes, summary_dir, logdir_root(place.logdir))
    for seed, outcome in outcomes.by_seed.items():
        if outcome.error is not None:
            remark(f"error: seed {seed}: {outcome.error}")
    if outcomes.exit_code > 128:
        remark(f"stopped; {remedy}")
    return outcomes.exit_code


def _directories(requests: Sequence[Request], place: RunPlace) -> tuple[list[Path], Path]:
    """Return the directory of each run, and that of the summary over seeds."""
    first = requests[0]
    stem = place.name or f"{first.scenario.scenario}-{first.variant or 'default'}"
    asked = new_directory(place.logdir, place.name and f"{stem}-seeds", f"{stem}-seeds")
    summary_dir = first_free(asked) if place.exist == "number" else asked
    if summary_dir != asked:
        remark(f"{display_path(asked)} already exists: the summary is {display_path(summary_dir)}")
    ending = summary_dir.name.removeprefix(f"{stem}-seeds")  # the time without a name, or a number
    return [summary_dir.with_name(f"{stem}-s{of_seed.seed}{ending}") for of_seed in requests], summary_dir
