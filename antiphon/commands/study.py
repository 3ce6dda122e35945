"""The verb `study`."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.text import Text

from antiphon.commands.arguments import new_directory, scenario_template, values_of
from antiphon.commands.output import console, how_to_look, percent, print_json, remark, show_table, shown
from antiphon.engine.studies.study import Ended, Study
from antiphon.engine.studies.table import COLUMNS, cells, remarks

__all__ = ["study"]


def study(
    scenario: str,
    *,
    variants: list[str],
    settings: list[str],
    seeds: int,
    steps: int | None,
    jobs: int | None,
    logdir: Path | None,
    device: str,
    json: bool,
) -> int:
    """Compare the variants of a scenario over seeds; return the exit code."""
    template = scenario_template(scenario)
    asked = Study(
        template=template,
        directory=logdir or new_directory(None, None, f"study-{template.name}"),
        variants=variants,
        values=values_of(settings),
        seeds=seeds,
        steps=steps,
        device=device,
        command=("antiphon", *sys.argv[1:]),
    )
    jobs = jobs or _cores()
    requests = asked.requests().values()
    budget = max(request.scenario.training.steps for request in requests)
    remark(f"{len(requests)} runs of {budget:,} steps, {jobs} at a time, in {shown(asked.directory)}")
    outcome = asked.go(jobs, _say)
    if json:
        print_json(outcome.result)
    elif outcome.exit_code == 0:
        _show(outcome.result, asked.directory)
    if outcome.exit_code:
        remark(f"stopped; the same command with --logdir {shown(asked.directory)} goes on")
    return outcome.exit_code


def _say(run: Ended) -> None:
    done = "kept" if run.kept else f"{run.result['seconds']:.0f} s"
    outcome = percent(run.result["accuracy"]) if run.result["exit"] == "done" else run.result["exit"]
    remark(f"[{run.number}/{run.total}] {run.variant} s{run.seed}: {outcome} ({done})")


def _show(result: Mapping[str, Any], directory: Path) -> None:
    seeds = f"{result['seeds']} seeds" if result["seeds"] > 1 else "1 seed"
    remark("")
    show_table(
        COLUMNS,
        cells(result),
        right=len(COLUMNS) - 1,
        title=f"{result['scenario']} · {result['steps']:,} steps · {seeds}",
    )
    for line in remarks(result):
        console().print(Text(line, style="dim"))
    console().print()
    console().print(Text(f"table        {shown(directory / 'table.md')}, table.csv"), soft_wrap=True)
    if (directory / "graph.png").exists():
        console().print(Text(f"picture      {shown(directory / 'graph.png')}"), soft_wrap=True)
    how_to_look(directory)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
