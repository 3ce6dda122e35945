"""Arrays of a run for the Channels tab, and their packing for the browser."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import with_count
from antiphon.base.notebook import html_of, html_table, number
from antiphon.telemetry.metrics import AS_RUN, METRICS
from antiphon.telemetry.tab.explanations import GROUPS, verdicts_document
from antiphon.telemetry.tab.tags import HEADLINE, MEAN, SEEDS, VERDICTS, Family
from antiphon.telemetry.verdicts import (
    FLAGS,
    MEASURES,
    Measure,
    Results,
    bounds,
    newest_row,
    telling_row,
    worth,
)

_RETURN = "return"
Steps = NDArray[np.int64]
Values = NDArray[np.float32]

_AGENTS_RATE = "training.optimiser.lr"
"""The key of the learning rate of agents without an optimiser of their own."""
_FAST_RATE = 0.01
"""Mean first learning rate of agents from which it may be too high,"""
_GROWN = 1.5
"""if it made their parameters so many times as large, on average,"""
_LEARNED = 0.5
"""and the readouts' mean loss is at least this share of the first one."""
_FAR_GROWN, _LOWER = 4.0, 10.0
"""How many times lower the learning rate is that is advised then; the square of it where they have grown that far."""
_FEW_UPDATES = 30
"""Updates of every agent below which it is too early for verdicts on what is learned."""
_COMPONENTS = 1024
"""Components of a message up to which its covariance is computed; for larger ones, inner products of messages are."""


class Series(NamedTuple):
    """One metric of all agents, or of all channels, over steps.

    Attributes:
        steps: [rows], ascending.
        values: [rows, items]; nan where an item has no value.
    """

    steps: Steps
    values: Values

    def pack(self) -> bytes:
        """Pack for the browser, little endian: rows and items (uint32), steps (float64), values (float32)."""
        rows, items = self.values.shape
        return struct.pack("<II", rows, items) + self.steps.astype("<f8").tobytes() + _floats(self.values)

    def before(self, step: float) -> Series | None:
        """Return the rows before a step; None: there are none."""
        rows = int(np.searchsorted(self.steps, step))
        return Series(self.steps[:rows], self.values[:rows]) if rows else None


ReadMetric: TypeAlias = Callable[[str], Series | None]
"""Returns the log entries of a metric, of channels unless another family is named; None: there are none."""


def results_of(read: ReadMetric) -> dict[Measure, Results]:
    """Return the results of the measures of worth that have intervals, at the step that is shown first."""
    results = {}
    for measure in MEASURES:
        low, high = (read(bound) for bound in bounds(measure))
        if low is not None and high is not None:
            rows = [find(low.values, high.values) for find in (newest_row, telling_row)]
            (first, telling), counts = rows, []
            for row in rows:
                ends = zip(low.values[row], high.values[row], strict=True)
                verdicts = [worth(measure, *interval) for interval in ends]
                counts.append({verdict: verdicts.count(verdict) for verdict in FLAGS[measure]})
            steps = [int(step) for step in low.steps]
            results[measure] = Results(steps[first], counts[0], steps[-1], steps[telling], counts[1])
    return results


def with_measured(graph: Mapping[str, Any], read: Callable[[str, str], Series | None]) -> Mapping[str, Any]:
    """Return a run's graph, with what hints need of its log entries: `cost_of_losses`, `overshooting` agents, and whether it is `early`.

    Args:
        graph: The graph of the Channels tab.
        read: Returns the log entries of a family and metric, `HEADLINE` among the families; None: there are none.
    """
    graph = _with_cost(graph, lambda metric: read(HEADLINE, metric))
    updates, policies = read("agent", "updates"), read("agent", "policy_loss")
    if updates is not None and np.nanmax(_ends_of(updates)[1]) < _FEW_UPDATES:
        told = f"after {with_count(int(updates.steps[-1]), 'step')}: too early"
        graph = {**graph, "early": told}
    series = [read("agent", metric) for metric in ("learning_rate", "parameter_norm", "loss")]
    known = [_ends_of(one) for one in series if one is not None]
    # The loss of a policy says nothing of what it has learned.
    if len(known) < len(series) or policies is not None:
        return graph
    (rates, _), (small, large), losses = known
    grown = large[small > 0] / small[small > 0]
    (rate, growth), (before, now) = (_mean(rates), _mean(grown)), map(_mean, losses)
    if not (rate >= _FAST_RATE and growth >= _GROWN and now >= _LEARNED * before):
        return graph
    says = (
        f"the agents' learning rate, {rate:.3g}, is too high: it made their parameters {growth:.2g} times as large as at the first log entry, "
        f"and the readouts' loss has not halved since ({before:.3g}, now {now:.3g})"
    )
    typed = [channel.get("typed", {}) for channel in graph["channels"]]
    key = typed[0].get(_AGENTS_RATE, _AGENTS_RATE) if typed else _AGENTS_RATE
    return {
        **graph,
        "overshooting": (
            says,
            f"a lower {key} (such as {rate / _LOWER ** (1 + (growth >= _FAR_GROWN)):.1g})",
        ),
    }


def _mean(values: Values) -> float:
    """Return the mean of the finite numbers; nan: there are none."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else math.nan


def _ends_of(series: Series) -> tuple[Values, Values]:
    """Return the first and the newest number of each item, [items]; nan where it has none."""
    finite = np.isfinite(series.values)
    rows = finite.argmax(0), len(finite) - 1 - finite[::-1].argmax(0)
    first, newest = (np.take_along_axis(series.values, row[None], axis=0)[0] for row in rows)
    return first, newest


def _with_cost(graph: Mapping[str, Any], score: ReadMetric) -> Mapping[str, Any]:
    """Return a run's graph, with what its lost messages cost as `cost_of_losses` where it was scored over its own links too.

    Args:
        score: Returns a score of the run (`headline_series`); None: it has none.
    """
    if not any(channel.get("drop", 0) > 0 for channel in graph["channels"]):
        return graph
    for metric in (f"test_{metric}" for metric in METRICS):
        newest = [_newest(score(metric + ending)) for ending in (AS_RUN, "")]
        # Of other steps they would not be the same runs.
        if newest[0] is not None and newest[1] is not None and newest[0][1] == newest[1][1]:
            own, perfect = (_scored(metric, value) for value, *_ in filter(None, newest))
            told = f"{metric.replace('_', ' ')} over the run's links {own}"
            scored = graph.get("scored_as_run", ())
            some = f" ({', '.join(scored)} alone)" if scored else ""
            return {**graph, "cost_of_losses": f"{told}{some}, over perfect ones {perfect}"}
    return graph


def _newest(scores: Series | None) -> tuple[float, int, int] | None:
    """Return a run's newest score, its step, and of how many seeds it is; None: it has none."""
    if scores is None or not len(scores.steps):
        return None
    return float(scores.values[-1, 0]), int(scores.steps[-1]), int(scores.values[-1, 2])


def _scored(metric: str, score: float) -> str:
    if metric.endswith("accuracy"):
        return f"{100 * score:.3g} %"
    return f"{score:.3g}".replace("-", "−")


class Messages(NamedTuple):
    """Messages of one channel at some steps.

    Attributes:
        steps: [rows], ascending.
        samples: Per row, [samples, size + 1]; last is the label, nan without a label.
    """

    steps: Steps
    samples: Sequence[Values]


class Cloud(NamedTuple):
    """Messages of one channel as points in a plane.

    Attributes:
        steps: [rows].
        points: [rows, samples, 2]: along the two directions in which the messages of all rows vary most.
        labels: [rows, samples]; nan without a label.
        explained: [2]: the share of the variance along each direction.
    """

    steps: Steps
    points: Values
    labels: Values
    explained: Values

    def pack(self) -> bytes:
        """Pack for the browser, little endian.

        Rows and samples (uint32), shares explained (2 float32), steps (float64), points, labels (float32).
        """
        rows, samples = self.labels.shape
        head = struct.pack("<II", rows, samples) + _floats(self.explained)
        return head + self.steps.astype("<f8").tobytes() + _floats(self.points) + _floats(self.labels)


def cloud(messages: Messages) -> Cloud:
    """Return the messages as points along their first two principal components, computed over all rows together.

    One basis for all rows: points of different steps can be compared. Rows with fewer samples are filled with nan.

    Args:
        messages: Messages of one channel; messages with a component that is not finite become nan.
    """
    rows, longest = len(messages.steps), max((len(row) for row in messages.samples), default=0)
    points = np.full((rows, longest, 2), np.nan, dtype=np.float32)
    labels = np.full((rows, longest), np.nan, dtype=np.float32)
    for row, sample in enumerate(messages.samples):
        labels[row, : len(sample)] = sample[:, -1]
    everything = [np.asarray(sample[:, :-1], dtype=np.float64) for sample in messages.samples]
    finite = [np.flatnonzero(np.isfinite(vectors).all(1)) for vectors in everything]
    pooled = np.concatenate(
        [vectors[finite_rows] for vectors, finite_rows in zip(everything, finite, strict=True)]
    )
    explained = np.zeros(2, dtype=np.float32)
    if len(pooled):
        centre = pooled.mean(0)
        basis, shares = _principal(pooled - centre)
        basis = basis * np.where(basis[np.abs(basis).argmax(0), np.arange(basis.shape[1])] < 0, -1.0, 1.0)
        with np.errstate(over="ignore"):  # overflow of float32 becomes infinite
            for row, (vectors, finite_rows) in enumerate(zip(everything, finite, strict=True)):
                points[row, finite_rows, : basis.shape[1]] = (vectors[finite_rows] - centre) @ basis
        if basis.shape[1] == 1:  # a message of one component: a line
            points[..., 1] = np.where(np.isnan(points[..., 0]), np.nan, 0.0)
        explained[: basis.shape[1]] = shares.clip(0.0, 1.0)
    return Cloud(np.asarray(messages.steps, dtype=np.int64), points, labels, explained)


def _principal(deviations: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions in which some vectors vary most, [size, 2 or 1], and the share of the variance along each.

    Of vectors with more than `_COMPONENTS` components the directions are those of an even sample of as many vectors,
    by the matrix of their inner products: time and memory do not grow with the square of the size.

    Args:
        deviations: From their mean, [count, size].
    """
    count, size = deviations.shape
    if size <= _COMPONENTS:
        covariance = deviations.T @ deviations / count
        variances, directions = np.linalg.eigh(covariance)
        total = max(float(variances.sum()), 1e-30)
        return directions[:, ::-1][:, :2], variances[::-1][:2] / total
    sample = deviations[np.linspace(0, count - 1, min(count, _COMPONENTS)).astype(np.int64)]
    products, weights = np.linalg.eigh(sample @ sample.T)
    axes = sample.T @ weights[:, ::-1][:, :2]
    lengths = np.linalg.norm(axes, axis=0)
    total = max(float(products.sum()), 1e-30)
    return axes / np.maximum(lengths, 1e-30), products[::-1][:2] / total


def catalogue(
    metrics: Iterable[tuple[str, str]],
    results: Mapping[Measure, Results],
    undefined: Mapping[str, Mapping[str, Any]],
    messages: Iterable[int],
    graph: Mapping[str, Any],
    path: str,
    **facts: bool,
) -> dict[str, Any]:
    """Return the contents of a run: metrics by family, verdicts, channels with messages, and other data.

    `results`: see `results_of`; `undefined`: see `RunData`.
    """
    by_family: dict[str, list[str]] = {
        family: [] for family in (*get_args(Family), VERDICTS[0], MEAN, HEADLINE, SEEDS)
    }
    for family, metric in metrics:
        by_family[family].append(metric)
    verdicts = verdicts_document(by_family["channel"], results, undefined, graph, path)
    return {**by_family, "verdicts": verdicts, "groups": GROUPS, "messages": sorted(messages), **facts}


@dataclass(frozen=True, repr=False)
class RunData:
    """Data of one run in the Channels tab.

    Attributes:
        name: Name of the run.
        graph: The JSON under `antiphon/graph`.
        timeline: The JSON under `antiphon/timeline`; None: not written.
        metrics: Values by family and metric; the verdicts on channels, means of theirs and scores (`with_verdicts`) under `VERDICTS`, `MEAN`
            and `HEADLINE`.
        messages: Messages by number of the channel.
        parts: The JSON under `antiphon/parts`; None: not written.
        path: The run directory; empty: none.
        undefined: By measure, why channels have no result (`undefined_from`).
    """

    name: str
    graph: Mapping[str, Any]
    timeline: Mapping[str, Any] | None = None
    metrics: Mapping[tuple[str, str], Series] = field(default_factory=dict)
    messages: Mapping[int, Messages] = field(default_factory=dict)
    parts: Mapping[str, Any] | None = None
    path: str = ""
    undefined: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def known_graph(self) -> Mapping[str, Any]:
        """The graph with what its log entries say (`with_measured`)."""
        return with_measured(self.graph, self.read)

    @cached_property
    def results(self) -> dict[Measure, Results]:
        return results_of(partial(self.read, "channel"))

    def read(self, family: str, metric: str) -> Series | None:
        """Return the log entries of a metric; None: there are none."""
        return self.metrics.get((family, metric))

    def __repr__(self) -> str:
        return f"<RunData of {self.name}: {len(self.metrics)} metrics, messages of {len(self.messages)} channels>"

    def _repr_html_(self) -> str:
        rows = [
            [
                family,
                metric,
                f"{len(series.steps):,}",
                f"{series.steps[-1]:,}",
                number(_newest_mean(series), metric),
            ]
            for (family, metric), series in sorted(self.metrics.items())
            if family in get_args(Family)
        ]
        heads = ("of", "metric", "log entries", "newest step", "mean")
        return html_of(repr(self), html_table(heads, rows, names=2))

    def catalogue(self) -> dict[str, Any]:
        """Return the contents: metrics by family, channels with messages, whether there is a timeline."""
        available = {"timeline": self.timeline is not None, "parts": self.parts is not None}
        return catalogue(
            self.metrics,
            self.results,
            self.undefined,
            self.messages,
            self.known_graph,
            self.path,
            **available,
            sampled=False,
        )

    def embedded(self) -> dict[str, Any]:
        """Return plain data for a page without a server: JSON, and packed arrays, compressed (zlib) and as base64."""
        return {
            "run": self.name,
            "graph": self.graph,
            "timeline": self.timeline,
            "parts": self.parts,
            "catalog": self.catalogue(),
            "metrics": {
                f"{family}/{metric}": _text(series.pack())
                for (family, metric), series in self.metrics.items()
            },
            "clouds": {
                str(channel): _text(_coarse(cloud(messages)).pack())
                for channel, messages in self.messages.items()
            },
        }


def _newest_mean(series: Series) -> float | None:
    """Return the mean of the newest values; None: there are none."""
    newest = series.values[-1]
    finite = newest[np.isfinite(newest)]
    return float(finite.mean()) if len(finite) else None


def _coarse(cloud: Cloud) -> Cloud:
    """Return points of ten binary digits each, which suffice for a plot and are compressed to less than half."""
    digits = cloud.points.astype("<f4").view("<u4") & np.uint32(0xFFFFE000)
    return cloud._replace(points=digits.view("<f4"))


def _floats(values: Values) -> bytes:
    return values.astype("<f4").tobytes()


def _text(packed: bytes) -> str:
    return base64.b64encode(zlib.compress(packed)).decode("ascii")
