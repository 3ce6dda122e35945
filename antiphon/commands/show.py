"""The command `show`: a scenario with its execution plan, a run, a study, a population, an environment, kinds, a timeline, or the library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from antiphon.base.errors import ScenarioError
from antiphon.base.files import given_path
from antiphon.base.kinds import kinds_of, own_keys_of, sections, summary_of
from antiphon.base.spec import plain
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.envs import describe, ids
from antiphon.jobs.sources import scenario_template
from antiphon.running.directory import POPULATION
from antiphon.running.library import scenario_names, templates
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios import Scenario, Template, json_schema
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.schema import schema_text
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.telemetry.timeline_text import raster_lines
from antiphon.terminal.document_tables import show_population, show_study
from antiphon.terminal.output import console, print_json, remark, show_table, show_text_table, write_line
from antiphon.terminal.reference import (
    ReferenceTable,
    environment_named,
    kind_option_table,
    kind_table,
    library_tables,
    section_named,
)


def show(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME|FILE|MODULE:FUNCTION|RUN|ID|env|kinds]",
            help="A scenario, study, population, run or environment; `env ID`; `kinds` of gradients, networks, …",
        ),
    ] = None,
    which: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|SECTION]", help="After `env` an environment; after `kinds` a section, as `gradient`."
        ),
    ] = None,
    python: options.PythonObjects = None,
    variant: options.Variant = None,
    settings: options.Settings = None,
    yaml: Annotated[bool, typer.Option("--yaml", help="Print the scenario file as written.")] = False,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the resolved scenario as YAML.")
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of scenario files.")
    ] = False,
    timeline: Annotated[
        bool,
        typer.Option("--timeline", help="Print ticks, messages read, and how far back gradients reach."),
    ] = False,
    steps: Annotated[int | None, options.count("N", "With --timeline: number of steps.")] = None,
    json: options.Json = False,
) -> None:
    """Explain a scenario, study, population, run or environment, print its file or timeline, or list the library."""
    if sum((yaml, resolved, schema, timeline)) > 1:
        raise ScenarioError(
            "show: --yaml, --resolved, --schema and --timeline are mutually exclusive; give one"
        )
    if steps is not None and not timeline:
        raise ScenarioError("show --steps is for --timeline; give both, or neither")
    values = values_of(settings or ())
    given = {
        "--scenario": python is not None,
        "--variant": variant is not None,
        "--set": bool(values),
        "--yaml": yaml,
        "--resolved": resolved,
        "--schema": schema,
        "--timeline": timeline,
        "--json": json,
    }
    document = None if what in (None, _ENV, _KINDS) or python is not None else _document(what)
    form = _form(what, document, given)
    _check_options(form, [option for option, is_given in given.items() if is_given], document)
    if which is not None and what not in (_ENV, _KINDS):
        raise ScenarioError(f"show: {which!r}: one name at a time, or show env ID, or show kinds SECTION")
    if schema:
        if what is not None:
            raise ScenarioError(f"show --schema is of all scenario files; leave out {what!r}")
        print_json(json_schema()) if json else print(schema_text(), end="")
    elif what is None:
        _list(json)
    elif what == _KINDS:
        _kinds(which, json)
    elif form == _ENVIRONMENT:
        _environment(which if what == _ENV else what, values, json)
    elif document is not None:
        _show_document(what, document, yaml=yaml, json=json)
    elif timeline:
        _timeline(scenario_template(what, python).resolve(variant, values), steps, json=json)
    elif yaml:
        _show_yaml(scenario_template(what, python))
    elif resolved:
        print(scenario_template(what, python).resolve(variant, values).to_yaml(), end="")
    else:
        template = scenario_template(what, python)
        if not json and (given_path(what) / POPULATION).is_file():
            _show_members(given_path(what))
        # it loads torch: a wrong name is told before
        from antiphon.terminal.scenario_tables import show_scenario

        show_scenario(what, template, variant, values, json)


def _form(what: str | None, document: PopulationSpec | StudySpec | None, given: Mapping[str, bool]) -> str:
    """Return which form of the command is asked for: a key of `_TAKEN`."""
    if what == _KINDS:
        return "kinds"
    if what == _ENV or (document is None and what is not None and _is_environment(what)):
        return _ENVIRONMENT
    if given["--schema"]:
        return "the schema"
    if what is None:
        return "the library"
    if given["--yaml"]:
        return "a file as written"
    if document is not None:
        return "a study or population"
    for option, form in (("--resolved", "a resolved scenario"), ("--timeline", "a timeline")):
        if given[option]:
            return form
    return "a scenario"


def _check_options(form: str, options: Sequence[str], document: PopulationSpec | StudySpec | None) -> None:
    """Raise ScenarioError where an option is given that the form of the command does not take."""
    refused = [option for option in options if option not in _TAKEN[form]]
    if not refused:
        return
    # of Python there is no such document
    *first, last = (option for option in _TAKEN[form] if document is None or option != "--scenario")
    taken = f"{', '.join(first)} and {last}" if first else last
    fix = f"leave out all options but {taken}"
    if document is not None:
        fix = f"{fix}, or show its scenario, {document.scenario}"
    elif form == "the library":
        fix = "name a scenario, run or environment"
    elif form == "a file as written":
        fix = "use --resolved with --variant and --set"
    raise ScenarioError(f"show {refused[0]}: has no effect on {form}; {fix}")


def _show_document(what: str, document: PopulationSpec | StudySpec, *, yaml: bool, json: bool) -> None:
    if yaml:
        print(document.text, end="")
    elif json:
        print_json(plain(document))
    elif isinstance(document, StudySpec):
        show_study(what, document)
    else:
        show_population(what, document)


def _show_yaml(template: Template | PythonTemplate) -> None:
    if not isinstance(template, Template):
        raise ScenarioError("show --yaml: a scenario from Python has no file; use --resolved")
    print(template.text, end="")


def _show_members(folder: Path) -> None:
    """Print the members of a population that has run, and how the winner came about, before the winner itself."""
    from antiphon.jobs.populations.population_run import standings
    from antiphon.terminal.member_tables import standing_tables

    standing = standings(folder)
    write_line(f"{standing.name}: a population of {len(standing.members)} members, best first\n")
    for table in standing_tables(standing):
        show_text_table(table)
    if standing.to_come:
        write_line(f"{standing.to_come}\n")


def _document(name_or_file: str) -> PopulationSpec | StudySpec | None:
    """Return a population or study by its name or file; None where it is neither, or has the name of a scenario."""
    if name_or_file in scenario_names():
        return None
    return find_document(PopulationSpec, name_or_file) or find_document(StudySpec, name_or_file)


def _kinds(section: str | None, json: bool) -> None:
    """Print the kinds of one section of scenario files with their options, or those of all; also registered ones."""
    names = sections() if section is None else (section_named(section),)
    if json:
        print_json({name: {kind: _kind(name, kind) for kind in kinds_of(name)} for name in names})
        return
    for name in names:
        _reference(kind_table(name, name if section is None else "kind"))
    if section is None:
        remark("antiphon show kinds SECTION lists the meaning and default of each option")
    else:
        _reference(kind_option_table(names[0]))


def _kind(section: str, kind: str) -> dict[str, Any]:
    keys = {key: meaning for key, (_, meaning) in own_keys_of(section, kind).items()}
    return {"summary": summary_of(section, kind), "keys": keys}


def _reference(table: ReferenceTable) -> None:
    if table.rows:
        show_table(table.headings, table.rows)


_ENV, _KINDS = "env", "kinds"
"""First words that name no scenario: what follows is an environment, or a section of scenario files."""
_ENVIRONMENT = "an environment"
_OF_SCENARIO = ("--scenario", "--variant", "--set")
_TAKEN: Mapping[str, tuple[str, ...]] = {
    "the library": ("--json",),
    "the schema": ("--schema", "--json"),
    "kinds": ("--json",),
    _ENVIRONMENT: ("--set", "--json"),
    "a study or population": ("--yaml", "--json"),
    "a file as written": ("--scenario", "--yaml"),
    "a resolved scenario": (*_OF_SCENARIO, "--resolved"),
    "a timeline": (*_OF_SCENARIO, "--timeline", "--json"),
    "a scenario": (*_OF_SCENARIO, "--json"),
}
"""Options that each form of the command takes; `--steps` belongs to `--timeline`."""
_OF_ENVIRONMENTS = ("antiphon/", "gymnasium/", "pettingzoo/")
"""How ids of environments begin."""


def _is_environment(name: str) -> bool:
    """Return whether a name is of an environment, by its beginning or its version, which files and scenarios do not have."""
    is_named_so = name.startswith(_OF_ENVIRONMENTS) or re.search(r"-v\d+$", name) is not None
    return name in ids() or (is_named_so and not Path(name).exists())


def _list(json: bool) -> None:
    scenario_templates, trained = templates(), PopulationSpec.whole_library()
    if json:
        scenarios = {
            name: {"description": template.description, "variants": list(template.variants)}
            for name, template in scenario_templates.items()
        }
        of_members = {name: {"description": spec.description} for name, spec in trained.items()}
        print_json({"scenarios": scenarios, "populations": of_members, "environments": list(ids())})
        return
    for table in library_tables():
        _reference(table)
    show_table(["environment"], [[name] for name in ids()])
    remark("antiphon show NAME describes a scenario; antiphon run NAME runs it")


def _environment(named: str | None, values: Mapping[str, Any], json: bool) -> None:
    from antiphon.terminal.explain import explain_environment
    from antiphon.terminal.scenario_tables import show_signals

    if named is None:
        raise ScenarioError(f"show env: give an environment, such as {ids()[0]}; antiphon show lists them")
    name = environment_named(named)
    explained = explain_environment(name, describe({"id": name, **values}))
    if json:
        print_json(explained)
        return
    show_signals(explained)
    if not values and "image" in explained["signals"]:
        remark("use --set for other options, for example --set patches=4 --set hold=6")


def _timeline(scenario: Scenario, steps: int | None, *, json: bool) -> None:
    """Print the timeline of the first steps (default: twice the longest window, 32 at most), without running it."""
    from antiphon.engine.metrics.timeline import span, timeline
    from antiphon.terminal.explain import built

    system = built(scenario)
    times = timeline(system, 0, span(system) if steps is None else steps)
    if json:
        print_json({"scenario": scenario.scenario, **times.plain()})
        return
    out = console()
    for line in raster_lines(times, out.width):
        out.print(Text(line), soft_wrap=True)
