"""Studies from Python: what `antiphon study` does, with scenarios, templates and functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.base.errors import is_terminal, write_error
from antiphon.base.files import display_path, given_path
from antiphon.base.problems import check_counts
from antiphon.base.signals import stopped_by
from antiphon.jobs.sources import scenario_template, study_of
from antiphon.jobs.studies.plan import StudyOptions
from antiphon.jobs.studies.table import tables
from antiphon.running.templates import Buildable, PythonTemplate
from antiphon.scenarios import Template
from antiphon.scenarios.scenario import COMPARED
from antiphon.scenarios.study_spec import DEFAULT
from antiphon.terminal.output import InFolder


class Table(InFolder):
    """The table of a study; `print(table)` prints what the command prints: it, and where it is.

    Its folder has table.md, table.csv and a run directory for each line and seed.
    """

    csv = "table.csv"

    def __str__(self) -> str:
        place = f"table        {display_path(self.directory / 'table.md')}, table.csv"
        return "\n\n".join([*map(str, tables(self.result)), place])


def study(
    scenario: Buildable | str | Path,
    *,
    variants: Sequence[str] | Mapping[str, Mapping[str, Any] | None] | None = None,
    values: Mapping[str, Any] | None = None,
    grid: Mapping[str, Sequence[Any]] | None = None,
    tune: Mapping[str, Sequence[Any]] | None = None,
    metric: str | Sequence[str] | None = None,
    seeds: int | None = None,
    steps: int | None = None,
    logdir: str | Path | None = None,
    device: str = "cpu",
) -> Table:
    """Run variants of a scenario over seeds, at every point of a grid, and return their table.

    The same call with the same `logdir` continues where it stopped. Lines run one after the other, the seeds of each together. On a terminal, every run that ends is reported.

    Args:
        scenario: A scenario; a template, library name or file; the name or file of a study; or a function that returns a
            scenario, called with parameters by name.
        variants: Lines of the table: names of the template's variants, or a mapping of names to parameter values. None: all
            variants of the template, or the scenario alone. What has no variants may have the couplings of its decoupled
            channels: `locked`, `decoupled`, `detached` and, where all agents classify one target, `local`. *Recovered* needs
            the names `locked` and `detached`.
        values: Parameter values of every run.
        grid: Lists of values by parameter: all variants run at every point.
        tune: Lists of values by parameter; each line uses the value that is best on the validation split.
        metric: The metrics in the table; None: the metric of the readouts' objective.
        seeds: Each line runs with seeds 0 … seeds - 1; None: 3.
        steps: Training steps; None: the scenario's.
        logdir: The study's directory; None: a new one in the directory for runs.
        device: The device of all runs.

    Raises:
        ScenarioError: A scenario, variant or value that is not accepted; nothing has been run.
        RunError: `logdir` has a run with other values or data (nothing has been run), or a run cannot begin or continue.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the runs have checkpoints.
    """
    check_counts("study", seeds=seeds, steps=steps)
    named = variants if isinstance(variants, Mapping) else None
    options = StudyOptions(
        variants=() if variants is None or named is not None else tuple(variants),
        values=dict(values or {}),
        seeds=seeds,
        steps=steps,
        device=device,
    )
    lists = {"grid": grid, "tune": tune, "metric": metric}
    keys: dict[str, Any] = {name: key for name, key in lists.items() if key is not None}
    directory = None if logdir is None else given_path(logdir)
    if isinstance(scenario, str | Path) and named is None and not keys:
        comparison = study_of(str(scenario), options, directory)
    else:
        template = scenario_template(scenario)
        if named is not None:
            keys["variants"] = _lines(named, template)
        alone = replace(options, values={})
        comparison = study_of(template, alone, directory, set=options.values, **keys)
    result = comparison.go(write_error if is_terminal() else lambda line: None)
    same = f"the same call with logdir='{comparison.directory}' continues"
    if result["exit_code"] > 128:
        raise stopped_by(result["exit_code"] - 128, same)
    return Table(result, given_path(comparison.directory))


def _lines(
    variants: Mapping[str, Mapping[str, Any] | None], template: Template | PythonTemplate
) -> dict[str, dict[str, Any]]:
    """Return the variants of a study's document: those of a template that have their names, with values of parameters."""
    lines = {}
    for name, line in variants.items():
        known = name in (template.variants or COMPARED)
        lines[name] = {"variant": None if known else DEFAULT, "set": dict(line or {})}
    return lines
