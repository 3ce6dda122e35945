"""The command `list`: the library, its studies, or the kinds of sections of scenario files."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.base.errors import ScenarioError
from antiphon.base.kinds import sections
from antiphon.base.nearest_names import suggest
from antiphon.base.table import Table
from antiphon.scenarios.study_spec import StudySpec
from antiphon.terminal.reference import kind_option_table, kind_table, library_tables


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
) -> None:
    """List the library, its studies, or the kinds of a section of scenario files."""
    if what is None:
        from antiphon.envs import ids  # loads gymnasium, which help does not need

        tables = [*library_tables(), Table(["environment"], [[name] for name in ids()])]
    elif what == "studies":
        rows = [
            [name, " ".join(spec.description.split())] for name, spec in StudySpec.whole_library().items()
        ]
        tables = [Table(["study", ""], rows)]
    elif what != "kinds":
        raise ScenarioError(f"list: {what!r}; write nothing, studies or kinds")
    elif section is None:
        tables = [kind_table(name, name) for name in sections()]
    elif section not in sections():
        raise ScenarioError(f"list kinds: no section {section!r} has kinds{suggest(section, sections())}")
    else:
        tables = [kind_table(section), kind_option_table(section)]
    for table in tables:
        print(table, end="\n\n")
