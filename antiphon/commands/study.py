"""The command `study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.base.errors import with_count
from antiphon.base.files import display_path
from antiphon.base.tools import cores
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.jobs.sources import find_study_or_scenario
from antiphon.jobs.studies.plan import StudyOptions
from antiphon.jobs.studies.table import FIGURE, tables
from antiphon.running.directory import EXIST
from antiphon.terminal.output import console, how_to_look, print_json, remark, second_signal, write_line

if TYPE_CHECKING:
    from antiphon.jobs.studies.study import Study


def study(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|MODULE:FUNCTION",
            help="A library study, a study file, or a scenario (with all its variants).",
        ),
    ],
    budget: Annotated[
        str | None, options.text("B", "small or paper (default: the first budget of the study).")
    ] = None,
    variants: Annotated[
        list[str] | None,
        options.text(
            "V,…",
            "Variants to run (default: all); for a scenario without variants: locked, decoupled, detached, local.",
            "--variant",
            "-v",
        ),
    ] = None,
    settings: options.Settings = None,
    seeds: Annotated[
        int | None, options.count("K", "Run each line with seeds 0 … K-1 (default: set by the budget, or 3).")
    ] = None,
    steps: options.Steps = None,
    episodes: Annotated[
        int | None,
        options.count(
            "K", "With policies: score each run on K whole episodes per environment (default: many)."
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        options.count("N", "Number of parallel processes (default: one per core).", "--jobs", "-j"),
    ] = None,
    logdir: Annotated[
        Path | None,
        options.text("DIR", "The study's directory itself (default: a new one in $ANTIPHON_LOGDIR or runs)."),
    ] = None,
    exist: Annotated[
        str,
        options.text(
            "|".join(EXIST),
            "If the directory exists: write to DIR-2, resume its runs (default), or remove them.",
        ),
    ] = "resume",
    device: options.Device = "cpu",
    commands: Annotated[
        bool,
        typer.Option("--list", help="Print the command of each line, for an array job, and run nothing."),
    ] = False,
    json: options.Json = False,
) -> int:
    """Run a study, or compare the variants of a scenario over seeds; return the exit code."""
    asked = StudyOptions(
        budget=budget,
        variants=[name for names in variants or () for name in names.split(",")],
        values=values_of(settings or ()),
        seeds=seeds,
        steps=steps,
        episodes=episodes,
        device=device,
        command=("antiphon", *sys.argv[1:]),
    )
    comparison = find_study_or_scenario(what, asked, logdir)
    if commands:
        print(*comparison.commands(), sep="\n")
        return 0
    comparison = comparison.in_folder(exist, is_named=logdir is not None)
    return _go(comparison, jobs or cores(), json=json)


def _go(comparison: Study, jobs: int, *, json: bool) -> int:
    folder = display_path(comparison.directory)
    runs, steps_of_runs = len(comparison.plan.runs) * comparison.plan.seeds, comparison.plan.steps
    length = " to ".join(f"{count:,}" for count in dict.fromkeys((steps_of_runs[0], steps_of_runs[-1])))
    at_a_time = 1 if comparison.in_process is not None else min(jobs, runs)
    remark(f"{with_count(runs, 'run')} of {length} steps, {at_a_time} at a time, in {folder}")
    same = f"the same command with --logdir {folder} continues"
    with second_signal(same):
        result = comparison.go(jobs, remark)
    code: int = result["exit_code"]
    if json:
        print_json(result)
    elif code < 128:
        remark("")
        console().print(*tables(result), sep="\n\n")
        table = f"table        {display_path(comparison.directory / 'table.md')}, table.csv"
        figure = f", {FIGURE}" if (comparison.directory / FIGURE).exists() else ""
        write_line(f"\n{table}{figure}")
        how_to_look(comparison.directory)
    if code:
        failed = f"error: {len(result['failed'])} of the runs failed"
        remark(f"{'stopped' if code > 128 else failed}; {same}")
    return code
