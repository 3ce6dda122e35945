"""Verdicts on a run's channels over steps, from its logged metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.tab.series import RunData, Series, results_of
from antiphon.telemetry.tab.tags import VERDICTS
from antiphon.telemetry.verdicts import (
    MEANS,
    MEASURES,
    REMARKS,
    ChannelTraits,
    Measure,
    Verdict,
    bounds,
    counts,
    fullest_first,
    in_words,
    newest_mean,
    shut_so_far,
    verdict_flags,
)

INPUTS = (
    *(bound for measure in MEASURES for bound in bounds(measure)),
    "age",
    "message_energy",
    "message_std",
    "symbol_entropy",
    "gate",
    *dict.fromkeys(metric for remark in REMARKS for metric in (*remark.metrics, *MEANS)),
)
"""Metrics of channels from which verdicts follow."""


def verdict_series(read: Callable[[str], Series | None], graph: Mapping[str, Any]) -> Series | None:
    """Return the verdicts on channels (`verdict_flags`) at every step at which one of their metrics was logged.

    At each of these steps the newest value of every such metric counts; of `MEANS` the mean of the newest log entries.

    Args:
        read: Returns the log entries of a metric of channels; None if there are none.
        graph: The run's graph as plain data.

    Returns:
        None if no such metric was logged.
    """
    found = {metric: series for metric in INPUTS if (series := read(metric)) is not None}
    if not found:
        return None
    steps = np.unique(np.concatenate([series.steps for series in found.values()]))
    if (gate := found.pop("gate", None)) is not None:
        found["shut"] = Series(gate.steps, shut_so_far(gate.values).astype(np.float32))
    traits = ChannelTraits.of(graph)
    for metric in found.keys() & set(MEANS):
        logged = found[metric].steps
        means, halves = newest_mean(found[metric].values, traits, cosines=metric == "cosine")
        found[metric] = Series(logged, means)
        for end, half in zip(bounds(metric), (-halves, halves), strict=True):
            found[end] = Series(logged, (means + half).astype(np.float32))
    rows = {metric: _at(series, steps) for metric, series in found.items()}
    return Series(steps, verdict_flags(rows, traits).astype(np.float32))


def _at(series: Series, steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the newest values at each step, [steps, items]; nan before the first."""
    if np.array_equal(series.steps, steps):
        return series.values
    places = np.searchsorted(series.steps, steps, side="right") - 1
    return np.where(places[:, None] >= 0, series.values[np.maximum(places, 0)], np.float32(np.nan))


def with_verdicts(
    figures: Mapping[tuple[str, str], Series], graph: Mapping[str, Any]
) -> dict[tuple[str, str], Series]:
    """Return a run's metrics with the verdicts on its channels first, if the metrics allow any."""
    found = verdict_series(lambda metric: figures.get(("channel", metric)), graph)
    return {**({} if found is None else {VERDICTS: found}), **figures}


class OpeningVerdicts(NamedTuple):
    """Verdicts on a run's channels at the step that is shown first.

    Attributes:
        measure: The measure of worth of most channels (`fullest_first`); None: none was measured.
        step: The step: that of the measure's results, else the last.
        counts: How many channels have each verdict.
        line: The same in words.
    """

    measure: Measure | None
    step: int
    counts: Mapping[Verdict, int]
    line: str


def opening_verdicts(data: RunData) -> OpeningVerdicts | None:
    """Return the verdicts with which the Channels tab opens, and of which commands and reports speak; None: there are none."""
    series = data.figures.get(VERDICTS)
    if series is None:
        return None
    results = results_of(lambda metric: data.figures.get(("channel", metric)))
    measure = next(iter(fullest_first(results)), None)
    step = int(series.steps[-1]) if measure is None else results[measure].step
    (flags,) = _at(series, np.array([step]))
    found, total = counts(flags, measure), len(flags)
    left = 0 if measure is None else total - results[measure].channels
    line = f"{in_words(found)}{f', {left} without a result' if left else ''} of {total}"
    return OpeningVerdicts(measure, step, found, line)
