"""Populations from Python: what `antiphon population` does, with scenarios, templates and functions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from antiphon.base.errors import DivergenceError, is_terminal
from antiphon.base.files import display_path, given_path
from antiphon.base.signals import stopped_by
from antiphon.base.table import Table
from antiphon.jobs.populations.population_run import LINEAGE, PopulationRun
from antiphon.jobs.sources import new_directory, scenario_template
from antiphon.running.callbacks import RunProgress
from antiphon.running.templates import Buildable, PythonTemplate, template_named
from antiphon.scenarios import Template
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.training import quality
from antiphon.scenarios.yaml_text import find_document
from antiphon.terminal.output import InFolder, written


class TrainedMembers(InFolder):
    """A population that has been trained; `print(members)` prints the table that the command prints, and where the runs are.

    Its folder has population.json, lineage.csv and a run directory for each member.

    Attributes:
        best: The run directory of the best member; None where a signal stopped all.
    """

    csv = LINEAGE

    def __init__(self, result: Mapping[str, Any], directory: Path) -> None:
        super().__init__(result, directory)
        self.best = None if result["best"] is None else given_path(result["best"]["run_dir"])

    def __str__(self) -> str:
        best = [] if self.best is None else [f"best         {display_path(self.best)}"]
        lineage = f"lineage      {display_path(self.directory / LINEAGE)}"
        return "\n".join([f"{self.table()}\n", *best, lineage])

    def table(self) -> Table:
        """Return the members with their scores and values, the best first."""
        result, metric = self.result, self.result["metric"] or "score"
        members = sorted(result["members"], key=lambda member: -quality(member["score"], metric))
        names, rows = list(members[0]["values"]), []
        for member in members:
            parent = member["copied_from"]
            copied = "–" if parent is None else f"{parent} at step {member['copied_at']:,}"
            error = f" ± {written(metric, member['error'])}" if member["error"] else ""
            values = [f"{member['values'][name]:.3g}" for name in names]
            ended = "" if member["exit"] == "done" else f" ({member['exit']} after step {member['steps']:,})"
            row = [f"{member['member']}{ended}", copied, written(metric, member["score"]) + error]
            rows.append([*row, *values])
        steps = max(member["steps"] for member in members)
        title = f"{result['population']} · {len(members)} members · {steps:,} steps"
        return Table(["member", "copied from", f"score ({metric})", *names], rows, 2, title)


def trained(run: PopulationRun, *, progress: bool) -> TrainedMembers:
    """Train a population."""
    shown = RunProgress(run.until, run.scheduler.start, run.spec.members) if progress else None
    return TrainedMembers(run.train(shown), run.directory)


def population_of(
    scenario: Buildable | Template | str | Path, **keys: Any
) -> tuple[PopulationSpec, Template | PythonTemplate]:
    """Return the population of a scenario, or of a name or file with some other keys, and its template."""
    document = find_document(PopulationSpec, scenario) if isinstance(scenario, str | Path) else None
    keys = {key: value for key, value in keys.items() if value is not None}
    if document is None:
        template = scenario_template(scenario)
        return PopulationSpec.of(population=template.name, scenario=template.source, **keys), template
    if "set" in keys:
        keys["set"] = {**document.set, **keys["set"]}
    return document.with_keys(**keys), template_named(document.scenario)


def population(
    scenario: Buildable | Template | str | Path,
    *,
    vary: Mapping[str, Any] | None = None,
    members: int | None = None,
    select: Mapping[str, Any] | None = None,
    variant: str | None = None,
    values: Mapping[str, Any] | None = None,
    steps: int | None = None,
    seed: int | None = None,
    logdir: str | Path | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> TrainedMembers:
    """Train a population: members of one scenario that differ in hyperparameters, as one stack where possible.

    Args:
        scenario: A scenario's template, library name or file; a function that returns a scenario, called with parameters by
            name; or the name or file of a population.
        vary: By parameter, its range `{"from": 1e-4, "to": 1e-1, "log": True}`, or a list of values, of which each
            member draws one.
        members: The number of members; None: 8.
        select: The keys of a population's `select`, such as `{"every": 500}`; None: the best do not replace the worst.
        variant: A variant of the scenario; None: none, or the population's.
        values: Values of other parameters, for all members.
        steps: Training steps; None: the scenario's.
        seed: The seed of the first member, of the initial values and of the selection; None: 0.
        logdir: The population's folder, which is continued where it exists; None: a new one in the directory for runs.
        device: The device of all members.
        progress: Whether a bar is shown on a terminal.

    Raises:
        ScenarioError: Something that is not accepted; nothing has been written.
        RunError: `logdir` holds something else, or cannot be written.
        DivergenceError: All members have diverged.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the members have checkpoints.
    """
    keys: dict[str, Any] = {"members": members, "select": select, "set": values, "steps": steps}
    keys |= {"seed": seed, "variant": variant}
    spec, template = population_of(scenario, vary=vary, **keys)
    folder = new_directory(None, None, spec.population) if logdir is None else given_path(logdir)
    run = PopulationRun(spec, template, folder, device=device)
    result = trained(run, progress=progress and is_terminal())
    same = f"the same call with logdir='{result.directory}' continues"
    if result.exit_code > 128:
        raise stopped_by(result.exit_code - 128, same)
    if result.best is None:
        line = "all members have diverged; lower the range of the learning rate"
        raise DivergenceError(f"{result.directory}: {line}")
    return result
