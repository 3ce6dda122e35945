"""The recorder for TensorBoard: curves and the Channels tab.

TensorBoard slows down with thousands of tags. So a large graph has curves for some agents and channels, and the mean,
smallest and largest value over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from antiphon.telemetry.event_file import SUFFIX, EventFile
from antiphon.telemetry.metrics import (
    METRICS,
    Kind,
    Metric,
    PartMetrics,
    Recorder,
    RunDescription,
    SampleRow,
    tag_part,
)
from antiphon.telemetry.tab.channels_writer import ChannelsWriter, part_rows


class TensorBoardRecorder(Recorder):
    """Recorder of one run in one folder of TensorBoard events, without sub-runs.

    Tags are `agent/<name>/<metric>`, `channel/<slug>/<metric>`, `env/<metric>` and `run/<metric>`.
    With more than `max` agents or channels only the first `max` have curves
    (readouts and the channels into them come first), and `agents/<metric>/mean|min|max`, `channels/…` summarise all. The
    parts of a run in parts have `part/<number>/<metric>`, and with more than `max` parts `parts/…`. Values that are not
    finite are skipped, because TensorBoard cannot show them; metrics.csv keeps them.

    The timeline is written once per folder, the graph by every session. A resumed run adds a
    file; values of earlier files after `start_step` have been cut off.
    """

    def __init__(self, logdir: str | Path) -> None:
        self._logdir = Path(logdir)
        self._last_step = 0
        self._begun: tuple[EventFile, Curves, ChannelsWriter] | None = None

    def begin(self, description: RunDescription) -> None:
        self._last_step = description.start_step
        first = not any(self._logdir.glob(f"events.out.tfevents.*{SUFFIX}"))
        events = EventFile(self._logdir, start=description.start_step)
        channels = ChannelsWriter(events, description)
        channels.begin(description, with_timeline=first)
        self._begun = events, Curves(description), channels

    @property
    def _files(self) -> tuple[EventFile, Curves, ChannelsWriter]:
        assert self._begun is not None, "begin() comes first"
        return self._begun

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        events, curves, channels = self._files
        self._last_step = step
        events.scalars(step, curves.scalars(rows))
        channels.metrics(step, rows)

    def parts(self, step: int, rows: Sequence[PartMetrics]) -> None:
        events, curves, channels = self._files
        events.scalars(step, curves.scalars(part_rows(rows)))
        channels.parts(step, rows)

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        _, _, channels = self._files
        channels.samples(step, rows)

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the agents' scores for the Channels tab."""
        _, _, channels = self._files
        scores = [
            Metric("agent", name, f"test_{metric}", agent[metric])
            for name, agent in result.get("agents", {}).items()
            for metric in METRICS
            if agent.get(metric) is not None
        ]
        channels.metrics(self._last_step, scores)

    def sync(self) -> None:
        if self._begun is not None:
            self._begun[0].sync()

    def close(self) -> None:
        if self._begun is not None:
            self._begun[0].close()
            self._begun = None


class Curves:
    """The tags of one run: all agents and channels, or the first `max` of each and aggregates.

    Readouts and the channels into them come first, then the others, in canonical order.
    """

    def __init__(self, description: RunDescription) -> None:
        graph = description.graph
        readouts = {
            name for name, attributes in graph.nodes(data=True) if attributes.get("role") == "readout"
        }
        to_readout = {name for name, (_, receiver, _) in description.edges.items() if receiver in readouts}
        agents = sorted(description.names["agents"], key=lambda name: name not in readouts)
        channels = sorted(description.names["channels"], key=lambda pair: pair[0] not in to_readout)
        slugs, parts = dict(channels), range(description.parts)
        self._tags: dict[Kind, dict[str, str]] = {
            "agent": {name: tag_part(name) for name in agents[: description.max]},
            "channel": {name: tag_part(slugs[name]) for name, _ in channels[: description.max]},
            "part": {str(number): str(number) for number in parts[: description.max]},
        }
        counts = {"agent": len(agents), "channel": len(channels), "part": len(parts)}
        self._bounded = {kind for kind, count in counts.items() if count > description.max}

    def tag(self, kind: Kind, name: str, metric: str) -> str | None:
        """Return the tag of a curve, or None for a metric without a curve."""
        if kind not in self._tags:
            return f"{kind}/{tag_part(metric)}"
        name_part = self._tags[kind].get(name)
        return None if name_part is None else f"{kind}/{name_part}/{tag_part(metric)}"

    def scalars(self, rows: Iterable[Metric]) -> Iterator[tuple[str, float]]:
        """Yield (tag, value) for the metrics of one step: curves, then aggregates over the finite values."""
        grouped: dict[tuple[Kind, str], list[float]] = {}
        for row in rows:
            if row.kind == "part" and row.metric == "seconds":
                continue
            tag = self.tag(row.kind, row.name, row.metric)
            if tag is not None:
                yield tag, row.value
            if row.kind in self._bounded and math.isfinite(row.value):
                grouped.setdefault((row.kind, row.metric), []).append(row.value)
        for (kind, metric), values in grouped.items():
            aggregates = {"mean": math.fsum(values) / len(values), "min": min(values), "max": max(values)}
            for name, value in aggregates.items():
                yield f"{kind}s/{tag_part(metric)}/{name}", value
