"""The command `check`; with `--parts`, what a division of the scenario's agents would cut."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text

from antiphon.base.errors import ScenarioError, write_error
from antiphon.checks import Findings, findings_of
from antiphon.commands import options
from antiphon.commands.arguments import division_of, values_of
from antiphon.terminal.output import console, percent, print_json, show_table, some, write_line

if TYPE_CHECKING:
    from antiphon.distributed.parts.placement import Division

_ROWS = 20
"""Most parts in a table."""


def check(
    name_or_file: options.Checked,
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
    if json:
        print_json(_as_dict(findings))
    else:
        _print(findings)
    return ScenarioError.exit_code if findings.problems else 0


def _as_dict(findings: Findings) -> dict[str, Any]:
    problems = [{"problem": line, "variants": where} for line, where in findings.problems.items()]
    warnings = [{"warning": line, "variants": where} for line, where in findings.warnings.items()]
    result = {"scenario": findings.name, "ok": not problems, "checked": findings.checked}
    result |= {"problems": problems, "warnings": warnings}
    if findings.division is not None:
        result["parts"] = {"placement": findings.placement, "division": asdict(findings.division)}
    return result


def _print(findings: Findings) -> None:
    for line, kind in findings.lines():
        if kind == "error":
            write_error(line)
        else:
            write_line(line, "yellow" if kind else "")
    if findings.division is not None:
        _show_division(findings.division)


def _show_division(division: Division) -> None:
    rows = [
        [str(part), some(agents), percent(share)]
        for part, (agents, share) in enumerate(zip(division.parts, division.shares, strict=True))
    ]
    show_table(["part", "agents", "share of work"], rows, right=1, most=_ROWS)
    if division.lookahead is None:
        console().print(Text("no channel is cut: the parts never wait for each other"))
        return
    narrow = [name for name, steps in division.cut.items() if steps == division.lookahead]
    steps = "1 step" if division.lookahead == 1 else f"{division.lookahead} steps"
    lines = [
        f"{len(division.cut):,} of {division.total:,} channels are cut: {division.bytes:,.0f} bytes a step",
        f"lookahead {steps} ({some(narrow)}): an exchange may take as long as {steps}",
        f"at most {division.speedup:.2f} times as fast as one part, without the time of exchanges",
    ]
    write_line("\n".join(lines) + "\n")
