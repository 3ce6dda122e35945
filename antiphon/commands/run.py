"""The verbs `run` and `resume`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.commands.arguments import (
    PartsOptions,
    given_scenario,
    given_template,
    logdir_root,
    new_directory,
    values_of,
)
from antiphon.commands.output import (
    METRICS,
    console,
    counted,
    decimal,
    display_path,
    how_to_look,
    percent,
    print_json,
    remark,
    second_signal,
    show_result,
    show_table,
)
from antiphon.commands.progress import ProgressDisplay
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.planning.advice import advice
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.python_template import other_variants
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin
from antiphon.engine.runs.run import resume as resume_run
from antiphon.engine.runs.run_loop import Outcome
from antiphon.engine.runs.seeds import MultiSeedOutcome, MultiSeedRun
from antiphon.errors import RunError

__all__ = ["resume", "run", "show_seeds"]


def run(
    name_or_file: str | None,
    *,
    python: str | None,
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
    parts: PartsOptions,
    cluster: str | None,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Run a scenario, with one seed or several; return the exit code."""
    if seeds is not None and seeds < 1:
        raise RunError(f"--seeds: got {seeds}; give at least 1")
    if resume_if_exists and name is None:
        raise RunError("--resume-if-exists: which run? name it with --name")
    request = Request(
        template=given_template("run", name_or_file, python),
        variant=variant,
        values=values_of(settings),
        steps=steps,
        seed=seed,
        device=device,
        backend=backend,
        command=("antiphon", *sys.argv[1:]),
    )
    division = None
    if cluster is not None:
        request = replace(request, cluster=parts.virtual(backend, cluster, request.scenario.agents))
    else:
        division = parts.settings(request.scenario.agents)
    if seeds is not None and (division or request.cluster) is not None:
        raise RunError("--seeds: several seeds are not divided into parts; run each with --seed S")
    if seeds is not None:
        return _run_seeds(request, seeds, name, logdir, checkpoint_every, resume_if_exists, json)
    stem = f"{request.scenario.scenario}-{variant or 'default'}-s{seed}"
    path = new_directory(logdir, name, stem)
    outcome = request.outcome(path) if resume_if_exists else None
    if outcome is not None and outcome.status == "done":
        return _report(outcome, json)
    run = begin(request, path, resume_if_exists=resume_if_exists, division=division)
    return _train(run, checkpoint_every, json)


def resume(
    path: Path,
    *,
    python: str | None,
    steps: int | None,
    parts: PartsOptions,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Resume a run; return the exit code."""
    directory = RunDirectory.open(path)
    division = parts.settings(directory.values.get("agents", {}), PartsSettings.of_facts(directory.facts))
    resumed = resume_run(path, steps, given_scenario(directory, python), division)
    if isinstance(resumed, Outcome):
        remark(f"{display_path(path)}: is done; --steps N goes on to a later step")
        return _report(resumed, json)
    return _train(resumed, checkpoint_every, json)


def _train(run: Run, checkpoint_every: int | None, json: bool) -> int:
    _warn(run.directories[0].facts["warnings"])
    path = display_path(run.directories[0].path)
    with (
        second_signal(f"antiphon resume {path} goes on from its latest checkpoint"),
        ProgressDisplay(run.until, run.simulations[0].now) as display,
    ):
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


# --- several seeds -----------------------------------------------------------------------------------------

_FIGURES = (*METRICS, "loss")
_UNUSED = " is not used "
"""Ending of the warnings that only `check` lists: templates have unused keys for other variants."""


def _run_seeds(
    request: Request,
    count: int,
    name: str | None,
    logdir: Path | None,
    checkpoint_every: int | None,
    resume_if_exists: bool,
    json: bool,
) -> int:
    """Run a scenario with seeds from that of the request on; `name` begins the run directories' names."""
    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths, summary_dir = _directories(requests, name, logdir)
    runs = MultiSeedRun(requests, paths, resume_if_exists=resume_if_exists)
    _warn(advice(request.scenario, other_variants(request.template, request.variant, request.values)))
    if runs.sequential_reason is not None:
        remark(f"the seeds run one after the other: {runs.sequential_reason}")
    same = "the same command with --resume-if-exists goes on"
    remedy = same if name else "antiphon resume goes on with each that has begun"
    with second_signal(remedy), ProgressDisplay(runs.until, runs.done) as display:
        outcome = runs.train(display.update, checkpoint_every, summary_dir)
    if json:
        print_json(outcome.result)
    else:
        show_seeds(outcome, summary_dir, logdir_root(logdir))
    for seed, one in outcome.outcomes.items():
        if one.error is not None:
            remark(f"error: seed {seed}: {one.error}")
    if outcome.exit_code > 128:
        remark(f"stopped; {remedy}")
    return outcome.exit_code


def _warn(lines: Sequence[str]) -> None:
    """Print the warnings about a scenario, but for those of `check` alone."""
    for line in lines:
        if _UNUSED not in line:
            remark(f"warning: {line}", "yellow")


def _directories(
    requests: Sequence[Request], name: str | None, logdir: Path | None
) -> tuple[list[Path], Path]:
    """Return the directory of each run, and that of the summary over seeds."""
    first = requests[0]
    stem = name or f"{first.scenario.scenario}-{first.variant or 'default'}"
    summary_dir = new_directory(logdir, name and f"{stem}-seeds", f"{stem}-seeds")
    ending = summary_dir.name.removeprefix(f"{stem}-seeds")  # the time, without a name
    return [summary_dir.with_name(f"{stem}-s{one.seed}{ending}") for one in requests], summary_dir


def show_seeds(outcome: MultiSeedOutcome, summary_dir: Path, root: Path) -> None:
    """Print the results of several seeds: each run, statistics over seeds, and the directories (`root` holds the runs')."""
    result = outcome.result
    seeds, summary = result["seeds"], result["summary"]
    first = seeds[0]
    variant = f" · {first['variant']}" if first["variant"] else ""
    seconds = sum(one["seconds"] for one in seeds)
    count = f"{len(seeds)} seed{'s' if len(seeds) != 1 else ''}"
    title = f"\n{first['scenario']}{variant} · {count} · {_steps(seeds)} steps · {seconds:.1f} s"
    rows = [_row(one, summary) for one in seeds]
    rows.append([""] * (2 + len(summary)))
    for heading, written in _LINES.items():
        rows.append([heading, "", *(written(metric, found) for metric, found in summary.items())])
    columns = ["seed", "run", *(metric.replace("_", " ") for metric in summary)]
    show_table(columns, rows if summary else rows[: len(seeds)], right=len(summary), title=title)
    for line in _remarks(seeds, summary):
        console().print(Text(line, style="dim"))
    console().print(Text(f"\nover seeds   {display_path(summary_dir / 'seeds.json')}"), soft_wrap=True)
    how_to_look(root)


def _row(one: Mapping[str, Any], summary: Mapping[str, Any]) -> list[str]:
    ended = "" if one["exit"] == "done" else f" ({one['exit']} at step {one['steps']:,})"
    figures = {**one, **one["env"]}
    return [
        f"{one['seed']}{ended}",
        display_path(one["run_dir"]),
        *(_written(m, figures.get(m)) for m in summary),
    ]


def _steps(seeds: Sequence[Mapping[str, Any]]) -> str:
    counts = dict.fromkeys([min(one["steps"] for one in seeds), max(one["steps"] for one in seeds)])
    return " – ".join(f"{count:,}" for count in counts)


def _written(metric: str, value: float | None) -> str:
    if metric == "accuracy":
        return percent(value)
    return decimal(value) if metric in _FIGURES else counted(value)


def _mean(metric: str, found: Mapping[str, Any]) -> str:
    mean, error = found["mean"], found["error"]
    if error is None:
        return _written(metric, mean)
    if metric == "accuracy":
        return f"{100 * mean:.2f} ± {percent(error)}"
    return f"{decimal(mean)} ± {decimal(error)}"


def _interval(metric: str, found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return "–"
    if metric == "accuracy":
        return f"{100 * found['low']:.2f} – {percent(found['high'])}"
    return f"{decimal(found['low'])} – {decimal(found['high'])}"


_LINES: Mapping[str, Callable[[str, Mapping[str, Any]], str]] = {
    "mean ± standard error": _mean,
    "median": lambda metric, found: _written(metric, found["median"]),
    "interquartile mean": lambda metric, found: _written(metric, found["iqm"]),
    "its 95 % interval": _interval,
}
"""Formatters of statistics over seeds, by heading."""


def _remarks(seeds: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> list[str]:
    """Return the notes under the table."""
    lines = []
    if summary:
        lines.append("Interquartile mean: of the middle half of the seeds; interval: bootstrap over seeds.")
    complete = max((found["n"] for found in summary.values()), default=0)
    if summary and complete < len(seeds):
        which = "came to their end" if any(one["exit"] == "done" for one in seeds) else "did not diverge"
        lines.append(f"Over {complete} of {len(seeds)} seeds: those that {which}.")
    return lines
