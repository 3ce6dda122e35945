"""The recorder for TensorBoard: curves, distributions, the Channels tab, the graph as a picture, the scenario, and for
the Projector tab the newest messages of some channels, with their labels.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format  # type: ignore[import-untyped]
from tensorboard.plugins.projector.projector_config_pb2 import (  # type: ignore[import-untyped]
    ProjectorConfig,
)

from antiphon.errors import RunError
from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.event_file import EventFile, event_files
from antiphon.telemetry.figures import Figure, HistogramRow, Recorder, RunDescription, SampleRow
from antiphon.telemetry.layout import Curves
from antiphon.telemetry.names import writing
from antiphon.telemetry.pictures import graph_png
from antiphon.telemetry.raster import timeline_png

__all__ = ["write_projector"]

_log = logging.getLogger(__name__)

_RESULTS = ("accuracy", "error", "bits", "seconds")
_LONGEST_TEXT = 100_000
"""Most characters of the scenario's text; TensorBoard renders more slowly, and scenario.yaml has all."""

Picture = tuple[bytes, int, int]
"""A PNG file with its width and height."""
_newest: dict[str, tuple[str, Picture]] = {}
"""The newest picture by tag, with its content."""


class TensorBoardRecorder(Recorder):
    """Recorder of one run in one folder of TensorBoard events, without sub-runs.

    Tags are `agent/<name>/<metric>`, `channel/<slug>/<metric>`, `run/<metric>` and, at the end,
    `result/<key>`; the environment's are `env/<metric>`; distributions add `/histogram`. With more than `top` agents or
    channels only the first `top` (readouts and the channels into them before the others) have curves, and
    `agents/<metric>/mean|min|max`, `channels/…` sum up all. Figures that are not finite are skipped:
    TensorBoard has none; metrics.csv keeps them.

    The description (text, picture, hyperparameters) is written once per folder. A resumed run adds a file and
    has readers drop what the earlier ones hold after `start_step`.

    Args:
        logdir: The run's folder.
        start_step: Steps done before this session.
    """

    def __init__(self, logdir: str | Path, start_step: int = 0) -> None:
        self._logdir = Path(logdir)
        self._start_step = start_step
        self._last_step = start_step
        self._charted = 0
        self._curves: Curves | None = None
        self._events: EventFile | None = None
        self._channels: ChannelsWriter | None = None
        self._samples: Sequence[SampleRow] = ()

    def begin(self, description: RunDescription) -> None:
        """Open an event file and describe the run.

        Raises:
            RunError: If the folder cannot be written.
        """
        self._curves = Curves(description)
        described = bool(event_files(self._logdir))
        self._events = events = EventFile(self._logdir)
        events.forget_after(self._start_step)
        if not described:
            _describe(events, description)
        self._channels = ChannelsWriter(events, description)
        events.flush()

    def figures(self, step: int, rows: Sequence[Figure]) -> None:
        """Write the figures of one step.

        Raises:
            RunError: The folder cannot be written.
        """
        assert self._events is not None, "begin() comes before figures()"
        assert self._curves is not None
        self._last_step = step
        assert self._channels is not None
        self._events.scalars(step, self._curves.scalars(rows))
        self._channels.figures(step, rows)
        if self._curves.metric_count > self._charted:
            self._charted = self._curves.metric_count
            self._events.charts(step, self._curves.charts())
        self._events.flush()

    def histograms(self, step: int, rows: Sequence[HistogramRow]) -> None:
        """Write distributions of one step.

        Raises:
            RunError: The folder cannot be written.
        """
        assert self._events is not None, "begin() comes before histograms()"
        assert self._curves is not None
        named = ((self._curves.tag(kind, name, metric), values) for kind, name, metric, values in rows)
        self._events.histograms(
            step, [(f"{both[0]}/histogram", both[1], values) for both, values in named if both is not None]
        )
        self._events.flush()

    def samples(self, step: int, rows: Sequence[SampleRow]) -> None:
        """Write messages of one step, for the Channels tab.

        Raises:
            RunError: The folder cannot be written.
        """
        assert self._channels is not None, "begin() comes before samples()"
        self._channels.samples(step, rows)
        self._samples = rows

    def end(self, result: Mapping[str, Any]) -> None:
        """Write the result's metric and seconds for the HParams tab, and the newest messages for the Projector.

        Raises:
            RunError: The folder cannot be written.
        """
        assert self._events is not None, "begin() comes before end()"
        found = [(key, result[key]) for key in _RESULTS if isinstance(result.get(key), int | float)]
        self._events.scalars(
            self._last_step, [(f"result/{key}", f"result/{key}", value) for key, value in found]
        )
        self._events.hparams_done(self._last_step)
        write_projector(self._logdir, self._samples)
        self._events.flush()

    def close(self) -> None:
        """Close the event file."""
        if self._events is not None:
            self._events.close()
            self._events = None


def _describe(events: EventFile, description: RunDescription) -> None:
    step = description.start_step
    text = description.yaml
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "\n… (the rest is in scenario.yaml)"
    events.text(step, "scenario/yaml", text)
    events.hparams(step, description.hparams, [(f"result/{key}", key) for key in _RESULTS])
    graph, timeline = description.graph, description.timeline
    content = repr((list(graph.nodes(data=True)), list(graph.edges(keys=True, data=True))))
    try:
        events.picture(step, "graph/picture", *_cached("graph/picture", content, lambda: graph_png(graph)))
        if timeline is not None:
            times = json.dumps(timeline.plain())
            picture = _cached("time/raster", times, lambda: timeline_png(timeline))
            events.picture(step, "time/raster", *picture)
    except RunError as error:
        _log.info("TensorBoard shows no pictures: %s", error)


def _cached(tag: str, content: str, draw: Callable[[], Picture]) -> Picture:
    """Return a picture, cached by content: drawing takes as long as many steps, and seeds share it."""
    if tag not in _newest or _newest[tag][0] != content:
        _newest[tag] = content, draw()
    return _newest[tag][1]


_FOLDER = "projector"
_MOST = 8
"""Most channels: the tab lists all and loads one at a time."""


def write_projector(folder: Path, rows: Sequence[SampleRow]) -> None:
    """Write the messages of the first eight channels as tables of the Projector tab.

    Args:
        folder: The run's.
        rows: Messages of channels, [samples, size + 1]; the label is last. Those of one component are left out.

    Raises:
        RunError: The file cannot be written.
    """
    config = ProjectorConfig()
    shown = [(name, messages) for name, messages in rows if messages.shape[1] > 2 and len(messages) > 1]
    with writing(folder):
        for number, (name, messages) in enumerate(shown[:_MOST]):
            (folder / _FOLDER).mkdir(exist_ok=True)
            stem = f"{_FOLDER}/{number}"
            sound = messages[np.isfinite(messages[:, :-1]).all(1)]
            _write(folder / f"{stem}.tsv", ["\t".join(f"{x:.6g}" for x in row[:-1]) for row in sound])
            embedding = config.embeddings.add(tensor_name=name, tensor_path=f"{stem}.tsv")
            if np.isfinite(sound[:, -1]).any():
                _write(
                    folder / f"{stem}.labels.tsv", ["–" if math.isnan(x) else f"{x:g}" for x in sound[:, -1]]
                )
                embedding.metadata_path = f"{stem}.labels.tsv"
        if config.embeddings:
            text = text_format.MessageToString(config, as_utf8=True)
            (folder / "projector_config.pbtxt").write_text(text, encoding="utf-8")


def _write(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
