"""The Channels tab's data, written to a run's event file, one log entry at a time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.metrics import Metric, PartMetrics, RunDescription, SampleRow
from antiphon.telemetry.tab.documents import graph_document
from antiphon.telemetry.tab.tags import (
    GRAPH,
    PARTS,
    PLUGIN,
    TIMELINE,
    Family,
    messages_tag,
    metric_tag,
)
from antiphon.telemetry.timeline_text import raster_lines

if TYPE_CHECKING:
    from antiphon.telemetry.event_file import EventFile

_MOST_ROWS = 200
"""Most agents, and most channels, that the timeline has rows for."""


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
            lines = raster_lines(description.timeline, most_agents=_MOST_ROWS, most_channels=_MOST_ROWS)
            self._document(description.start_step, TIMELINE, {"lines": lines})

    def metrics(self, step: int, rows: Iterable[Metric]) -> None:
        """Write the metrics of agents, channels, parts and all channels together at one step; others are left out."""
        arrays: dict[str, NDArray[np.float32]] = {}
        with np.errstate(over="ignore"):  # overflow of float32 becomes infinite
            for kind, name, metric, value in rows:
                places = self._places.get(kind, {})
                if name in places:
                    tag = metric_tag(cast(Family, kind), metric)
                    if tag not in arrays:
                        arrays[tag] = np.full(len(places), np.nan, dtype=np.float32)
                    arrays[tag][places[name]] = value
        self._events.arrays(step, arrays.items(), PLUGIN)

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
