"""The command `check`."""

from __future__ import annotations

from typing import Annotated

import typer

from antiphon.base.errors import write_error
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.terminal.output import show


def check(
    name_or_file: Annotated[
        str, typer.Argument(metavar="SCENARIO|STUDY|POPULATION", help="Name, file, or MODULE:FUNCTION.")
    ],
    variant: options.Variant = None,
    settings: options.Settings = None,
    json: options.Json = False,
) -> int:
    """Check a scenario without running it: list the errors of its variants, or warnings if there are none."""
    from antiphon import checks  # loads gymnasium, which help does not need

    findings = checks.check(name_or_file, variant=variant, values=values_of(settings or ()))
    if json or findings.ok:
        return show(findings, json)
    write_error(str(findings))
    return findings.exit_code
