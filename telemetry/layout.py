"""Selection of TensorBoard's curves, and their layout in charts.

TensorBoard slows down with thousands of tags, so a large graph gets curves for some agents and channels and,
over all of them, mean, smallest and largest value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from antiphon.telemetry.figures import Figure, Kind, RunDescription
from antiphon.telemetry.names import tag_part

Family = Literal["agent", "channel"]
_OF_LEVELS = ("loss", "accuracy", "error", "bits")
"""Metrics averaged over the agents of one period: an objective's loss and metric."""


class Chart(NamedTuple):
    """One chart of the Custom Scalars tab.

    Attributes:
        title: Heading.
        tags: A regular expression for the tags it draws; for a band, the tag of its middle line.
        band: The tags of the band's lower and upper edge; None for plain lines.
    """

    title: str
    tags: str
    band: tuple[str, str] | None = None


class Curves:
    """The tags of one run: all agents and channels, or the first `top` of each and aggregates.

    First come the readouts and the channels that end at one, then the others, in canonical order. Where agents have
    several periods, those of one are a level, and loss and metric have a mean per level.

    Args:
        description: The run.
    """

    def __init__(self, description: RunDescription) -> None:
        graph = description.graph
        readouts = {
            name for name, attributes in graph.nodes(data=True) if attributes.get("role") == "readout"
        }
        named = {_channel_name(*edge): edge for edge in graph.edges(keys=True)}
        to_readout = {name for name, (_, receiver, _) in named.items() if receiver in readouts}
        agents = sorted(description.names["agents"], key=lambda name: name not in readouts)
        channels = sorted(description.names["channels"], key=lambda pair: pair[0] not in to_readout)
        slugs = dict(channels)
        self._parts: dict[Family, dict[str, str]] = {
            "agent": {name: tag_part(name) for name in agents[: description.top]},
            "channel": {name: tag_part(slugs[name]) for name, _ in channels[: description.top]},
        }
        self._bounded = {
            "agent": len(agents) > description.top,
            "channel": len(channels) > description.top,
        }
        states = [name for name, edge in named.items() if graph.edges[edge].get("carries") == "state"]
        self._states = frozenset(
            self._parts["channel"][name] for name in states if name in self._parts["channel"]
        )
        periods = {name: int(attributes.get("period", 1)) for name, attributes in graph.nodes(data=True)}
        self._levels = periods if len(set(periods.values())) > 1 else {}
        self._metrics: dict[Family, dict[str, None]] = {"agent": {}, "channel": {}}

    def tag(self, kind: Kind, name: str, metric: str) -> tuple[str, str] | None:
        """Return (tag, pretty name) of a curve, or None for a figure without one."""
        if kind == "env" or kind == "run":
            return f"{kind}/{tag_part(metric)}", f"{kind}/{metric}"
        part = self._parts[kind].get(name)
        return None if part is None else (f"{kind}/{part}/{tag_part(metric)}", f"{kind}/{name}/{metric}")

    def scalars(self, rows: Iterable[Figure]) -> Iterator[tuple[str, str, float]]:
        """Yield (tag, pretty name, value) for the figures of one step: curves, then aggregates, then levels.

        Aggregates and levels are over the finite values among the figures.
        """
        grouped: dict[tuple[Family, str], list[float]] = {}
        by_level: dict[tuple[int, str], list[float]] = {}
        for row in rows:
            named = self.tag(row.kind, row.name, row.metric)
            if named is not None:
                yield *named, row.value
            if row.kind == "env" or row.kind == "run":
                continue
            self._metrics[row.kind].setdefault(row.metric)
            if not math.isfinite(row.value):
                continue
            if self._bounded[row.kind]:
                grouped.setdefault((row.kind, row.metric), []).append(row.value)
            if row.kind == "agent" and row.metric in _OF_LEVELS and row.name in self._levels:
                by_level.setdefault((self._levels[row.name], row.metric), []).append(row.value)
        for (family, metric), values in grouped.items():
            of_all = f"{family}s/{tag_part(metric)}"
            shown = f"{family}s/{metric}"
            yield f"{of_all}/mean", f"{shown}/mean", math.fsum(values) / len(values)
            yield f"{of_all}/min", f"{shown}/min", min(values)
            yield f"{of_all}/max", f"{shown}/max", max(values)
        for (period, metric), values in by_level.items():
            mean = math.fsum(values) / len(values)
            yield f"level/every_{period}/{metric}", f"level/every {period}/{metric}", mean

    @property
    def metric_count(self) -> int:
        """Number of metrics so far; the charts change whenever it grows."""
        return sum(map(len, self._metrics.values()))

    def charts(self) -> dict[str, list[Chart]]:
        """Return the charts by category: for each metric so far, all levels, channels, states and agents side by side."""
        categories: dict[str, list[Chart]] = {}
        if self._levels:
            of_levels = [metric for metric in _OF_LEVELS if metric in self._metrics["agent"]]
            if of_levels:
                categories["Levels"] = [Chart(metric, rf"^level/[^/]+/{metric}$") for metric in of_levels]
        families: tuple[Family, ...] = ("channel", "agent")
        for family in families:
            metrics = [(metric, tag_part(metric)) for metric in self._metrics[family]]
            title = f"{family.capitalize()}s"
            if self._bounded[family] and metrics:
                categories[f"{title}: mean, smallest and largest"] = [
                    Chart(
                        metric, f"{family}s/{part}/mean", (f"{family}s/{part}/min", f"{family}s/{part}/max")
                    )
                    for metric, part in metrics
                ]
            for name, curves in self._kinds(family, title).items():
                if metrics:
                    categories[name] = [
                        Chart(metric, rf"^{family}/{curves}/{re.escape(part)}$") for metric, part in metrics
                    ]
        return categories

    def _kinds(self, family: Family, title: str) -> dict[str, str]:
        """Return the categories of a family, each with the pattern of those in it: states have one of their own."""
        if family == "agent" or not self._states:
            return {title: "[^/]+"}
        states = "|".join(map(re.escape, sorted(self._states)))
        return {title: f"(?!(?:{states})/)[^/]+", "States": f"(?:{states})"}


def _channel_name(sender: str, receiver: str, key: int | str) -> str:
    return f"{sender}->{receiver}" + (f":{key}" if key != 0 else "")
