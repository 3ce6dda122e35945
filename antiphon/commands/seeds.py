"""The verb `run` with several seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.commands.arguments import logdir_root, new_directory
from antiphon.commands.output import (
    METRICS,
    console,
    decimal,
    display_path,
    how_to_look,
    percent,
    print_json,
    remark,
    show_table,
)
from antiphon.commands.progress import ProgressDisplay
from antiphon.engine.planning.advice import advice
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.seeds import MultiSeedOutcome, MultiSeedRun

__all__ = ["run_seeds", "show_seeds", "warn"]

_FIGURES = (*METRICS, "loss")
_UNUSED = " is not used "
"""Ending of the warnings that only `check` lists: templates have unused keys for other variants."""


def run_seeds(
    request: Request,
    count: int,
    *,
    name: str | None,
    resume_if_exists: bool,
    logdir: Path | None,
    checkpoint_every: int | None,
    json: bool,
) -> int:
    """Run a scenario with several seeds; return the exit code.

    Args:
        request: Of the first seed.
        count: How many seeds.
        name: Prefix of the run directories' names; None: scenario, variant, and at the end the time.
        resume_if_exists: Whether to resume existing runs.
        logdir: Parent of the run directories.
        checkpoint_every: Steps between checkpoints.
        json: Whether to print the result as one line of JSON.
    """
    requests = [replace(request, seed=seed) for seed in range(request.seed, request.seed + count)]
    paths, summary_dir = _directories(requests, name, logdir)
    runs = MultiSeedRun(requests, paths, resume_if_exists=resume_if_exists)
    warn(advice(request.scenario))
    if runs.sequential_reason is not None:
        remark(f"the seeds run one after the other: {runs.sequential_reason}")
    with ProgressDisplay(runs.until, runs.done) as display:
        outcome = runs.train(display.update, checkpoint_every, summary_dir)
    if json:
        print_json(outcome.result)
    else:
        show_seeds(outcome, summary_dir, logdir_root(logdir))
    for seed, one in outcome.outcomes.items():
        if one.error is not None:
            remark(f"error: seed {seed}: {one.error}")
    if outcome.exit_code > 128:
        same = "the same command with --resume-if-exists goes on"
        remark(f"stopped; {same if name else 'antiphon resume goes on with each that has begun'}")
    return outcome.exit_code


def warn(lines: Sequence[str]) -> None:
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
    """Print the results of several seeds: each run, statistics over seeds, and the directories.

    Args:
        outcome: Of the runs.
        summary_dir: The directory of the summary over seeds.
        root: Parent of the run directories.
    """
    result = outcome.result
    seeds, summary = result["seeds"], result["summary"]
    first = seeds[0]
    variant = f" · {first['variant']}" if first["variant"] else ""
    seconds = sum(one["seconds"] for one in seeds)
    title = f"\n{first['scenario']}{variant} · {_seeds(len(seeds))} · {_steps(seeds)} steps · {seconds:.1f} s"
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


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"


def _steps(seeds: Sequence[Mapping[str, Any]]) -> str:
    counts = dict.fromkeys([min(one["steps"] for one in seeds), max(one["steps"] for one in seeds)])
    return " – ".join(f"{count:,}" for count in counts)


def _written(metric: str, value: float | None) -> str:
    if metric == "accuracy":
        return percent(value)
    return (
        f"{value:,.0f}"
        if value is not None and metric not in _FIGURES and value == round(value)
        else decimal(value)
    )


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
    counted = max((found["n"] for found in summary.values()), default=0)
    if summary and counted < len(seeds):
        which = "came to their end" if any(one["exit"] == "done" for one in seeds) else "did not diverge"
        lines.append(f"Over {counted} of {len(seeds)} seeds: those that {which}.")
    return lines
