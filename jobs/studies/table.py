"""The table of a study: for a terminal, table.md, and unrounded as table.csv."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from antiphon.base.errors import with_count
from antiphon.base.files import write_csv, write_json, write_text
from antiphon.base.table import Table
from antiphon.base.tools import by_key
from antiphon.jobs.studies.plan import worded
from antiphon.jobs.studies.summary import DETACHED, LOCKED

Line = Mapping[str, Any]
_NUMBERS = {"mean": ("value", "sd", "low", "high"), "recovered": ("value", "low", "high")}
"""Columns of table.csv, by the key of a line that they are of."""


def tables(study: Mapping[str, Any]) -> list[Table]:
    """Return a table for each metric of a study's result: the first under the title, the last over its notes."""
    by_metric = by_key((line["metric"], line) for line in study["lines"])
    shown = [_table(study, lines) for lines in by_metric.values()]
    shown[0] = replace(shown[0], title=heading(study))
    shown[-1] = replace(shown[-1], notes=notes(study))
    return shown


def heading(study: Mapping[str, Any]) -> str:
    budget = "" if study["budget"] == "default" else f", budget {study['budget']}"
    steps = " – ".join(f"{count:,}" for count in dict.fromkeys([min(study["steps"]), max(study["steps"])]))
    return f"{study['study']}{budget}: {steps} steps, {with_count(study['seeds'], 'seed')}"


def notes(study: Mapping[str, Any]) -> list[str]:
    shown = "± standard deviation over seeds; interval: Student's t over seeds; seconds: mean per run."
    if any(line["recovered"] for line in study["lines"]):
        shown += (
            f" Recovered: (variant - {DETACHED}) / ({LOCKED} - {DETACHED}), paired over seeds; undefined (–) where {LOCKED} - "
            f"{DETACHED} is within three standard errors."
        )
    lines = [shown]
    for name, values in study["tuned"].items():
        listed = ", ".join(worded(value) for value in values)
        lines.append(f"{name}: of {listed}, for each line the one that was best on the validation split.")
    return [*lines, *(f"{name}: missing, {error}." for name, error in study["failed"].items())]


def write_tables(directory: Path, study: Mapping[str, Any]) -> None:
    """Write study.json, table.csv and table.md; RunError where they cannot be written."""
    write_json(directory / "study.json", study)
    write_csv(directory / "table.csv", csv_rows(study))
    markdown = [f"# {heading(study)}", *(table.markdown() for table in tables(study)), *notes(study)]
    write_text(directory / "table.md", "\n\n".join(markdown) + "\n")


def csv_rows(study: Mapping[str, Any]) -> Iterator[list[Any]]:
    tuned, names = list(study["tuned"]), []
    for kind, keys in _NUMBERS.items():
        names += [kind if key == "value" else key if kind == "mean" else f"{kind}_{key}" for key in keys]
    yield [*study["axes"], "variant", *tuned, "n", "diverged", "metric", *names, "seconds"]
    for line in study["lines"]:
        numbers = [(line[kind] or {}).get(key) for kind, keys in _NUMBERS.items() for key in keys]
        cells = [line["point"].get(axis) for axis in study["axes"]]
        cells += [line["variant"], *(line["tuned"].get(name) for name in tuned)]
        yield [*cells, line["n"], line["diverged"], line["metric"], *numbers, line["seconds"]]


def _table(study: Mapping[str, Any], lines: Sequence[Line]) -> Table:
    """Return the table of one metric; intervals and *recovered* are there only where a line has such a number."""
    share = any(line["share"] for line in lines)
    factor, digits = (100, 2) if share else (1, 4)

    def value_of(kind: str, name: str) -> Callable[[Line], str]:
        return lambda line: worded(line[kind][name]) if name in line[kind] else ""

    def variant(line: Line) -> str:
        diverged = f" ({line['diverged']} diverged)" if line["diverged"] else ""
        return f"{line['variant']}{diverged}"

    def mean(line: Line) -> str:
        if line["mean"] is None:
            return "–"
        sd = line["mean"]["sd"]
        spread = "" if sd is None else f" ± {factor * sd:.{digits}f}"
        return _number(factor * line["mean"]["value"], digits) + spread

    def recovered(line: Line) -> str:
        if line["recovered"] is None:
            return "–"
        return f"{_number(line['recovered']['value'], 2)} [{_range(line['recovered'], 1, 2)}]"

    names = {axis: value_of("point", axis) for axis in study["axes"]}
    names |= {"variant": variant, **{name: value_of("tuned", name) for name in study["tuned"]}}
    columns = {**names, f"{lines[0]['metric'].replace('_', ' ')}{' %' * share}": mean}
    if any(line["n"] > 1 for line in lines):
        columns["95 % interval"] = lambda line: _range(line["mean"], factor, digits)
    columns["n"] = lambda line: str(line["n"])
    if any(line["recovered"] for line in lines):
        columns["recovered [95 %]"] = recovered
    columns["seconds"] = lambda line: "–" if line["seconds"] is None else f"{line['seconds']:,.1f}"
    return Table(list(columns), [[cell(line) for cell in columns.values()] for line in lines], len(names))


def _number(value: float, digits: int) -> str:
    """Format a number with some digits after the point; a zero has no sign."""
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _range(estimate: Mapping[str, Any] | None, factor: float, digits: int) -> str:
    if estimate is None or estimate["low"] is None:
        return ""
    return " – ".join(_number(factor * estimate[end], digits) for end in ("low", "high"))
