"""Verdicts on a run's channels over steps, from its logged metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.causes import INPUTS as CAUSE_INPUTS
from antiphon.telemetry.causes import Peers, cause_flags
from antiphon.telemetry.metrics import AS_RUN, METRICS
from antiphon.telemetry.tab.series import ReadMetric, RunData, Series, Values
from antiphon.telemetry.tab.tags import HEADLINE, LOST_SIGNALS, MEAN, REASONS, VERDICTS
from antiphon.telemetry.verdicts import (
    ALIGNMENT_GRADES,
    CONCLUSION_INPUTS,
    FEW_ENTRIES,
    FOLLOWS,
    MEANS,
    MEASURES,
    OWN_GAIN,
    REMARKS,
    ChannelTraits,
    Measure,
    Verdict,
    bounds,
    conclusion_flags,
    counts,
    fullest_first,
    in_words,
    median,
    newest_mean,
    remark_flags,
    shut_so_far,
    verdict_flags,
)

_VERDICT_INPUTS = (
    *(bound for measure in (*MEASURES, OWN_GAIN) for bound in bounds(measure)),
    *("age", "message_energy", "message_std", "symbol_entropy", "gate", "si_loss"),
    *("injection_norm", "returned_norm"),
    *("cosine", "norm_ratio", "r2", OWN_GAIN, "loss_zero"),
    *(bound for signal in ALIGNMENT_GRADES for bound in bounds(signal.metric)),
)
_REASON_INPUTS = tuple(
    dict.fromkeys(
        [*CAUSE_INPUTS, *CONCLUSION_INPUTS, *(metric for remark in REMARKS for metric in remark.metrics)]
    )
)
DERIVED: dict[tuple[str, str], tuple[str, ...]] = {
    VERDICTS: _VERDICT_INPUTS,
    REASONS: _REASON_INPUTS,
    LOST_SIGNALS: ("cosine",),
} | {(MEAN, metric): (metric,) for metric in MEANS}
"""The metrics of channels from which verdicts, remarks, conclusions and causes, lost signals, and means follow."""


def derived_series(
    read: ReadMetric,
    graph: Mapping[str, Any],
    key: tuple[str, str] = VERDICTS,
    means: ReadMetric | None = None,
) -> Series | None:
    """Return flags of channels, or their means, at every step at which one of their metrics was logged.

    At each of these steps the newest value of every such metric counts; of `MEANS` the mean of the newest log entries.

    Args:
        graph: The run's graph as plain data.
        key: Which: `VERDICTS` (`verdict_flags`), `REASONS` (`remark_flags`, `conclusion_flags` and `cause_flags`), `LOST_SIGNALS`
            (`lost_signals`), or `MEAN` with a metric (`newest_mean`).
        means: Returns the means of a metric of `MEANS`, as the family `MEAN` has them; None: they are taken over the newest log entries.

    Returns:
        None if no such metric was logged.
    """
    logged = {metric: series for metric in DERIVED[key] if (series := read(metric)) is not None}
    if not logged:
        return None
    if key == LOST_SIGNALS:
        return lost_signals(*(newest_medians(read, graph, metric) for metric in ("cosine", "r2")))
    steps = np.unique(np.concatenate([series.steps for series in logged.values()]))
    traits = ChannelTraits.of(graph)

    def of_entries(metric: str) -> Series:
        entries, values = logged[metric].steps, logged[metric].values
        begun = _begun(logged[metric])
        parts = newest_mean(begun, traits, cosines=metric == "cosine")
        for part, first in zip(
            parts, newest_mean(values[:1], traits, cosines=metric == "cosine"), strict=True
        ):
            part[:1] = first
        return Series(entries, np.concatenate(parts, axis=1).astype(np.float32))

    means = means or of_entries
    if key[0] == MEAN:
        return means(key[1])
    for metric, (name, since) in _OVER_TIME.items():
        if (series := logged.pop(metric, None)) is not None:
            logged[name] = Series(series.steps, since(series.values).astype(np.float32))
    if key == VERDICTS and (losses := logged.get("si_loss")) is not None:
        logged["si_loss"] = Series(losses.steps, _of_several(losses.values, traits))
    for metric in logged.keys() & set(MEANS):
        if (series := means(metric)) is None:
            continue
        middle, half, _ = np.split(series.values, 3, axis=1)
        logged[metric] = Series(series.steps, middle)
        for end, by in zip(bounds(metric), (-half, half), strict=True):
            logged[end] = Series(series.steps, (middle + by).astype(np.float32))
    rows = {metric: _at(series, steps) for metric, series in logged.items()}
    if key == VERDICTS:
        flags = verdict_flags(rows, traits)
    else:
        flags = remark_flags(rows, len(graph["channels"])) | cause_flags(rows, Peers.of(graph))
        if all(metric in rows for metric in CONCLUSION_INPUTS):
            flags |= conclusion_flags(
                *(rows[metric] for metric in CONCLUSION_INPUTS), cosine=rows.get(bounds("cosine")[0])
            )
    return Series(steps, flags.astype(np.float32))


def _of_several(values: Values, traits: ChannelTraits) -> Values:
    """Return the means over the newest log entries, nan where these are few: a model that has just begun is no poor one."""
    means, _, count = newest_mean(values, traits, cosines=False)
    return np.where(count >= FEW_ENTRIES, means, np.float32(np.nan))


def newest_medians(read: ReadMetric, graph: Mapping[str, Any], metric: str) -> Series | None:
    """Return the median over the channels that learn returned gradients of a metric's means over the newest log entries (`newest_mean`), half the
    interval of the entries' medians, and the number of entries, [entries, 3]; None: there are no entries.

    Entries count in which all these channels have a number that ever have one: where clocks differ, others are of the fast ones alone. Without such an entry all is nan.
    """
    series = read(metric)
    learning = [
        channel for channel, of in enumerate(graph["channels"]) if "target" not in of.get("predictor", ())
    ]
    if series is None:
        return None
    values = _begun(series)[:, learning]
    logged = np.isfinite(values)
    whole = (logged | ~logged.any(0)).all(1) & logged.any(1)
    if not whole.any():  # what is derived of a logged metric is always there: the tab waits for it
        return Series(series.steps, np.full((len(values), 3), np.float32(np.nan)))
    traits = ChannelTraits.of(graph)
    means, *_ = newest_mean(values[whole], traits, cosines=False)
    _, *parts = newest_mean(median(values[whole]), traits, cosines=False)
    columns = [part[:, :1] for part in (median(means), *parts)]
    return Series(series.steps[whole], np.concatenate(columns, axis=1))


def lost_signals(cosines: Series | None, fits: Series | None) -> Series | None:
    """Return the medians of a run's learning signals, and whether these do not follow the returned gradients, or may not.

    They do not where the median cosine and its interval are below `FOLLOWS`; it is not resolved where the interval has 0 and `FOLLOWS`: by intervals of single channels, a
    few of many seem to follow by chance. Nothing is said once they have followed, resolved from 0: as a loss nears its least, what returns is
    mostly noise, and hardly anything follows it.

    Args:
        cosines: Median cosines, half of their intervals, and of how many they are, [entries, 3].
        fits: The same of R²; None: there is none.

    Returns:
        [entries, 7]: the cosine and the ends of its interval, then R², then 0 where they do not follow, 1 where it is not resolved, else nan; None without cosines.
    """
    if cosines is None:
        return None
    ends = []
    for series, least in ((cosines, -1.0), (fits, -np.inf)):
        rows = np.full((len(cosines.steps), 3), np.nan) if series is None else _at(series, cosines.steps)
        middle, half = rows[:, :1], rows[:, 1:2]
        ends.append(np.hstack([middle, np.maximum(middle - half, least), np.minimum(middle + half, 1.0)]))
    middle, low, high = ends[0].T
    followed = np.logical_or.accumulate((middle >= FOLLOWS) & (low > 0))
    holds = (middle < FOLLOWS) & ((low <= 0) | (high < FOLLOWS)) & ~followed
    numbers = np.hstack([*ends, np.where(holds, high >= FOLLOWS, np.nan)[:, None]])
    return Series(cosines.steps, numbers.astype(np.float32))


def _begun(series: Series) -> Values:
    """Return log entries without those of predictors that begin at zero and have not learned yet: these count at the first step alone."""
    return np.where((series.steps[:, None] <= 1) & (series.values == 0), np.float32(np.nan), series.values)


def _of_first(rates: Values) -> Values:
    """Return learning rates as shares of the first, [entries, channels]."""
    finite = np.isfinite(rates)
    first = np.take_along_axis(rates, finite.argmax(0)[None], axis=0)
    shares: Values = (rates / np.where(first > 0, first, np.nan)).astype(np.float32)
    return shares


_OVER_TIME: dict[str, tuple[str, Callable[[Values], Any]]] = {
    "gate": ("shut", shut_so_far),
    "sg_learning_rate": ("sg_learning_rate", _of_first),
}
"""Metrics of which all log entries so far count: under which name, and how."""


def _at(series: Series, steps: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the newest values at each step, [steps, items]; nan before the first."""
    if np.array_equal(series.steps, steps):
        return series.values
    rows = np.searchsorted(series.steps, steps, side="right") - 1
    return np.where(rows[:, None] >= 0, series.values[np.maximum(rows, 0)], np.float32(np.nan))


def with_verdicts(
    metrics: Mapping[tuple[str, str], Series], graph: Mapping[str, Any]
) -> dict[tuple[str, str], Series]:
    """Return a run's metrics with the verdicts on its channels and their reasons first, if the metrics allow any, and its scores."""
    derived = {
        key: derived_series(lambda metric: metrics.get(("channel", metric)), graph, key) for key in DERIVED
    }
    derived |= {
        (HEADLINE, metric): headline_series(metrics["agent", metric], graph)
        for metric in headline_metrics(metrics)
    }
    return {**{key: series for key, series in derived.items() if series is not None}, **metrics}


def headline_metrics(metrics: Iterable[tuple[str, str]]) -> list[str]:
    """Return the metrics of agents that say how well a run does, first choice first: of evaluations before those of training; last the same
    over the run's own links."""
    logged = {metric for family, metric in metrics if family == "agent"}
    first_choices = (
        next((split + metric for metric in METRICS if split + metric in logged), None)
        for split in ("test_", "validation_", "")
    )
    chosen = [metric for metric in first_choices if metric is not None]
    return [*chosen, *(metric + AS_RUN for metric in chosen if metric + AS_RUN in logged)]


def headline_series(series: Series, graph: Mapping[str, Any]) -> Series:
    """Return a score of a run: the mean of a metric over its readouts, or over all agents where none is a readout."""
    readouts = [index for index, agent in enumerate(graph["agents"]) if agent.get("role") == "readout"]
    values = series.values[:, readouts or slice(None)].astype(np.float64)
    finite = np.isfinite(values)
    scored = finite.any(1)
    means = np.where(finite, values, 0.0).sum(1)[scored] / finite.sum(1)[scored]
    scores = np.column_stack([means, np.full(len(means), np.nan), np.ones(len(means))])
    return Series(series.steps[scored], scores.astype(np.float32))


class OpeningVerdicts(NamedTuple):
    """Verdicts on a run's channels at the step that is shown first.

    Attributes:
        measure: The measure of worth of most channels (`fullest_first`); None: none was measured.
        step: The step: that of the measure's results, else the last.
        counts: How many channels have each verdict.
    """

    measure: Measure | None
    step: int
    counts: Mapping[Verdict, int]
    line: str


def opening_verdicts(data: RunData) -> OpeningVerdicts | None:
    """Return the verdicts with which the Channels tab opens, and of which commands and reports speak; None: there are none."""
    series = data.metrics.get(VERDICTS)
    if series is None:
        return None
    results = data.results
    measure = next(iter(fullest_first(results)), None)
    step = int(series.steps[-1]) if measure is None else results[measure].step
    (flags,) = _at(series, np.array([step]))
    verdict_counts, total = counts(flags, measure), len(flags)
    without_result = 0 if measure is None else total - results[measure].channels
    # Where the value was measured, those without one alone are better or worse.
    bracketed = ("worse", "better") if measure == "value" else ()
    among: dict[Verdict, int] = {name: count for name, count in verdict_counts.items() if name in bracketed}
    besides = (
        f", {without_result} without a result" + (f" ({in_words(among)})" if among else "")
        if without_result
        else ""
    )
    line = f"{in_words({name: count for name, count in verdict_counts.items() if name not in among})}{besides} of {total}"
    return OpeningVerdicts(measure, step, verdict_counts, line)
