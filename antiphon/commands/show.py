"""The command `show`: a scenario with its execution plan, a run, a study or population as written, an environment, a timeline."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from antiphon.base.errors import ScenarioError
from antiphon.base.spec import plain
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.envs import describe, ids
from antiphon.jobs.sources import scenario_template
from antiphon.running.library import scenario_names
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import Scenario, Template
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.telemetry.timeline_text import raster_lines
from antiphon.terminal.output import console, print_json, remark

_ENV = "env"
"""The first word that names no scenario: what follows is an environment."""
_OF_ENVIRONMENTS = ("antiphon/", "gymnasium/", "pettingzoo/")
"""How ids of environments begin."""


def show(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE|MODULE:FUNCTION|RUN|ID|env]",
            help="A scenario, study, population, run or environment; or `env ID`.",
        ),
    ] = None,
    which: Annotated[str | None, typer.Argument(metavar="[ID]", help="After `env`, an environment.")] = None,
    python: options.PythonObjects = None,
    variant: options.Variant = None,
    settings: options.Settings = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the scenario file as written.")] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the resolved scenario as YAML.")
    ] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print ticks, messages read, and how far back gradients reach."),
    ] = False,
    steps: Annotated[int | None, options.count("N", "With --timeline: number of steps.")] = None,
    json: options.Json = False,
) -> None:
    """Explain a scenario, a run or an environment, or print its file or timeline."""
    values = values_of(settings or ())
    given = {
        "--scenario": python,
        "--variant": variant,
        "--set": values,
        "--yaml": yaml,
        "--resolved": resolved,
        "--timeline": timeline,
        "--steps": steps,
        "--json": json,
    }
    of_scenario = ("--scenario", "--variant", "--set")
    if which is not None and what != _ENV:
        raise ScenarioError(f"show: {which!r}: one name at a time, or show env ID")
    if what is None:
        raise ScenarioError("show: name a scenario, a run or an environment; antiphon list lists them")
    elif what == _ENV or _is_environment(what):
        _check_only(given, "--set", "--json")
        _environment(which if what == _ENV else what, values, json)
    elif python is None and (document := _document(what)) is not None:
        _check_only(given, "--yaml", "--json")
        print_json(plain(document)) if json else print(document.text, end="")
    elif yaml:
        _check_only(given, "--scenario", "--yaml")
        _show_yaml(scenario_template(what, python))
    elif resolved:
        _check_only(given, *of_scenario, "--resolved")
        print(scenario_template(what, python).resolve(variant, values).to_yaml(), end="")
    elif timeline:
        _check_only(given, *of_scenario, "--timeline", "--steps")
        _timeline(scenario_template(what, python).resolve(variant, values), steps)
    else:
        _check_only(given, *of_scenario, "--json")
        template = scenario_template(what, python)
        # it loads torch: a wrong name is told before
        from antiphon.terminal.explain import show_scenario

        show_scenario(what, template, variant, values, json)


def _check_only(given: Mapping[str, object], *taken: str) -> None:
    """Raise ScenarioError where an option is given that has no effect."""
    for option, value in given.items():
        if value and option not in taken:
            raise ScenarioError(
                f"show: {option} has no effect here; leave out all options but {', '.join(taken)}"
            )


def _document(name_or_file: str) -> PopulationSpec | StudySpec | None:
    """Return a population or study by its name or file; None where it is neither, or has the name of a scenario."""
    if name_or_file in scenario_names():
        return None
    return find_document(PopulationSpec, name_or_file) or find_document(StudySpec, name_or_file)


def _show_yaml(template: Template | PythonTemplate) -> None:
    if not isinstance(template, Template):
        raise ScenarioError("show --yaml: a scenario from Python has no file; use --resolved")
    print(template.text, end="")


def _is_environment(name: str) -> bool:
    """Return whether a name is of an environment, by its beginning or its version, which files and scenarios do not have."""
    is_named_so = name.startswith(_OF_ENVIRONMENTS) or re.search(r"-v\d+$", name) is not None
    return name in ids() or (is_named_so and not Path(name).exists())


def _environment(named: str | None, values: Mapping[str, Any], json: bool) -> None:
    """Explain an environment, of whose id `antiphon/` may be left out."""
    from antiphon.terminal.explain import explain_environment, show_signals

    if named is None:
        raise ScenarioError(f"show env: give an environment, such as {ids()[0]}; antiphon list lists them")
    name = f"antiphon/{named}" if f"antiphon/{named}" in ids() else named
    explained = explain_environment(name, describe({"id": name, **values}))
    if json:
        print_json(explained)
        return
    show_signals(explained)
    if not values and "image" in explained["signals"]:
        remark("use --set for other options, for example --set patches=4 --set hold=6")


def _timeline(scenario: Scenario, steps: int | None) -> None:
    """Print the timeline of the first steps (default: twice the longest window, 32 at most), without running it."""
    from antiphon.engine.metrics.timeline import span, timeline
    from antiphon.terminal.explain import built

    system = built(scenario)
    times = timeline(system, 0, span(system) if steps is None else steps)
    out = console()
    for line in raster_lines(times, out.width):
        out.print(Text(line), soft_wrap=True)
