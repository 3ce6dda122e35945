"""The newest metrics of what does not happen at every step: updates at the ends of windows, gradients that return, messages.

A log entry has the metrics of its own step, and what happened before it within two of the longest windows: updates, returns and
messages are no further apart. An event further back is in no entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from antiphon.telemetry.metrics import HistogramRow, Kind, Metric, end_of

if TYPE_CHECKING:
    from antiphon.engine.heart.system import System
    from antiphon.engine.metrics.log_steps import LogSteps

Owner = tuple[str, str]
"""Whose metric it is: `agent` or `channel`, and the name."""


class NewestMetrics:
    """The newest metrics since the previous log entry of what happens at some steps only."""

    def __init__(self, system: System, whole: System | None = None) -> None:
        """Begin with a system; `whole`: that of which it is a part, whose entries it has."""
        self._span = 2 * max((group.grid.max_steps() for group in (whole or system).groups), default=1) - 1
        """Steps from one event to the next, at most."""
        owners = [
            *(("agent", name) for name in system.agents),
            *(("channel", name) for name in system.channels),
        ]
        self._order: dict[Owner, int] = {owner: index for index, owner in enumerate(owners)}
        self._newest: dict[Owner, dict[str, Metric]] = {}
        """The newest metrics since the previous entry."""
        self._before: dict[Owner, dict[str, Metric]] = {}
        """The newest metrics of earlier entries."""
        self._histograms: dict[tuple[str, str], HistogramRow] = {}

    def keeps(self, step: int, log_steps: LogSteps) -> bool:
        """Return whether metrics are kept of what happens at a step, which has no log entry."""
        return log_steps.period > 0 and 0 < log_steps.following(step) - step < self._span

    def add(self, metrics: Iterable[Metric], histograms: Iterable[HistogramRow] = ()) -> None:
        """Keep metrics and histograms of a step, in place of older ones."""
        for row in metrics:
            self._newest.setdefault((row.kind, row.name), {})[row.metric] = row
        self._histograms |= {(name, metric): row for row in histograms for _, name, metric, *_ in (row,)}

    def completed(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of an entry with those that its step does not have."""
        entry = self._completed(metrics, self._newest)
        self.add(metrics)
        return entry

    def _completed(
        self, metrics: Sequence[Metric], missed: Mapping[Owner, Mapping[str, Metric]]
    ) -> list[Metric]:
        if not missed:
            return list(metrics)
        by_owner: dict[Owner, list[Metric]] = {}
        for row in metrics:
            by_owner.setdefault((row.kind, row.name), []).append(row)
        for owner, newest in missed.items():
            logged = {row.metric for row in by_owner.get(owner, ())}
            missing = [row for metric, row in newest.items() if metric not in logged]
            if missing:
                by_owner[owner] = [*by_owner.get(owner, ()), *missing]
                by_owner[owner].sort(key=lambda row: end_of(row.metric) == "receiver")
        ordered = sorted(by_owner, key=lambda owner: self._order.get(owner, len(self._order)))
        return [row for owner in ordered for row in by_owner[owner]]

    def completed_histograms(self, rows: Sequence[HistogramRow]) -> list[HistogramRow]:
        rows_of = self._histograms | {(name, metric): row for row in rows for _, name, metric, *_ in (row,)}
        return sorted(rows_of.values(), key=lambda row: self._order[row[0], row[1]])

    def latest(self, metrics: Sequence[Metric]) -> list[Metric]:
        """Return the metrics of a step with the newest of those that it does not have, also from before the previous entry."""
        return self._completed(metrics, _merged(self._before, self._newest))

    def end_row(self) -> None:
        """Begin anew: an entry has been written."""
        self._before = _merged(self._before, self._newest)
        self._newest, self._histograms = {}, {}

    def state_dict(self) -> dict[str, Any]:
        """Return what has been kept since the previous entry: metrics by kind and name. Histograms are left out."""
        state: dict[str, Any] = {}
        for (kind, name), newest in self._newest.items():
            state.setdefault(kind, {})[name] = {metric: row.value for metric, row in newest.items()}
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; what it has of others than the system's agents and channels is left out."""
        self._histograms = {}
        kinds: tuple[Kind, ...] = ("agent", "channel")
        self._newest = {
            (kind, name): {metric: Metric(kind, name, metric, value) for metric, value in values.items()}
            for kind in kinds
            for name, values in state.get(kind, {}).items()
            if (kind, name) in self._order
        }


def _merged(
    older: Mapping[Owner, dict[str, Metric]], newer: Mapping[Owner, dict[str, Metric]]
) -> dict[Owner, dict[str, Metric]]:
    """Return the newer of each metric: an owner keeps the older ones of which there is no newer one."""
    return {**older, **{owner: {**older.get(owner, {}), **metrics} for owner, metrics in newer.items()}}
