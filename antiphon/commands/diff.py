"""The command `diff`: settings, the first log entry and the first tensor in which two runs differ."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.base.files import display_path, finite
from antiphon.commands import options
from antiphon.running.directory import RunDirectory
from antiphon.terminal.output import print_json, show_table, some, write_line

if TYPE_CHECKING:
    from antiphon.running.compare_runs import Comparison

_ROWS = 20
"""Most settings in a table; --json has all."""
_WIDEST = 48
"""Characters of a value in that table."""
_SAVED = {"learners": "agent", "predictors": "synthetic gradient of", "inputs": "synthetic input of"}
"""Sections of a saved state, as the output names them."""


def diff(
    first: options.Run,
    second: Annotated[Path, typer.Argument(metavar="RUN", help="A second run directory.")],
    json: options.Json = False,
) -> int:
    """Print the differences of two runs; return the exit code: 0 where all that both recorded is equal, else 1."""
    from antiphon.running.compare_runs import compare_runs

    runs = {"A": RunDirectory.open(first), "B": RunDirectory.open(second)}
    comparison = compare_runs(*runs.values())
    if json:
        paths = [display_path(run.path) for run in runs.values()]
        print_json(finite({"same": comparison.same, "runs": paths} | asdict(comparison)))
        return 0 if comparison.same else 1
    for label, run in runs.items():
        facts = run.facts
        about = f"{facts.get('scenario')} · seed {facts['seed']} · {facts['step']:,} steps"
        write_line(f"{label}  {display_path(run.path)}  {about}")
    write_line("")
    _show_settings(comparison)
    write_line(f"metrics.csv: {_metrics(comparison)}")
    write_line(f"checkpoints: {_checkpoints(comparison)}")
    verdict = (
        "Everything that both runs recorded is bit-identical." if comparison.same else "The runs differ."
    )
    write_line("Nothing can be compared." if comparison.same is None else verdict, "bold")
    return 0 if comparison.same else 1


def _metrics(comparison: Comparison) -> str:
    difference = comparison.metric
    if difference is None:
        return _equal_at(comparison.steps)
    subject = f"{difference.kind} '{difference.name}'" if difference.name else difference.kind
    values = f"{difference.a!r} and {difference.b!r}"
    return f"the first difference is at step {difference.step:,}: {subject}, {difference.metric}: {values}"


def _checkpoints(comparison: Comparison) -> str:
    difference = comparison.tensor
    if difference is None:
        return _equal_at(comparison.checkpoints)
    section, *names, tensor = difference.path
    where = " ".join([_SAVED.get(section, section), *(f"'{name}'," for name in names[:1]), *names[1:]])
    size = (
        "different shape or dtype"
        if difference.largest is None
        else f"largest difference {difference.largest:.2g}"
    )
    return f"the first difference is at step {difference.step:,}: {where} '{tensor}' ({size})"


def _equal_at(steps: Sequence[int]) -> str:
    if len(steps) > 3:
        return f"equal at {len(steps):,} steps ({steps[0]:,} to {steps[-1]:,})"
    return f"equal at step {', '.join(f'{step:,}' for step in steps)}" if steps else "nothing in common"


def _show_settings(comparison: Comparison) -> None:
    """Print the settings that differ; agents, or channels, that differ alike share a row."""
    if comparison.not_recorded:
        where = some(comparison.not_recorded)
        write_line(f"not compared: the code of Python objects, which runs do not record: {where}", "yellow")
    if not comparison.settings:
        from antiphon.running.compare_runs import FACTS

        write_line(f"settings: equal (scenario, changes during the run; of run.json {', '.join(FACTS)})")
        return
    names: dict[tuple[str, str, str, str], list[str]] = {}
    for setting in comparison.settings:
        section, name, key = _place(setting.path)
        a, b = (_written(setting.values, run) for run in "ab")
        names.setdefault((section, key, a, b), []).append(name)
    rows = [[f"{section}{some(which)}{key}", a, b] for (section, key, a, b), which in names.items()]
    show_table(["setting", "A", "B"], rows, most=_ROWS)


def _place(path: Sequence[str]) -> tuple[str, str, str]:
    """Return how a setting is named, in three parts; those that differ in the second part only share a row."""
    if path[0] in ("agents", "channels") and len(path) > 1:
        return f"{path[0].removesuffix('s')} ", path[1], f": {'.'.join(path[2:])}" if path[2:] else ""
    if path[0] == "changes":
        return "set ", path[1], ""
    return "", "", f"{'.'.join(path[1:])} (run.json)" if path[0] == "run" else ".".join(path)


def _written(values: Mapping[str, Any], run: str) -> str:
    if run not in values:
        return "–"
    value = values[run]
    text = value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
