"""The command `show`: a scenario with its stacks, a run, an environment, a timeline; a document as written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any

import typer

from antiphon.base.errors import ScenarioError
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.jobs.sources import scenario_template
from antiphon.running.library import scenario_names
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document, read_file
from antiphon.telemetry.timeline_text import raster_lines


def show(
    what: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|MODULE:FUNCTION|RUN|env",
            help="A scenario, a run, a study or population; or `env ID`.",
        ),
    ],
    which: Annotated[str | None, typer.Argument(metavar="[ID]", help="After `env`, an environment.")] = None,
    variant: options.Variant = None,
    settings: options.Settings = None,
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the file; with --set or --variant, the scenario it gives.")
    ] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print ticks, messages read, and how far back gradients reach."),
    ] = False,
    steps: Annotated[int | None, options.count("N", "With --timeline: number of steps.")] = None,
) -> None:
    """Describe a scenario, a run or an environment, or print its file or timeline."""
    values = values_of(settings or ())
    if steps is not None and not timeline:
        raise ScenarioError("show: --steps has no effect here; use it with --timeline")
    document = None if what == "env" else _document(what)
    if (what == "env" or document is not None) and (variant or timeline):
        raise ScenarioError(f"show {what}: --variant and --timeline have no effect here; leave them out")
    if what == "env":
        _environment(which, values)
    elif which is not None:
        raise ScenarioError(f"show: {which!r}: one name at a time, or show env ID")
    elif document is not None:
        names = document.library_names()
        print(read_file(document.library / f"{what}.yaml" if what in names else Path(what)), end="")
    else:
        template = scenario_template(what)
        if yaml and isinstance(template, Template) and variant is None and not values:
            print(template.text, end="")
        elif yaml:
            print(template.resolve(variant, values).to_yaml(), end="")
        elif timeline:
            _timeline(template.resolve(variant, values), steps)
        else:
            # it loads torch: a wrong name is told before
            from antiphon.terminal.explain import show_scenario

            show_scenario(what, template, variant, values)


def _document(name_or_file: str) -> PopulationSpec | StudySpec | None:
    """Return a population or study by its name or file; None where it is neither, or has the name of a scenario."""
    if name_or_file in scenario_names():
        return None
    return find_document(PopulationSpec, name_or_file) or find_document(StudySpec, name_or_file)


def _environment(named: str | None, values: Mapping[str, Any]) -> None:
    """Explain an environment, of whose id `antiphon/` may be left out."""
    from antiphon.envs import describe, ids
    from antiphon.terminal.explain import show_environment

    if named is None:
        raise ScenarioError(f"show env: give an environment, such as {ids()[0]}; antiphon list lists them")
    name = f"antiphon/{named}" if f"antiphon/{named}" in ids() else named
    show_environment(name, describe({"id": name, **values}))


def _timeline(scenario: Scenario, steps: int | None) -> None:
    """Print the timeline of the first steps (default: twice the longest window, 32 at most), without running it."""
    from antiphon.engine.metrics.timeline import span, timeline
    from antiphon.terminal.explain import built

    system = built(scenario)
    times = timeline(system, 0, span(system) if steps is None else steps)
    for line in raster_lines(times, get_terminal_size((120, 0)).columns):
        print(line)
