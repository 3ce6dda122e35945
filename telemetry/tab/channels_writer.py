"""The Channels tab's data, written to a run's event file, one log entry at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.metrics import Metric, PartMetrics, RunDescription, SampleRow
from antiphon.telemetry.tab.documents import graph_document, timeline_document
from antiphon.telemetry.tab.tags import (
    GRAPH,
    PARTS,
    PLUGIN,
    TIMELINE,
    Family,
    messages_tag,
    metric_tag,
)

if TYPE_CHECKING:
    from antiphon.telemetry.event_file import EventFile

Values = NDArray[np.float32]


class ChannelsWriter:
    """Writer of a run's graph, and of one array per metric and log entry, with the values of all agents or channels.

    A log entry takes 4 bytes per agent or channel and metric, and about 80 per metric; a channel's messages
    4 * samples * (size + 1).

    Raises:
        RunError: The file cannot be written, here or later.
    """

    def __init__(self, events: EventFile, description: RunDescription) -> None:
        self._events = events
        self._machines = [""] * description.parts
        names = {
            "agent": description.agents,
            "channel": description.channels,
            "part": map(str, range(description.parts)),
        }
        self._places = {
            kind: {name: index for index, name in enumerate(of_kind)} for kind, of_kind in names.items()
        }

    def begin(self, description: RunDescription, *, with_timeline: bool = True) -> None:
        """Write the graph, and once per folder the timeline, at the session's first step."""
        self._document(description.start_step, GRAPH, graph_document(description))
        if with_timeline and description.timeline is not None:
            self._document(description.start_step, TIMELINE, timeline_document(description.timeline))

    def metrics(self, step: int, rows: Iterable[Metric]) -> None:
        """Write the metrics of agents, channels, parts and all channels together at one step; others are left out."""
        arrays = _by_metric(rows, self._places)
        named = [(metric_tag(family, metric), array) for (family, metric), array in arrays.items()]
        self._events.arrays(step, named, PLUGIN)

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        indices = self._places["channel"]
        tagged = [
            (messages_tag(indices[name]), np.asarray(array, dtype=np.float32))
            for name, array in rows
            if name in indices
        ]
        self._events.arrays(step, tagged, PLUGIN)

    def parts(self, step: int, rows: Sequence[PartMetrics]) -> None:
        """Write the metrics of the parts of a run at one step, and their machines if these have changed."""
        if not self._machines:
            return
        now = {row.part: row.machine for row in rows}
        machines = [now.get(part, machine) for part, machine in enumerate(self._machines)]
        if machines != self._machines:
            self._machines = machines
            self._document(step, PARTS, {"machines": machines})
        self.metrics(step, part_rows(rows))

    def _document(self, step: int, tag: str, content: Any) -> None:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        self._events.arrays(step, [(tag, text)], PLUGIN)


def part_rows(parts: Iterable[PartMetrics]) -> Iterator[Metric]:
    """Yield the metrics of parts by name (`PartMetrics.metrics`)."""
    for part in parts:
        for metric, value in part.metrics.items():
            yield Metric("part", str(part.part), metric, value)


def _by_metric(
    rows: Iterable[Sequence[Any]], indices: Mapping[str, Mapping[str, int]]
) -> dict[tuple[Family, str], Values]:
    """Return the metrics (kind, name, metric, value) of one step as an array for each metric, nan where there is none."""
    arrays: dict[tuple[Any, str], Values] = {}
    with np.errstate(over="ignore"):  # overflow of float32 becomes infinite
        for kind, name, metric, value in rows:
            index_by_name = indices.get(kind)
            index = None if index_by_name is None else index_by_name.get(name)
            if index is None or index_by_name is None:
                continue
            array = arrays.get((kind, metric))
            if array is None:
                arrays[kind, metric] = array = np.full(len(index_by_name), np.nan, dtype=np.float32)
            array[index] = value
    return arrays
