"""The verb `study`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from antiphon.commands.arguments import given_template, new_directory, scenario_template, values_of
from antiphon.commands.output import (
    console,
    display_path,
    how_to_look,
    in_short,
    print_json,
    remark,
    second_signal,
    show_table,
)
from antiphon.engine.runs.library import scenario_names
from antiphon.engine.studies.plan import Plan, StudyOptions, plan
from antiphon.engine.studies.study import Ended, Study
from antiphon.engine.studies.table import cells, columns, common_remarks, heading, named, remarks, views
from antiphon.errors import RunError, ScenarioError, suggest
from antiphon.scenarios.study import StudySpec, find_study, study_names

__all__ = ["cores", "find_study_or_scenario", "print_tables", "report_run", "study"]

_DOCUMENTS = (".yaml", ".yml")


def study(
    what: str | None,
    *,
    python: str | None,
    budget: str | None,
    variants: list[str],
    settings: list[str],
    seeds: int | None,
    steps: int | None,
    jobs: int | None,
    logdir: Path | None,
    device: str,
    json: bool,
) -> int:
    """Run a study, or compare the variants of a scenario over seeds; return the exit code."""
    selection = StudyOptions(
        budget=budget,
        variants=variants,
        values=values_of(settings),
        seeds=seeds,
        steps=steps,
        device=device,
        command=("antiphon", *sys.argv[1:]),
    )
    if what is None and python is None:
        if budget or variants or settings or seeds or steps or logdir:
            raise RunError(f"study: which one? known: {', '.join(study_names())}")
        return _list(selection, json)
    wanted = (
        find_study_or_scenario(str(what), selection, logdir)
        if python is None
        else _of_python(what, python, selection, logdir)
    )
    jobs = jobs or cores()
    remark(f"{_cost(wanted.plan)}, {jobs} at a time, in {display_path(wanted.directory)}")
    same = f"the same command with --logdir {display_path(wanted.directory)} goes on"
    with second_signal(same):
        outcome = wanted.go(jobs, report_run)
    if json:
        print_json(outcome.result)
    elif outcome.exit_code < 128:
        _show(outcome.result, wanted.directory)
    if outcome.missing is not None:
        remark(f"no picture: {outcome.missing}")
    if outcome.exit_code:
        failed = len(outcome.result["failed"])
        ended = "stopped" if outcome.exit_code > 128 else f"error: {failed} of the runs failed"
        remark(f"{ended}; {same}")
    return outcome.exit_code


def _of_python(what: str | None, python: str, selection: StudyOptions, logdir: Path | None) -> Study:
    template = given_template("study", what, python)
    return Study.of_template(
        template, logdir or new_directory(None, None, f"study-{template.name}"), selection
    )


def find_study_or_scenario(what: str, selection: StudyOptions, logdir: Path | None) -> Study:
    """Return the study of a name or file: a document, or all variants of one scenario.

    Raises:
        ScenarioError: There is none, or it is not accepted.
    """
    spec = find_study(what)
    if spec is not None:
        return Study(
            spec=spec, directory=logdir or new_directory(None, None, f"study-{spec.study}"), options=selection
        )
    known = {*study_names(), *scenario_names()}
    bare = Path(what).suffix not in _DOCUMENTS and Path(what).parent == Path()
    if bare and what not in known and not Path(what).exists():
        raise ScenarioError(f"no study or scenario {what!r}{suggest(what, known)}")
    template = scenario_template(what)
    directory = logdir or new_directory(None, None, f"study-{template.name}")
    return Study.of_template(template, directory, selection)


def _list(selection: StudyOptions, json: bool) -> int:
    """Print the library's studies with the cost of each budget."""
    specs = {name: spec for name in study_names() if (spec := find_study(name)) is not None}
    plans = {
        name: {budget: plan(spec, replace(selection, budget=budget)) for budget in spec.budgets}
        for name, spec in specs.items()
    }
    if json:
        print_json({"studies": {name: _listed(spec, plans[name]) for name, spec in specs.items()}})
        return 0
    budgets = list(dict.fromkeys(budget for found in plans.values() for budget in found))
    rows = [
        [name, *(_cost(found[budget]) if budget in found else "" for budget in budgets)]
        for name, found in plans.items()
    ]
    show_table(["study", *(f"budget {budget}" for budget in budgets)], rows)
    for name, spec in specs.items():
        console().print(Text(f"{name}: {' '.join(spec.description.split())}", style="dim"))
    console().print(Text("\nantiphon study NAME [--budget small|paper] [--jobs N]"))
    return 0


def _listed(spec: StudySpec, plans: Mapping[str, Plan]) -> dict[str, Any]:
    budgets = {
        budget: {
            "runs": len(found.runs),
            "seeds": found.seeds,
            "steps": list(found.steps),
            "total_steps": sum(run.request.scenario.training.steps for run in found.runs.values()),
        }
        for budget, found in plans.items()
    }
    return {"description": " ".join(spec.description.split()), "budgets": budgets}


def _cost(found: Plan) -> str:
    """Format the cost of a plan: `12 runs of 2,000 steps`."""
    least, most = found.steps[0], found.steps[-1]
    steps = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    return f"{len(found.runs)} run{'s' if len(found.runs) != 1 else ''} of {steps} steps"


def report_run(run: Ended) -> None:
    """Print one line about a run that has ended to stderr."""
    which = f"[{run.number}/{run.total}] {run.label} s{run.seed}"
    if run.error is not None:
        remark(f"{which}: failed: {run.error}")
        return
    done = "kept" if run.kept else f"{run.result['seconds']:.0f} s"
    outcome = run.result["exit"] if run.result["exit"] != "done" else in_short(run.result)
    remark(f"{which}: {outcome} ({done})")


def print_tables(result: Mapping[str, Any], out: Console) -> None:
    """Print the tables of a study, with the lines that say what their numbers are."""
    for number, view in enumerate(views(result)):
        names = columns(view)
        title = "" if number else heading(view)
        show_table(names, cells(view), right=len(names) - named(view), title=title, out=out)
        for line in [*remarks(view), *([] if number + 1 < len(views(result)) else common_remarks(view))]:
            out.print(Text(line, style="dim"))
        out.print()


def _show(result: Mapping[str, Any], directory: Path) -> None:
    remark("")
    print_tables(result, console())
    console().print(Text(f"table        {display_path(directory / 'table.md')}, table.csv"), soft_wrap=True)
    pictures = [
        name
        for name in ("figure.svg", "curves.svg", "representations.svg", "graph.png")
        if (directory / name).exists()
    ]
    if pictures:
        first, *others = pictures
        console().print(
            Text(", ".join([f"pictures     {display_path(directory / first)}", *others])), soft_wrap=True
        )
    how_to_look(directory)


def cores() -> int:
    """Return the number of cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
