"""Populations on the command line: what `run` and `resume` do with them."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from antiphon.base.files import display_path
from antiphon.base.imports import with_imports
from antiphon.jobs.populations.population_run import LINEAGE, PopulationRun
from antiphon.jobs.populations.selection import advice, in_words, near_the_best, quality
from antiphon.running.directory import is_free, numbered
from antiphon.running.library import template_of_document
from antiphon.running.observers import RunProgress
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.terminal.output import (
    console,
    how_to_look,
    print_json,
    remark,
    second_signal,
    show_table,
    some,
    write_line,
    written,
)


def run_population(
    spec: PopulationSpec,
    directory: Path,
    exist: str,
    json: bool,
    **settings: Any,
) -> int:
    """Run a population; return the exit code. The settings are those of `PopulationRun`, the rest is as in `antiphon run`."""
    if exist == "number":
        requested, exist = directory, "error"
        directory = next(candidate for candidate in numbered(requested) if is_free(candidate))
        if directory != requested:
            remark(f"{requested.name} already exists: this population is called {directory.name}")
    settings["command"] = ("antiphon", *sys.argv[1:])
    run = PopulationRun(spec, template_of_document(spec), directory, exist=exist, **settings)
    return train_population(run, json)


def train_population(run: PopulationRun, json: bool) -> int:
    """Train a population to its end, showing progress; print its table and return the exit code."""
    from antiphon.engine.planning.ended_schedules import ended_schedules

    directory, count = run.directory, run.spec.members
    if run.scheduler.sequential_reason is not None:
        remark(f"the members run one after the other: {run.scheduler.sequential_reason}")
    for line in [*advice(run.spec, run.until), *ended_schedules(run.scenario, run.until)]:
        remark(f"warning: {line}", "yellow")
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


def print_members(result: Mapping[str, Any], out: Console) -> None:
    """Print a population's table: its members with their scores and values, the best first."""
    title, columns, rows = members_table(result)
    words = 1 + ("copied from" in columns)
    show_table(columns, rows, right=len(columns) - words, title=f"\n{title}", out=out)
    scores = [(str(member["member"]), member["score"], member["error"]) for member in _best_first(result)]
    if line := lead_in_words(scores):
        out.print(Text(line, style="dim"))


def lead_in_words(members: Sequence[tuple[str, float | None, float]]) -> str:
    """Return which members the winner does not surely lead; empty: it leads all, or their errors are unknown.

    Args:
        members: Names, scores and their standard errors, the winner first.
    """
    near = [members[index][0] for index in near_the_best([(score, error) for _, score, error in members])]
    return (
        f"Within two standard errors of the winner, whose lead may be chance: {some(near)}." if near else ""
    )


def members_table(result: Mapping[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """Return title, headings and rows of a population's table."""
    metric, words = result["metric"] or "score", in_words(result["metric"])
    members = _best_first(result)
    names, rows, steps = list(members[0]["values"]), [], max(member["steps"] for member in members)
    any_copied = any(member["copied_from"] is not None for member in members)
    for member in members:
        is_complete = member["exit"] == "done" and member["steps"] == steps
        ended = "" if is_complete else f" ({member['exit']} after step {member['steps']:,})"
        error = f" ± {written(metric, member['error'])}" if member["error"] else ""
        values = [f"{member['values'][name]:.3g}" for name in names]
        parent = member["copied_from"]
        copied = "–" if parent is None else copied_from(parent, member["copied_at"])
        score = f"{written(metric, member['score'])}{error}"
        rows.append([f"{member['member']}{ended}", *([copied] if any_copied else []), score, *values])
    title = f"{result['population']} · {len(members)} members · {steps:,} steps"
    return title, ["member", *(["copied from"] if any_copied else []), words, *names], rows


def copied_from(parent: int, step: int) -> str:
    """Return the member that a member last continued as a copy of, and when, for its cell of a table."""
    return f"{parent} at step {step:,}"


def _best_first(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the members of a result, the best first."""
    return sorted(
        result["members"], key=lambda member: -quality(member["score"], result["metric"] or "score")
    )
