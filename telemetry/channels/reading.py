"""Reader of the Channels tab's data from event files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.types_pb2 import DT_FLOAT  # type: ignore[import-untyped]

from antiphon.errors import RunError
from antiphon.telemetry.channels.series import Messages, RunData, Series
from antiphon.telemetry.channels.tags import FORMAT, GRAPH, PARTS, PLUGIN, TIMELINE, parsed
from antiphon.telemetry.channels.verdict_series import measuring_commands, with_verdicts
from antiphon.telemetry.event_file import event_files, read_events

__all__ = ["Row", "document_from", "graph_from", "messages_of", "read_run", "series_of"]

Row = tuple[int, NDArray[Any]]
"""A step, and the value written at it."""

_LONGEST = 2**31
"""Of an axis; those of no values may declare more than an array can have."""
_LONGEST_MARK = 64
"""Bytes of the mark of a session's start, at most."""


def read_run(folder: Path) -> RunData:
    """Read a run from its event files, in the order of their names.

    Values of an earlier session after the step at which a later one started are dropped; of several values of one step
    the last is kept. A torn or damaged file is read up to the damage, which is logged.

    Raises:
        RunError: There is no event file, none holds a graph, the graph is damaged or of a newer format, or the file
            system refuses.
    """
    files = sorted(event_files(folder))
    if not files:
        raise RunError(f"{folder}: no event file there; name the folder of a run")
    reader = _Found()
    for path in files:
        for event in read_events(path, _is_ours):
            reader.take(event)
    found = reader.tensors
    if not found.get(GRAPH):
        raise RunError(
            f"{folder}: no data of the Channels tab there; name a run that this version has written"
        )
    graph = graph_from(str(folder), _text(found[GRAPH][-1][1]))
    timeline, parts = found.get(TIMELINE), found.get(PARTS)
    figures: dict[tuple[str, str], Series] = {}
    messages: dict[int, Messages] = {}
    for tag in sorted(found):
        what, rows = parsed(tag), _rows(found[tag])
        if isinstance(what, tuple) and (series := series_of(rows)) is not None:
            figures[what] = series
        elif isinstance(what, int) and (samples := messages_of(rows)) is not None:
            messages[what] = samples
    return RunData(
        name=folder.resolve().name,
        graph=graph,
        timeline=document_from(str(folder), _text(timeline[-1][1])) if timeline else None,
        figures=with_verdicts(figures, graph),
        messages=messages,
        measuring=measuring_commands(str(folder)),
        parts=document_from(str(folder), _text(parts[-1][1])) if parts else None,
    )


def _is_ours(record: bytes) -> bool:
    """Return whether a record may hold the tab's data; those of other tabs are skipped."""
    return PLUGIN.encode() in record or len(record) <= _LONGEST_MARK


def series_of(rows: Iterable[Row]) -> Series | None:
    """Return the rows of a figure, by step; those that are not as long as the newest are left out.

    Args:
        rows: In the order of writing; of several at one step the last is kept.

    Returns:
        None where no row is a list of numbers.
    """
    kept = _in_order(rows, 1)
    if not kept:
        return None
    steps = np.array([step for step, _ in kept], dtype=np.int64)
    return Series(steps, np.stack([values for _, values in kept]).astype(np.float32, copy=False))


def messages_of(rows: Iterable[Row]) -> Messages | None:
    """Return the messages of a channel, by step; those that are not as wide as the newest are left out.

    Args:
        rows: In the order of writing, each [samples, size + 1]; of several at one step the last is kept.

    Returns:
        None where no row holds messages.
    """
    kept = _in_order((row for row in rows if row[1].ndim == 2 and row[1].shape[1] > 1), 2)
    if not kept:
        return None
    steps = np.array([step for step, _ in kept], dtype=np.int64)
    return Messages(steps, [samples.astype(np.float32, copy=False) for _, samples in kept])


def graph_from(place: str, text: bytes | None) -> dict[str, Any]:
    """Return the graph described by a JSON text; `place` begins the errors.

    Raises:
        RunError: It is no graph, or one of a newer format.
    """
    graph = document_from(place, text)
    version = graph.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise RunError(
            f"{place}: has data of a newer Channels tab (format {version}); show it with that antiphon"
        )
    if not all(isinstance(graph.get(key), list) for key in ("agents", "channels")):
        raise _damaged(place)
    return graph


def document_from(place: str, text: bytes | None) -> dict[str, Any]:
    """Return a JSON text of ours as plain data; `place` begins the error.

    Raises:
        RunError: It is no JSON object.
    """
    try:
        found = json.loads((text or b"").decode("utf-8"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _damaged(place)
    return found


def _damaged(place: str) -> RunError:
    return RunError(
        f"{place}: its data of the Channels tab do not fit; start the run anew in another directory"
    )


def _in_order(rows: Iterable[Row], dimensions: int) -> list[Row]:
    numbers = {
        step: values for step, values in rows if values.ndim == dimensions and values.dtype.kind == "f"
    }
    ordered = sorted(numbers.items(), key=lambda row: row[0])
    return [row for row in ordered if row[1].shape[-1] == ordered[-1][1].shape[-1]]


class _Found:
    """Accumulator of the tab's data over events."""

    def __init__(self) -> None:
        self.tensors: dict[str, list[tuple[int, Any]]] = {}
        self._whose: dict[str, str] = {}

    def take(self, event: Any) -> None:
        """Add an event's values; at the start of a session drop later ones.

        As in TensorBoard, the first value of a tag determines its plugin.
        """
        if event.session_log.status == SessionLog.START:
            for tag, rows in self.tensors.items():
                self.tensors[tag] = [row for row in rows if row[0] < event.step]
        for value in event.summary.value:
            tag = value.tag
            if tag not in (GRAPH, TIMELINE, PARTS) and parsed(tag) is None:
                continue
            whose = self._whose.setdefault(tag, value.metadata.plugin_data.plugin_name)
            if whose == PLUGIN and value.HasField("tensor"):
                self.tensors.setdefault(tag, []).append((event.step, value.tensor))


def _text(tensor: Any) -> bytes | None:
    return bytes(tensor.string_val[0]) if len(tensor.string_val) == 1 else None


def _rows(tensors: Iterable[tuple[int, Any]]) -> Iterator[Row]:
    """Yield the values that are float32 and of their declared shape, with one axis or two."""
    for step, tensor in tensors:
        shape = [side.size for side in tensor.tensor_shape.dim]
        content = tensor.tensor_content
        if tensor.dtype != DT_FLOAT or len(content) % 4 or len(shape) > 2 or max(shape, default=0) > _LONGEST:
            continue
        values = np.frombuffer(content, dtype="<f4") if content else np.array(tensor.float_val, dtype="<f4")
        if min(shape, default=1) >= 0 and values.size == np.prod(shape, dtype=object):
            yield step, values.reshape(shape)
