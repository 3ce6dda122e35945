"""Populations on the command line: what `run` and `resume` do with them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from antiphon.base.files import display_path
from antiphon.base.imports import with_imports
from antiphon.jobs.populations.population_run import LINEAGE, PopulationRun, new_population
from antiphon.running.library import template_of_document
from antiphon.running.observers import RunProgress
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.terminal.member_tables import print_members
from antiphon.terminal.output import (
    console,
    how_to_look,
    print_json,
    remark,
    second_signal,
    write_line,
)


def run_population(
    spec: PopulationSpec,
    directory: Path,
    exist: str,
    json: bool,
    **settings: Any,
) -> int:
    """Run a population; return the exit code. The settings are those of `PopulationRun`, the rest is as in `antiphon run`."""
    settings["command"] = ("antiphon", *sys.argv[1:])
    with new_population(spec, template_of_document(spec), directory, exist, **settings) as run:
        return train_population(run, json)


def train_population(run: PopulationRun, json: bool) -> int:
    """Train a population to its end, showing progress; print its table and return the exit code."""
    directory, count = run.directory, run.spec.members
    if run.scheduler.sequential_reason is not None:
        remark(f"the members run one after the other: {run.scheduler.sequential_reason}")
    again = with_imports(f"antiphon resume {display_path(directory)}")
    remedy = f"{again} continues from the latest checkpoints"
    with second_signal(remedy):
        result = run.train(RunProgress(run.until, run.scheduler.start, count))
    code: int = result["exit_code"]
    if json:
        print_json(result)
    else:
        print_members(result, console())
        if result["best"] is not None:
            write_line(f"\nbest         {display_path(result['best']['run_dir'])}")
        write_line(f"lineage      {display_path(directory / LINEAGE)}")
        how_to_look(directory)
    if code > 128:
        remark(f"stopped; {remedy}")
    return code
