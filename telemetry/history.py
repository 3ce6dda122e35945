"""The history of a run: every metric so far as a table, in memory or read from metrics.csv."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import ScenarioError, suggest
from antiphon.telemetry.csv_files import read_metrics
from antiphon.telemetry.metrics import Kind, Metric, Recorder

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]


class HistoryRow(NamedTuple):
    """One metric (see `Metric`) at one step; the columns of metrics.csv."""

    step: int
    kind: Kind
    name: str
    metric: str
    value: float


class History(Recorder, Sequence[HistoryRow]):
    """Table of metrics in the order of writing: `pandas.DataFrame(history)` has a column for each attribute of a row.

    A value takes 24 bytes. If a run restarts at an earlier step, later values are dropped.

    Args:
        read: Returns the earlier steps and metrics; it is called when they are first needed.
    """

    def __init__(
        self,
        read: Callable[[], Iterable[tuple[int, Metric]]] = tuple,
    ) -> None:
        self._read: Callable[[], Iterable[tuple[int, Metric]]] | None = read
        self._steps = array("q")
        self._about = array("q")
        self._values = array("d")
        self._known: dict[tuple[Kind, str, str], int] = {}
        self._names: list[tuple[Kind, str, str]] = []

    @classmethod
    def read(cls, table: Path) -> History:
        """Read a metrics.csv.

        Raises:
            RunError: The file cannot be read.
        """
        history = cls(partial(read_metrics, table))
        history._load()
        return history

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        self._load()
        if self._steps and step < self._steps[-1]:
            self._forget(step)
        for row in rows:
            self._add(step, row)

    def of(self, name: str, metric: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return steps and values, [entries] each, of a metric of an agent, a channel or (empty name) the environment or run.

        Raises:
            ScenarioError: The run has logged metrics so far, and not this one.
        """
        if not self.has(name, metric) and self._names:
            logged, wanted = {f"{about[1]}.{about[2]}" for about in self._names}, f"{name}.{metric}"
            raise ScenarioError(f"history: no '{wanted}' is logged so far{suggest(wanted, logged)}")
        matching = [index for index, about in enumerate(self._names) if about[1:] == (name, metric)]
        chosen = np.isin(np.array(self._about, dtype=np.int64), matching)
        return np.array(self._steps, dtype=np.int64)[chosen], np.array(self._values)[chosen]

    def has(self, name: str, metric: str) -> bool:
        """Return whether a metric of an agent, a channel or (empty name) the environment or run has been logged."""
        self._load()
        return any(about[1:] == (name, metric) for about in self._names)

    def rows(self) -> list[dict[str, float]]:
        """Return the log entries: `step`, and its metrics by name (`AGENT.loss`, `A->B.cosine`, `seconds`)."""
        entries: dict[int, dict[str, float]] = {}
        for row in self:
            entry = entries.setdefault(row.step, {"step": row.step})
            entry[f"{row.name}.{row.metric}" if row.name else row.metric] = row.value
        return list(entries.values())

    def to_pandas(self) -> DataFrame:
        """Return the log entries as a pandas.DataFrame by step; it needs pandas."""
        import pandas

        return pandas.DataFrame(self.rows(), columns=None if len(self) else ["step"]).set_index("step")

    def between(self, after: int, until: int) -> History:
        """Return the history of the steps after `after`, up to `until`; it is read when it is first needed."""
        return History(lambda: ((row[0], Metric(*row[1:])) for row in self if after < row.step <= until))

    def __len__(self) -> int:
        self._load()
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> HistoryRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[HistoryRow]: ...
    def __getitem__(self, index: int | slice) -> HistoryRow | list[HistoryRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        self._load()
        return HistoryRow(self._steps[index], *self._names[self._about[index]], self._values[index])

    def __iter__(self) -> Iterator[HistoryRow]:
        self._load()
        for step, about, value in zip(self._steps, self._about, self._values, strict=True):
            yield HistoryRow(step, *self._names[about], value)

    def __repr__(self) -> str:
        steps = f", steps {self._steps[0]} to {self._steps[-1]}" if len(self) else ""
        return f"<History of {len(self):,} values{steps}; pandas.DataFrame(history) is a table>"

    def _load(self) -> None:
        read, self._read = self._read, None
        for step, row in read() if read is not None else ():
            self._add(step, row)

    def _add(self, step: int, row: Metric) -> None:
        about = row[:3]
        number = self._known.setdefault(about, len(self._names))
        if number == len(self._names):
            self._names.append(about)
        self._steps.append(step)
        self._about.append(number)
        self._values.append(row.value)

    def _forget(self, step: int) -> None:
        count = int(np.searchsorted(np.array(self._steps), step))
        del self._steps[count:], self._about[count:], self._values[count:]
