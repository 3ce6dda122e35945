"""The command `list`: the library, its studies, or the kinds of sections of scenario files."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from antiphon.base.errors import ScenarioError
from antiphon.base.kinds import kinds_of, own_keys_of, sections, summary_of
from antiphon.commands import options
from antiphon.envs import ids
from antiphon.running.library import templates
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from antiphon.terminal.output import console, print_json, remark, show_table
from antiphon.terminal.reference import (
    kind_option_table,
    kind_table,
    library_tables,
    section_named,
)


def list_(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[studies|kinds]", help="The library's studies, or kinds of sections."),
    ] = None,
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]", help="After `kinds`, a section of scenario files, as `gradient`."
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """List scenarios, populations and environments; or studies; or kinds, also registered ones."""
    if what is None:
        _library(json)
    elif what == "studies":
        _studies(json)
    elif what == "kinds":
        _kinds(section, json)
    else:
        raise ScenarioError(f"list: {what!r}; write nothing, studies or kinds")


def _library(json: bool) -> None:
    scenario_templates, trained = templates(), PopulationSpec.whole_library()
    if json:
        scenarios = {
            name: {"description": template.description, "variants": [*template.variants]}
            for name, template in scenario_templates.items()
        }
        of_members = {name: {"description": spec.description} for name, spec in trained.items()}
        print_json({"scenarios": scenarios, "populations": of_members, "environments": [*ids()]})
        return
    for table in library_tables():
        console().print(table, "", sep="\n")
    show_table(["environment"], [[name] for name in ids()])
    remark("antiphon show NAME describes a scenario; antiphon run NAME runs it")


def _studies(json: bool) -> None:
    """Print the library's studies: the question of each, and seeds and steps of its budgets."""
    listed = {}
    for name, spec in StudySpec.whole_library().items():
        budgets = {
            key: {"seeds": budget.seeds, "steps": budget.steps} for key, budget in spec.budgets.items()
        }
        listed[name] = {"description": " ".join(spec.description.split()), "budgets": budgets}
    if json:
        print_json({"studies": listed})
        return
    for name, study in listed.items():
        console().print(Text.assemble((name, "bold"), f": {study['description']}"))
    console().print(Text("\nantiphon study NAME [--budget small|paper] [--jobs N]"))


def _kinds(section: str | None, json: bool) -> None:
    names = sections() if section is None else (section_named(section),)
    if json:
        print_json({name: {kind: _kind(name, kind) for kind in kinds_of(name)} for name in names})
        return
    for name in names:
        console().print(kind_table(name, name if section is None else "kind"), "", sep="\n")
    if section is None:
        remark("antiphon list kinds SECTION lists the meaning and default of each option")
    else:
        console().print(kind_option_table(names[0]))


def _kind(section: str, kind: str) -> dict[str, Any]:
    keys = {key: meaning for key, (_, meaning) in own_keys_of(section, kind).items()}
    return {"summary": summary_of(section, kind), "keys": keys}
