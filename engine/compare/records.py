"""Where the records of two runs differ: settings, digests, figures. Loads without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

from antiphon.engine.runs.directory import RunDirectory
from antiphon.scenarios.spec import channel_name
from antiphon.telemetry.csv_files import Column, Digests, read_figures
from antiphon.telemetry.figures import WALL_CLOCK

__all__ = [
    "MISSING",
    "DigestComparison",
    "FigureComparison",
    "FigureDifference",
    "SettingDifference",
    "compare_digests",
    "compare_figures",
    "compare_settings",
]

_FACTS = ("seed", "device", "backend", "dtype", "threads", "together", "weights", "git", "versions")
"""What of run.json decides what a run computes, besides the scenario."""


class _Missing:
    """Stands for a key that a document does not have."""

    def __repr__(self) -> str:
        return "–"


MISSING = _Missing()


class SettingDifference(NamedTuple):
    """One setting in which two runs differ.

    Attributes:
        part: `scenario`, `run` (run.json), or the section of the scenario whose item it is: `agents`, `channels`.
        name: Of the agent or channel; else empty.
        key: The path below, dots between its keys; empty: the whole.
        a: The first run's value, plain data; `MISSING` where it has none.
        b: The second's.
    """

    part: str
    name: str
    key: str
    a: Any
    b: Any


@dataclass(frozen=True)
class DigestComparison:
    """Where the digests of two runs differ.

    Attributes:
        compared: The steps of which both have a row.
        last_equal: The last of them up to which nothing differs; None: there is none.
        first_different: The first at which something differs; None: there is none.
        different: Agents and channels that differ there, in canonical order.
        columns: How many agents and channels of the same name were compared.
        only_in: Agents and channels that only one run has: of the first, of the second.
    """

    compared: tuple[int, ...]
    last_equal: int | None
    first_different: int | None
    different: tuple[Column, ...]
    columns: int
    only_in: tuple[tuple[Column, ...], tuple[Column, ...]]


class FigureDifference(NamedTuple):
    """The first figure that differs; a value is None where one run has no such figure at the step."""

    step: int
    kind: str
    name: str
    metric: str
    a: float | None
    b: float | None


@dataclass(frozen=True)
class FigureComparison:
    """Where the figures of two runs differ.

    Attributes:
        compared: The steps of which both have rows, up to the first that differs.
        first_different: The first figure that differs.
    """

    compared: tuple[int, ...]
    first_different: FigureDifference | None


def compare_settings(first: RunDirectory, second: RunDirectory) -> list[SettingDifference]:
    """Return the settings in which two runs differ.

    Raises:
        RunError: A scenario.yaml cannot be read, or is no document.
    """
    documents = [_document(run) for run in (first, second)]
    found: list[SettingDifference] = []
    for key in _union(*documents):
        one, other = (document.get(key, MISSING) for document in documents)
        if key in ("agents", "channels") and isinstance(one, Mapping) and isinstance(other, Mapping):
            for name in _union(one, other):
                found += _settings(key, name, (), one.get(name, MISSING), other.get(name, MISSING))
        else:
            found += _settings("scenario", "", (key,), one, other)
    for key in _FACTS:
        one, other = (run.facts.get(key, MISSING) for run in (first, second))
        found += _settings("run", "", (key,), one, other)
    return found


def _document(run: RunDirectory) -> dict[str, Any]:
    document = run.values
    channels = document.get("channels")
    if isinstance(channels, list) and all(isinstance(entry, dict) for entry in channels):
        document["channels"] = {
            channel_name(str(entry.get("from")), str(entry.get("to")), entry.get("key", 0)): entry
            for entry in channels
        }
    return document


def _union(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))


def _settings(
    part: str, name: str, path: tuple[str, ...], first: Any, second: Any
) -> Iterator[SettingDifference]:
    """Yield everything below a path that differs; lists are values."""
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        for key in _union(first, second):
            yield from _settings(part, name, (*path, key), first.get(key, MISSING), second.get(key, MISSING))
    elif first != second or isinstance(first, bool) != isinstance(second, bool):
        yield SettingDifference(part, name, ".".join(path), first, second)


def compare_digests(first: Digests, second: Digests) -> DigestComparison:
    """Return where the digests of two runs differ; agents and channels are compared by name."""
    one, other = dict.fromkeys(first.columns), dict.fromkeys(second.columns)
    common = [column for column in one if column in other]
    only_in = tuple(c for c in one if c not in other), tuple(c for c in other if c not in one)
    compared = tuple(step for step in first.rows if step in second.rows)
    last_equal = None
    whole = first.columns == second.columns
    for step in compared:
        if not whole or first.rows[step].cells != second.rows[step].cells:
            a, b = first.of(step), second.of(step)
            different = tuple(column for column in common if a[column] != b[column])
            if different:
                return DigestComparison(compared, last_equal, step, different, len(common), only_in)
        last_equal = step
    return DigestComparison(compared, last_equal, None, (), len(common), only_in)


def compare_figures(first: Path, second: Path) -> FigureComparison | None:
    """Return where the figures in two tables (metrics.csv) differ, seconds left out; None: a run has no table.

    Raises:
        RunError: A table cannot be read, or is damaged.
    """
    if not (first.exists() and second.exists()):
        return None
    compared: list[int] = []
    for step, one, other in _common(_by_step(first), _by_step(second)):
        compared.append(step)
        for key in {**one, **other}:
            a, b = one.get(key), other.get(key)
            if repr(a) != repr(b):  # nan is equal to itself
                return FigureComparison(tuple(compared), FigureDifference(step, *key, a, b))
    return FigureComparison(tuple(compared), None)


Figures = dict[tuple[str, str, str], float]
"""By kind, name and metric."""


def _common(
    first: Iterator[tuple[int, Figures]], second: Iterator[tuple[int, Figures]]
) -> Iterator[tuple[int, Figures, Figures]]:
    """Yield the steps of which both tables have rows, with their figures."""
    one, other = next(first, None), next(second, None)
    while one is not None and other is not None:
        a, b = one[0], other[0]
        if a == b:
            yield a, one[1], other[1]
        one = next(first, None) if a <= b else one
        other = next(second, None) if b <= a else other


def _by_step(table: Path) -> Iterator[tuple[int, Figures]]:
    """Yield the figures of each step of a table, the wall clock left out."""
    for step, rows in groupby(read_figures(table), key=itemgetter(0)):
        yield (
            step,
            {row[:3]: row.value for _, row in rows if row.kind != "run" or row.metric not in WALL_CLOCK},
        )
