"""The command `study`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from antiphon.base.errors import write_error
from antiphon.base.files import display_path
from antiphon.base.tools import cores
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.jobs.sources import study_of
from antiphon.jobs.studies.plan import StudyOptions
from antiphon.terminal.output import how_to_look, show


def study(
    what: Annotated[
        str,
        typer.Argument(metavar="STUDY|SCENARIO", help="Name in the library, file, or MODULE:FUNCTION."),
    ],
    budget: Annotated[
        str | None, options.text("B", "A budget of the study, as paper (default: its first).")
    ] = None,
    variants: Annotated[
        list[str] | None,
        options.text("V,…", "Variants (default: all), or couplings.", "--variant", "-v"),
    ] = None,
    settings: options.Settings = None,
    seeds: Annotated[int | None, options.count("K", "Seeds of each line (default: the budget's).")] = None,
    steps: options.Steps = None,
    jobs: Annotated[
        int | None,
        options.count("N", "Lines trained at a time (default: one per core).", "--jobs", "-j"),
    ] = None,
    logdir: Annotated[
        Path | None,
        options.text("DIR", "The study's directory (default: a new one in runs)."),
    ] = None,
    device: options.Device = "cpu",
    commands: Annotated[
        bool,
        typer.Option("--list", help="Print each line's command, for an array job; run nothing."),
    ] = False,
    json: options.Json = False,
) -> int:
    """Run a study: compare variants over seeds in a table."""
    asked = StudyOptions(
        budget=budget,
        variants=[name for names in variants or () for name in names.split(",")],
        values=values_of(settings or ()),
        seeds=seeds,
        steps=steps,
        device=device,
        command=("antiphon", *sys.argv[1:]),
    )
    comparison = study_of(what, asked, logdir)
    from antiphon.studies import Table  # loads torch: a wrong name is told before

    if commands:
        print(*map(comparison.command, comparison.plan.runs.values()), sep="\n")
        return 0
    table = Table(comparison.go(write_error, jobs or cores()), comparison.directory)
    show(table, json)
    if not json:
        how_to_look(comparison.directory)
    if table.exit_code:
        same = f"the same command with --logdir {display_path(comparison.directory)} continues"
        write_error(f"{'stopped' if table.exit_code > 128 else 'error: some runs failed'}; {same}")
    return table.exit_code
