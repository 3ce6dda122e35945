"""Reader of the Channels tab's data from event files."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.util import tensor_util  # type: ignore[import-untyped]

from antiphon.base.errors import RunError
from antiphon.base.files import reading
from antiphon.telemetry.tab.series import Messages, RunData, Series
from antiphon.telemetry.tab.tags import FORMAT, GRAPH, PARTS, PLUGIN, TIMELINE, parsed

Row = tuple[int, NDArray[Any]]
"""A step, and the value written at this step."""

_FILE_NAME = re.compile(r"events\.out\.tfevents\.\d+\.")
_HEAD, _TAIL = struct.Struct("<Q4x"), 4
_LONGEST_MARK = 64
"""Bytes of the mark of a session's start, at most; larger records without the plugin's name are of other tabs."""


def read_run(folder: str | Path) -> RunData:
    """Read what the Channels tab has of a run, from the event files of its directory, in the order of their names.

    Values that an earlier session wrote after the start of a later one are dropped; if a step has several values, the
    last is kept. Of a file that is still being written the records that are whole are read.

    Raises:
        RunError: There is no event file, none holds a graph, the data are damaged or of another format, or a file
            cannot be read.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.glob("events.out.tfevents.*") if _FILE_NAME.match(path.name))
    if not files:
        raise RunError(f"{folder}: no event file found; pass a run directory")
    with reading(folder):
        tags = _rows_by_tag(files)
        if GRAPH not in tags:
            raise RunError(
                f"{folder}: no data for the Channels tab; pass a run that this version has written"
            )
        metrics: dict[tuple[str, str], Series] = {}
        messages: dict[int, Messages] = {}
        for tag in sorted(tags):
            content = parsed(tag)
            if isinstance(content, tuple) and (series := series_of(tags[tag])) is not None:
                metrics[content] = series
            elif isinstance(content, int) and (samples := messages_of(tags[tag])) is not None:
                messages[content] = samples
        return RunData(
            name=folder.resolve().name,
            graph=graph_from(str(folder), tags[GRAPH]),
            timeline=document_from(tags[TIMELINE]) if TIMELINE in tags else None,
            metrics=metrics,
            messages=messages,
            parts=document_from(tags[PARTS]) if PARTS in tags else None,
        )


def _rows_by_tag(files: Iterable[Path]) -> dict[str, list[Row]]:
    """Return the tab's rows in the order of writing; the start of a session drops later ones."""
    tags: dict[str, list[Row]] = {}
    for path in files:
        for event in _events(path):
            if event.session_log.status == SessionLog.START:
                tags = {tag: [row for row in rows if row[0] < event.step] for tag, rows in tags.items()}
            for value in event.summary.value:
                if value.tag.startswith(f"{PLUGIN}/"):
                    row = event.step, tensor_util.make_ndarray(value.tensor)
                    tags.setdefault(value.tag, []).append(row)
    return {tag: rows for tag, rows in tags.items() if rows}


def _events(path: Path) -> Iterator[Any]:
    """Yield the events of a file that may be of the tab: each record is its length with a checksum, its bytes, and a checksum."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            (length,) = _HEAD.unpack(head)
            record = file.read(length + _TAIL)
            if len(record) < length + _TAIL:
                return
            if length <= _LONGEST_MARK or PLUGIN.encode() in record:
                yield Event.FromString(record[:length])


def series_of(rows: Iterable[Row]) -> Series | None:
    """Return the log entries of a metric, by step; None if there are none. The last one written at a step is kept."""
    entries = messages_of(rows)
    return None if entries is None else Series(entries.steps, np.stack(entries.samples))


def messages_of(rows: Iterable[Row]) -> Messages | None:
    """Return the messages of a channel, by step, each [samples, size + 1]; see `series_of`."""
    newest = dict(rows)
    steps = sorted(newest)
    return Messages(np.array(steps, dtype=np.int64), [newest[step] for step in steps]) if steps else None


def graph_from(source: str, rows: Iterable[Row]) -> dict[str, Any]:
    """Return the graph that was written last; `source` begins the error."""
    graph = document_from(rows)
    if graph["format"] != FORMAT:
        raise RunError(
            f"{source}: its Channels tab has format {graph['format']}, this version of antiphon reads {FORMAT}"
        )
    return graph


def document_from(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the JSON that was written last, as plain data."""
    *_, (_, text) = rows
    document: dict[str, Any] = json.loads(text.item())
    return document
