"""Runs in the report, with their figures from metrics.csv, and groups of runs that differ in their seed alone."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from antiphon.errors import RunError
from antiphon.files import open_text
from antiphon.telemetry.channels.series import RunData
from antiphon.telemetry.csv_files import HEADER
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.report.html import METRICS

__all__ = [
    "ALIGNMENT",
    "MEASURED",
    "Curve",
    "Group",
    "Picture",
    "ReportRun",
    "Table",
    "grouped",
    "read_table",
]


ALIGNMENT = ("sg_loss", "cosine", "norm_ratio", "r2")
"""Figures of channels that are plotted as means over channels."""
MEASURED = ("value", "value_low", "value_high", "ablation", "parameter_cosine")
"""Figures of channels whose newest number is kept."""
_SCORES = (*METRICS, "loss")
_DIGITS = 15
"""Of a step, at most."""
_UNASKED = re.compile(
    rf"[0-9]+,channel,[^\",\n]*,(?!(?:{'|'.join((*ALIGNMENT, *MEASURED))}),)[a-z0-9_]+,[-+.0-9a-z]+\n"
)
"""Pattern of unquoted lines of unused channel figures: most of a long table."""
_QUOTED = 80
"""Characters of a row that an error quotes."""


Curve: TypeAlias = dict[int, float]
"""Values of one figure by step."""


@dataclass
class Table:
    """The report's data from a run's metrics.csv.

    Attributes:
        agents: By agent and metric of its objective.
        env: By metric.
        channels: By metric: the mean over the channels that have it.
        measured: By channel and metric: the newest number, and its step.
        damage: Error in the table; empty: none.
    """

    agents: dict[tuple[str, str], Curve] = field(default_factory=dict)
    env: dict[str, Curve] = field(default_factory=dict)
    channels: dict[str, Curve] = field(default_factory=dict)
    measured: dict[str, dict[str, tuple[int, float]]] = field(default_factory=dict)
    damage: str = ""


def read_table(path: Path) -> Table:
    """Read a metrics.csv up to its end, or up to where it is damaged; an unfinished last line is ignored."""
    found = Table()
    sums: dict[str, dict[int, tuple[float, int]]] = {metric: {} for metric in ALIGNMENT}
    try:
        for step, kind, name, metric, value in _rows(path):
            if kind == "agent" and metric in _SCORES:
                found.agents.setdefault((name, metric), {})[step] = value
            elif kind == "env":
                found.env.setdefault(metric, {})[step] = value
            elif kind == "channel" and metric in sums and math.isfinite(value):
                total, count = sums[metric].get(step, (0.0, 0))
                sums[metric][step] = total + value, count + 1
            elif kind == "channel" and metric in MEASURED:
                found.measured.setdefault(name, {})[metric] = step, value
    except RunError as error:
        found.damage = str(error) if path.exists() else f"{path.name} is not there"
    except (OSError, csv.Error, ValueError) as error:
        found.damage = f"{path.name} is damaged, what follows is left out: {error}"
    for metric, points in sums.items():
        if points:
            found.channels[metric] = {step: total / count for step, (total, count) in points.items()}
    return found


def _rows(path: Path) -> Iterator[tuple[int, str, str, str, float]]:
    """Yield the rows; ValueError on an invalid one, except a torn last one."""
    with open_text(path) as file:
        lines = _Lines(file)
        table = csv.reader(lines)
        header = next(table, None)
        if header is not None and tuple(header) != HEADER:
            raise ValueError(f"line 1 is not {','.join(HEADER)}")
        for row in table:
            try:
                step, kind, name, metric, value = row
                if len(step) > _DIGITS:
                    raise ValueError
                yield int(step), kind, name, metric, float(value)
            except ValueError:
                what = f"line {lines.number}: {','.join(row)[:_QUOTED]!r} is no row of {','.join(HEADER)}"
                raise ValueError(what) from None


class _Lines:
    """Iterator over complete lines (the last may be torn), without those of unused figures.

    Attributes:
        number: Of the newest line, from 1.
    """

    def __init__(self, file: Iterable[str]) -> None:
        self._file = file
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        """Yield the lines."""
        skip = _UNASKED.fullmatch
        for line in self._file:
            self.number += 1
            if line.endswith("\n") and not skip(line):
                yield line


@dataclass(frozen=True)
class Picture:
    """A picture of `evaluate --represent`: name and content of its file, and the media type."""

    name: str
    kind: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """Contents of a run directory, as plain data; its names and texts are untrusted.

    Attributes:
        name: In the report; unique.
        path: Of the directory.
        facts: Of run.json.
        result: Of result.json; empty where there is none.
        text: scenario.yaml.
        document: The scenario as plain data; empty where it cannot be read.
        not_recorded: Places of the scenario with Python objects, whose code is not recorded.
        measured: Of measured.json; empty where there is none.
        table: Of metrics.csv.
        data: Of the Channels tab; None: there is none.
        parts: Of a run in parts, the newest rows of parts.csv.
        pictures: Of representations.
        digests: SHA-256 by file.
        notes: Read errors.
    """

    name: str
    path: str
    facts: Mapping[str, Any]
    result: Mapping[str, Any] = field(default_factory=dict)
    text: str = ""
    document: Mapping[str, Any] = field(default_factory=dict)
    not_recorded: Sequence[str] = ()
    measured: Mapping[str, Any] = field(default_factory=dict)
    table: Table = field(default_factory=Table)
    data: RunData | None = None
    parts: Sequence[PartFigures] = ()
    pictures: Sequence[Picture] = ()
    digests: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def scenario(self) -> str:
        """Name of its scenario."""
        return str(self.facts.get("scenario") or "no name")

    @property
    def variant(self) -> str:
        """Of the scenario; `default` where none was named."""
        variant = self.facts.get("variant")
        return "default" if variant is None else str(variant)

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return self.facts.get("exit") == "done"

    @cached_property
    def readouts(self) -> tuple[str, ...]:
        """The readouts, as far as the run names them."""
        readout = self.result.get("readout")
        if isinstance(readout, str):
            return (readout,)
        if isinstance(readout, list):
            return tuple(str(name) for name in readout)
        if self.data is not None:
            found = [agent["name"] for agent in self.data.graph["agents"] if agent.get("role") == "readout"]
            if found:
                return tuple(found)
        return tuple(dict.fromkeys(name for name, metric in self.table.agents if metric in METRICS))

    @cached_property
    def scores(self) -> dict[str, float]:
        """Figures on the test split, by metric, and the environment's metrics; as far as there are any."""
        own = {metric: self.result.get(metric) for metric in (*METRICS, "loss")}
        env = self.result.get("env")
        found = {**own, **(env if isinstance(env, Mapping) else {})}
        return {metric: float(value) for metric, value in found.items() if _is_number(value)}


@dataclass(frozen=True)
class Group:
    """Runs (at least one) that differ in their seed alone, with a name distinct from those of other groups."""

    name: str
    runs: Sequence[ReportRun]

    @property
    def scenario(self) -> str:
        """Name of their scenario."""
        return self.runs[0].scenario


def grouped(runs: Sequence[ReportRun]) -> list[Group]:
    """Group runs that differ in their seed alone, in the order of the first of each.

    A seed counts once: a second run of one begins another group.
    """
    found: dict[tuple[str, int], list[ReportRun]] = {}
    repeats: dict[str, int] = {}
    for run in runs:
        key = _key(run)
        seeded = f"{key}{run.facts.get('seed')}"
        repeats[seeded] = repeats.get(seeded, -1) + 1
        found.setdefault((key, repeats[seeded]), []).append(run)
    firsts = [members[0] for members in found.values()]
    names = _names(firsts)
    kept = {name for name in names if names.count(name) == 1}
    chosen = []
    for place, (name, members) in enumerate(zip(names, found.values(), strict=True)):
        own = members[0].name  # it says more than a number
        if name in kept:
            chosen.append(name)
        elif len(members) == 1 and own not in kept:
            chosen.append(own)
        else:
            chosen.append(f"{name} ({names[: place + 1].count(name)})")
    return [Group(name, members) for name, members in zip(chosen, found.values(), strict=True)]


def _key(run: ReportRun) -> str:
    """Return the key of a run's group: its values, or the scenario itself where there are none."""
    values = run.facts.get("values")
    what: Any = _values(run) if isinstance(values, Mapping) and values else run.text
    return json.dumps([run.scenario, run.variant, what], sort_keys=True, default=str)


def _values(run: ReportRun) -> dict[str, Any]:
    """Return the values of a run, with the latest `steps`, but for those that repeat its seed (`seed_as` in a study)."""
    values, seed = run.facts.get("values"), run.facts.get("seed")
    if not isinstance(values, Mapping):
        return {}
    own = {str(name): v for name, v in values.items() if not (str(name).endswith("seed") and v == seed)}
    return own | {"steps": run.facts.get("steps")}


def _names(firsts: Sequence[ReportRun]) -> list[str]:
    """Return a distinct name for each group: scenario and variant, and where those are equal, the values."""
    brief = [_name(run, firsts, valued=False) for run in firsts]
    whole = [_name(run, firsts, valued=True) for run in firsts]
    return whole if len(set(whole)) > len(set(brief)) else brief


def _name(run: ReportRun, firsts: Sequence[ReportRun], *, valued: bool) -> str:
    """Return the scenario, variant and (if wanted) values of a group, as far as others differ in them."""
    others = [one for one in firsts if one.scenario == run.scenario]
    words = [run.scenario] if len(others) < len(firsts) or len(others) == 1 else []
    if len({one.variant for one in others}) > 1:
        words.append(run.variant)
    for name, value in _values(run).items() if valued else ():
        if any(_values(one).get(name) != value for one in others):
            words.append(f"{name}={_worded(value)}")
    return " · ".join(words) or run.scenario


def _worded(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
