"""The command `check`; with `--parts`, what a division of the scenario's agents would cut."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from antiphon.base.errors import write_error
from antiphon.checks import findings_of
from antiphon.commands import options
from antiphon.commands.arguments import division_of, values_of
from antiphon.terminal.output import show


def check(
    name_or_file: Annotated[
        str, typer.Argument(metavar="SCENARIO|STUDY|POPULATION", help="Name, file, or MODULE:FUNCTION.")
    ],
    variant: options.Variant = None,
    settings: options.Settings = None,
    parts: options.Parts = None,
    json: options.Json = False,
) -> int:
    """Check a scenario, a study or a population, print its problems and warnings, and return the exit code.

    Without a variant all are checked; a division into parts, of the default one.
    """
    divide = partial(division_of, parts) if parts else None
    findings = findings_of(name_or_file, variant, values_of(settings or ()), divide)
    if json or findings.ok:
        return show(findings, json)
    write_error(str(findings))
    return findings.exit_code
