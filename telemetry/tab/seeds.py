"""Runs that differ in their seed alone, read as one: means over seeds with their 95 % intervals, and what each seed finds by itself."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from antiphon.base.by_key import by_key
from antiphon.telemetry.metrics import AS_RUN
from antiphon.telemetry.statistics import interval_ends, over_seeds
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.series import RunData, Series
from antiphon.telemetry.tab.tags import HEADLINE, LOST_SIGNALS, MEAN, SEEDS, Family
from antiphon.telemetry.tab.verdict_series import (
    DERIVED,
    derived_series,
    headline_metrics,
    headline_series,
    lost_signals,
    newest_medians,
)
from antiphon.telemetry.verdicts import (
    FLAGS,
    MEANS,
    MEASURES,
    OWN_GAIN,
    ChannelTraits,
    Measure,
    bounds,
    by_chance,
    in_words,
)

ALL_SEEDS = " · all seeds"
"""Ending of the name of runs that are read as one."""
_OF_AGENT = "agent/"
"""Beginning of the names of agents' metrics in the family `MEAN`."""
_POOLED: tuple[Family, ...] = ("agent", "channel", "run")
"""Families of which there are means: parts of a run depend on its timing."""
_ENDS = {
    end: (measure, sign)
    for measure in (*MEASURES, OWN_GAIN, "parameter_cosine")
    for end, sign in zip(bounds(measure), (-1, 1), strict=True)
}
"""The metrics of intervals' ends: of which metric they are, and on which side."""
_FEWEST = 2
"""Seeds of which a mean has an interval."""


class Likeness(NamedTuple):
    """What runs have in common that differ in their seed alone.

    Attributes:
        stem: The name without the seed (`stem_of`).
        digest: Of the graph without the seed, and without the settings that follow from it.
    """

    stem: str | None
    digest: str
    seed: Any

    @classmethod
    def of(cls, name: str, graph: Mapping[str, Any]) -> Likeness:
        seed = graph.get("seed")
        text = json.dumps({**graph, "seed": None, "settings": _common(graph)}, sort_keys=True)
        return cls(stem_of(name, seed), hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(), seed)


def stem_of(name: str, seed: Any) -> str | None:
    """Return a run's name without its seed: "small" of "small-s0" and of "small/seed0"; None: it does not name the seed."""
    pattern = rf"(^|[-_./ ])s(eed)?[-_]?{re.escape(str(seed))}(?![0-9])"
    return re.sub(pattern, "", name) if seed is not None and re.search(pattern, name) else None


def _common(graph: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings of a run that do not follow from its seed."""
    seed = str(graph.get("seed"))
    return {k: v for k, v in graph.get("settings", {}).items() if not (k.endswith("seed") and v == seed)}


def seed_groups(runs: Mapping[str, Likeness], scenario: Callable[[str], str]) -> dict[str, list[str]]:
    """Return the runs that differ in their seed alone, ascending, under a name for all; `scenario`: returns that of a run.

    Runs of one seed, as of other code, are not read as one.
    """
    alike = by_key(((of.stem, of.digest), name) for name, of in runs.items() if of.stem is not None)
    groups: dict[str, list[str]] = {}
    for (stem, _), names in alike.items():
        if len(names) > 1 and len({runs[name].seed for name in names}) == len(names):
            names.sort(key=lambda name: runs[name].seed)
            group_name = (stem or scenario(names[0])) + ALL_SEEDS
            groups[
                group_name if group_name not in groups and group_name not in runs else names[0] + ALL_SEEDS
            ] = names
    return groups


class Member(NamedTuple):
    """A run of one of the seeds.

    Attributes:
        metrics: Its metrics by family.
        read: Returns the log entries of one; None: there are none.
        undefined: By measure, why channels have no result (`RunData.undefined`).
    """

    name: str
    path: str
    graph: Mapping[str, Any]
    metrics: Iterable[tuple[str, str]]
    read: Callable[[str, str], Series | None]
    undefined: Mapping[str, Mapping[str, Any]]


class Spread(NamedTuple):
    """Numbers over seeds.

    Attributes:
        steps: [steps]: those at which any seed has a log entry.
        means: [steps, items].
        halves: Half of their intervals.
        counts: Of how many seeds they are.
    """

    steps: NDArray[np.int64]
    means: NDArray[np.float64]
    halves: NDArray[np.float64]
    counts: NDArray[np.int64]

    def packed(self) -> Series:
        """Return the layout of the family `MEAN`."""
        return Series(
            self.steps, np.concatenate([self.means, self.halves, self.counts], axis=1).astype(np.float32)
        )


class Seeds:
    """Runs that differ in their seed alone, read as one.

    A number is the mean over the seeds that have one at the step; its interval is Student's t over them, of what each seed has an interval of,
    as of the measures of worth, no narrower than these leave it (`over_seeds`): a verdict of worth is one over seeds. Of seeds that were
    measured over different links, the mean is over those of the commonest. Verdicts, remarks and hints follow from these means as from the metrics of a run.

    Args:
        members: At least two, with the same agents and channels.
        entry_limit: So many log entries of a metric are kept at most, others of each seed perhaps, so that its newest one counts at every step; 0: all.
    """

    def __init__(self, members: Sequence[Member], entry_limit: int = 0) -> None:
        self._members = members
        self._kept = entry_limit
        first = members[0].graph
        graph = {
            **first,
            "settings": _common(first),
            "seeds": {member.name: member.path for member in members},
        }
        for key in ("seed", "parts"):
            graph.pop(key, None)
        scored = [
            member.name
            for member in members
            if any(family == "agent" and metric.endswith(AS_RUN) for family, metric in member.metrics)
        ]
        if 0 < len(scored) < len(members):
            graph["scored_as_run"] = scored
        self.graph: Mapping[str, Any] = graph
        """The graph of the first, with the directories of all by name as `seeds`, and where only some are scored over their own links these as
        `scored_as_run`."""

    @property
    def metrics(self) -> list[tuple[str, str]]:
        """The metrics of any of the runs, with those that follow from them."""
        logged = dict.fromkeys(key for member in self._members for key in member.metrics if key[0] in _POOLED)
        of = {family: [metric for kind, metric in logged if kind == family] for family in _POOLED}
        derived = [key for key, inputs in DERIVED.items() if key[0] != MEAN and {*inputs} & {*of["channel"]}]
        means = [*of["channel"], *(_OF_AGENT + metric for metric in of["agent"])]
        measured = [measure for measure in MEASURES if {measure, *bounds(measure)} <= {*of["channel"]}]
        return [
            *derived,
            *((HEADLINE, metric) for metric in headline_metrics(logged)),
            *((MEAN, metric) for metric in means if metric not in _ENDS),
            *((SEEDS, measure) for measure in measured),
            *logged,
        ]

    def read(self, family: str, metric: str) -> Series | None:
        """Return the log entries of a metric; None: there are none."""
        if (family, metric) == LOST_SIGNALS:
            return lost_signals(*(self._medians(of) for of in ("cosine", "r2")))
        if (family, metric) in DERIVED and family != MEAN:
            return derived_series(partial(self.read, "channel"), self.graph, (family, metric), self._means)
        if family == MEAN:
            return self._means(metric)
        if family == SEEDS:
            return self._found(metric)
        if family == HEADLINE:
            spread = self._spread(lambda member: _scores(member, metric))
            return None if spread is None else spread.packed()
        middle, sign = _ENDS.get(metric, (metric, 0))
        spread = self._measured(middle) if family == "channel" else self._spread(_of(family, middle))
        if spread is None:
            return None
        values = spread.means
        if sign:
            info = EXPLANATIONS["channel"][middle]
            ends = interval_ends(spread.means, spread.halves, least=info.least, most=info.most)
            values = ends[sign > 0]
        return Series(spread.steps, values.astype(np.float32))

    @property
    def undefined(self) -> dict[str, dict[str, Any]]:
        """By measure, of how many seeds the numbers are, and why channels have no interval over seeds; the newest step first (`RunData.undefined`)."""
        by_measure: dict[str, dict[str, Any]] = {}
        for measure in MEASURES:
            if (spread := self._measured(measure)) is not None:
                told = [member.undefined.get(measure, {}) for member in self._members]
                entries = [
                    self._entry(measure, int(step), counts, told)
                    for step, counts in zip(spread.steps, spread.counts, strict=True)
                ]
                newest = max(told, key=lambda entry: entry.get("step", -1))
                by_measure[measure] = {**newest, **entries[-1], "earlier": entries[:-1]}
        return by_measure

    def _entry(
        self, measure: str, step: int, counts: NDArray[Any], told: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return what is said of a measurement of a measure at a step; `told`: of each seed, what is said of it by itself."""
        of_step = [_said_of(document, step) for document in told]
        links = self._links(measure).get(step, "")
        reasons, total = {}, len(self._members)
        logged = {member.name: member.read("channel", measure) for member in self._members}
        others = [
            f"{member.name} over {said['links']}"
            for member, said in zip(self._members, of_step, strict=True)
            if said.get("links", "") not in ("", links)
        ]
        elsewhere = [
            f"{name}: measured at step {series.steps[-1]:,}; means are of one step"
            for name, series in logged.items()
            if series is not None and step not in series.steps
        ] + [f"{other}: means are over {links}" for other in others]
        for channel, count in zip(self.graph["channels"], counts.tolist(), strict=True):
            if count < _FEWEST:
                name, pairs = channel["name"], zip(self._members, of_step, strict=True)
                reason = ((member.name, said.get("reasons", {}).get(name)) for member, said in pairs)
                why = next((f"; {seed}: {text}" for seed, text in reason if text), "")
                why = "".join(f"; {text}" for text in elsewhere[:1]) or why
                reasons[name] = f"{count} of {total} seeds {'has' if count == 1 else 'have'} one{why}"
        measured = sum(series is not None and step in series.steps for series in logged.values()) - len(
            others
        )
        seeds = f"{total} seeds" if measured == total else f"{measured} of {total} seeds"
        besides = f" ({', '.join(others)})" if others else ""
        return {
            "step": step,
            "reasons": reasons,
            "links": ", ".join(filter(None, [links, seeds])) + besides,
        }

    def _links(self, metric: str) -> dict[int, str]:
        """Return over which links most seeds were measured, by step, those of the first of as many; nothing of what names none."""
        measure = _ENDS.get(metric, (metric, 0))[0]
        told = [member.undefined.get(measure, {}) for member in self._members]
        steps = {
            entry["step"]
            for document in told
            for entry in (document, *document.get("earlier", ()))
            if "step" in entry
        }
        named = {
            step: [links for document in told if (links := _said_of(document, step).get("links"))]
            for step in steps
        }
        return {step: Counter(links).most_common(1)[0][0] for step, links in named.items() if links}

    def _of_links(self, metric: str) -> Callable[[Member], Series | None]:
        """Return a reader of a metric of channels that has no number where a seed was measured over other links than most (`_links`)."""
        measure, links = _ENDS.get(metric, (metric, 0))[0], self._links(metric)

        def read(member: Member) -> Series | None:
            series = member.read("channel", metric)
            if series is None or not links:
                return series
            said = [
                _said_of(member.undefined.get(measure, {}), int(step)).get("links", "")
                for step in series.steps
            ]
            alike = [
                name in ("", links.get(int(step), "")) for name, step in zip(said, series.steps, strict=True)
            ]
            return Series(series.steps, np.where(np.array(alike)[:, None], series.values, np.float32(np.nan)))

        return read

    def _measured(self, metric: str) -> Spread | None:
        """Return a metric of channels over seeds; of what each has an interval of, with those."""
        aligned = self._aligned(self._of_links(metric))
        if aligned is None:
            return None
        lower, upper = (self._aligned(self._of_links(end)) for end in bounds(metric))
        if lower is None or upper is None or not lower[1].shape == upper[1].shape == aligned[1].shape:
            return Spread(aligned[0], *over_seeds(aligned[1]))
        return Spread(aligned[0], *over_seeds(aligned[1], (upper[1] - lower[1]) / 2))

    def _means(self, metric: str) -> Series | None:
        """Return the means of a metric in the layout of the family `MEAN`; of `MEANS` over the newest entries of each seed first."""
        if metric.startswith(_OF_AGENT):
            spread = self._spread(_of("agent", metric.removeprefix(_OF_AGENT)))
        elif metric in MEANS:
            spread = self._of_entries(lambda member: _newest(member, metric), cosines=metric == "cosine")
        else:
            spread = self._measured(metric)
        return None if spread is None else spread.packed()

    def _medians(self, metric: str) -> Series | None:
        spread = self._of_entries(lambda member: _newest_medians(member, metric))
        return None if spread is None else spread.packed()

    def _of_entries(self, read: Callable[[Member], Series | None], *, cosines: bool = False) -> Spread | None:
        """Return what is read of each seed as means, half their intervals and counts over all, no better known than the seeds' own entries leave it;
        of a single entry `cosines` no better than chance does."""
        aligned = self._aligned(read)
        if aligned is None:
            return None
        means, halves, counts = np.split(aligned[1], 3, axis=2)
        if cosines:
            least = by_chance(counts, ChannelTraits.of(self.graph))
            halves = np.where(np.isnan(halves) & (least > 0), least, halves)
        return Spread(aligned[0], *over_seeds(means, halves))

    def _found(self, measure: str) -> Series | None:
        """Return how many seeds find which verdict of a measure, each by itself (`SEEDS`)."""
        lower, upper = (self._aligned(self._of_links(end)) for end in bounds(measure))
        if lower is None or upper is None:
            return None
        steps, low, high = *lower, upper[1]
        counts = [(low > 0).sum(0), (high < 0).sum(0), ((low <= 0) & (high >= 0)).sum(0)]
        return Series(steps, np.concatenate(counts, axis=1).astype(np.float32))

    def _spread(self, read: Callable[[Member], Series | None]) -> Spread | None:
        aligned = self._aligned(read)
        return None if aligned is None else Spread(aligned[0], *over_seeds(aligned[1]))

    def _aligned(
        self, read: Callable[[Member], Series | None]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
        """Return the steps at which any seed has a log entry, and the values of all, [seeds, steps, items]; nan where a seed has none."""
        logged = [series for member in self._members if (series := read(member)) is not None]
        if not logged:
            return None
        steps = np.unique(np.concatenate([series.steps for series in logged]))
        values = np.full((len(logged), len(steps), logged[0].values.shape[1]), np.nan)
        sampled = 0 < self._kept <= max(len(series.steps) for series in logged)
        for seed, series in enumerate(logged):
            if not len(series.steps):
                continue
            rows = np.searchsorted(series.steps, steps, side="right") - 1
            covered = (rows >= 0) & ((series.steps[rows] == steps) | sampled) & (steps <= series.steps[-1])
            values[seed, covered] = series.values[rows[covered]]
        return steps, values


def _said_of(document: Mapping[str, Any], step: int) -> Mapping[str, Any]:
    """Return what is said of a measurement at a step (`RunData.undefined`); nothing: none was made there."""
    entries = (document, *document.get("earlier", ()))
    return next((entry for entry in entries if entry.get("step") == step), {})


def _of(family: str, metric: str) -> Callable[[Member], Series | None]:
    return lambda member: member.read(family, metric)


def _newest(member: Member, metric: str) -> Series | None:
    """Return a seed's means of a metric over its newest log entries, half their intervals and counts, [entries, 3 * channels]."""
    return derived_series(partial(member.read, "channel"), member.graph, (MEAN, metric))


def _newest_medians(member: Member, metric: str) -> Series | None:
    """Return a seed's medians of a metric over channels, half their intervals and counts, [entries, 3]."""
    return newest_medians(partial(member.read, "channel"), member.graph, metric)


def _scores(member: Member, metric: str) -> Series | None:
    series = member.read("agent", metric)
    if series is None:
        return None
    scores = headline_series(series, member.graph)
    return Series(scores.steps, scores.values[:, :1])


def run_over_seeds(name: str, runs: Sequence[RunData]) -> RunData:
    """Return runs that differ in their seed alone as one, with the timeline of the first.

    Args:
        runs: At least two, with the same agents and channels.
    """
    seeds = Seeds(
        [Member(run.name, run.path, run.graph, run.metrics, run.read, run.undefined) for run in runs]
    )
    metrics = {key: series for key in seeds.metrics if (series := seeds.read(*key)) is not None}
    return RunData(name, seeds.graph, runs[0].timeline, metrics, path=runs[0].path, undefined=seeds.undefined)


def agreement(data: RunData, measure: Measure, step: float) -> list[str]:
    """Return what the seeds find of each channel by a measure at a step, each by itself: "2 harm, 1 unresolved"; empty: it is one run."""
    series = data.read(SEEDS, measure)
    rows = 0 if series is None else int(np.searchsorted(series.steps, step, side="right"))
    if series is None or not rows:
        return []
    return [
        in_words(
            {verdict: int(count) for verdict, count in zip(FLAGS[measure], counts, strict=True) if count}
        )
        for counts in series.values[rows - 1].reshape(3, -1).T
    ]
