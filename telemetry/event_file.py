"""Writer of one TensorBoard event file, by TensorBoard's own records.

`torch.utils.tensorboard` writes the same records; this writer needs no torch, puts many values into one event, adds
display names to the tags (which TensorBoard's fast loader drops), and always writes to the run's own folder
(`add_hparams` and `add_scalars` of torch make further runs). TensorBoard's data structures are used in this file alone.
"""

from __future__ import annotations

import logging
import math
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import (  # type: ignore[import-untyped]
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    HistogramProto,
    Summary,
    SummaryMetadata,
)
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams.summary_v2 import (  # type: ignore[import-untyped]
    HParam,
    Metric,
    hparams_config_pb,
    hparams_pb,
)
from tensorboard.plugins.text.summary_v2 import text_pb  # type: ignore[import-untyped]
from tensorboard.util import tensor_util  # type: ignore[import-untyped]

from antiphon.base.files import fitting, open_binary, sync_file, sync_folder, writing

_log = logging.getLogger(__name__)

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
"""Before a record its length and the checksum of that; after it, its own."""
_ONES = 0xFFFFFFFF


def masked_checksum(data: bytes) -> int:
    """Return the masked checksum (CRC-32C) of `data` in a record: rotated by 15 bits, plus a constant."""
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & _ONES


_FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
SUFFIX = ".antiphon"
"""Suffix of the event files of a run's sessions, which a resumed run truncates at its checkpoint."""
BESIDE = ".measured"
"""Suffix of event files with measurements made after the run."""
_LARGEST = float(np.finfo(np.float32).max)
_BUCKETS = 30


def event_files(folder: Path) -> dict[Path, int]:
    """Return the event files in a folder, each with the time in its name (seconds)."""
    matches = {path: _FILE_NAME.match(path.name) for path in folder.glob("events.out.tfevents.*")}
    return {path: int(match[1]) for path, match in matches.items() if match}


def read_events(path: Path, selects: Callable[[bytes], bool]) -> Iterator[Any]:
    """Yield the events of a file, up to a truncated or damaged one, which is logged.

    Args:
        selects: Whether a record is parsed, and its checksum verified.
    """
    with open_binary(path) as file, fitting(path):
        size = os.fstat(file.fileno()).st_size
        while head := file.read(_HEAD.size):
            length, checksum = _HEAD.unpack(head.ljust(_HEAD.size, b"\0"))
            if file.tell() + length + _TAIL.size > size or masked_checksum(head[:8]) != checksum:
                break
            record = file.read(length)
            (checksum,) = _TAIL.unpack(file.read(_TAIL.size))
            if not selects(record):
                continue
            try:
                event = Event.FromString(record) if masked_checksum(record) == checksum else None
            except DecodeError:
                event = None
            if event is None:
                break
            yield event
        else:
            return
        _log.warning(
            "%s: truncated or damaged near byte %d of %d; the rest is ignored", path, file.tell(), size
        )


class EventFile:
    """A new event file in a run's folder, named to be read after the existing files.

    Raises:
        RunError: The file cannot be written, here or later.
    """

    def __init__(self, folder: Path, suffix: str = SUFFIX) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            stamp = max(int(time.time()), 1 + max(event_files(folder).values(), default=0))
            self._path = folder / f"events.out.tfevents.{stamp:010d}{suffix}"
            self._file = self._path.open("xb")
        self._known: set[str] = set()
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def forget_after(self, step: int) -> None:
        """Mark a session start: readers drop values after `step` in earlier files of the folder.

        Every session writes it, the first one too: some readers ignore the first mark.
        """
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=time.time(), step=step + 1, session_log=start))

    def scalars(self, step: int, values: Iterable[tuple[str, str, float]]) -> None:
        """Write scalars as (tag, display name, value); values that are not finite in float32 are skipped."""
        finite = (row for row in values if math.isfinite(row[2]) and abs(row[2]) <= _LARGEST)
        rows = ((tag, display_name, {"simple_value": value}) for tag, display_name, value in finite)
        self._values(step, "scalars", rows, DATA_CLASS_SCALAR)

    def histograms(self, step: int, values: Iterable[tuple[str, str, np.ndarray[Any, Any]]]) -> None:
        """Write distributions as (tag, display name, array); values that are not finite are left out."""
        protos = ((tag, display_name, _histogram(array)) for tag, display_name, array in values)
        encoded = (
            (tag, display_name, {"histo": proto}) for tag, display_name, proto in protos if proto is not None
        )
        self._values(step, "histograms", encoded)

    def text(self, step: int, tag: str, text: str) -> None:
        """Write text that is displayed verbatim: Markdown and HTML are escaped."""
        block = "\n".join("    " + line for line in text.splitlines())
        self._summarise(step, text_pb(tag, block).value)

    def document(self, step: int, tag: str, text: str, plugin: str) -> None:
        self._values(step, plugin, [(tag, "", {"tensor": tensor_util.make_tensor_proto(text)})])

    def arrays(self, step: int, values: Iterable[tuple[str, np.ndarray[Any, Any]]], plugin: str) -> None:
        """Write arrays of float32 for a plugin as (tag, array), all in one event."""
        protos = ((tag, tensor_util.make_tensor_proto(np.asarray(a, dtype=np.float32))) for tag, a in values)
        self._values(step, plugin, ((tag, "", {"tensor": proto}) for tag, proto in protos))

    def _values(
        self,
        step: int,
        plugin: str,
        rows: Iterable[tuple[str, str, dict[str, Any]]],
        data_class: Any = DATA_CLASS_TENSOR,
    ) -> None:
        """Write values as (tag, pretty name, content), all in one event; the first of a tag has its tab and pretty name.

        TensorBoard's fast data server drops the pretty name of a value without a class of data, and then the tag stands
        above a curve twice.
        """
        values = []
        for tag, display_name, content in rows:
            value = Summary.Value(tag=tag, **content)
            if tag not in self._known:
                self._known.add(tag)
                data = SummaryMetadata.PluginData(plugin_name=plugin)
                about = SummaryMetadata(display_name=display_name, plugin_data=data, data_class=data_class)
                value.metadata.CopyFrom(about)
            values.append(value)
        self._summarise(step, values)

    def hparams(
        self, step: int, values: Mapping[str, float | int | str | bool], results: Sequence[tuple[str, str]]
    ) -> None:
        """Write the run's entry in the HParams tab into the run itself; `results` are (tag, display name) of its scalars."""
        metrics = [Metric(tag, display_name=display_name) for tag, display_name in results]
        experiment = hparams_config_pb(list(map(HParam, values)), metrics)
        start = hparams_pb(dict(values), trial_id=str(self._path.parent))
        self._summarise(step, [*experiment.value, *start.value])

    def hparams_done(self, step: int) -> None:
        """Mark the run as successful in the HParams tab."""
        done = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=time.time())
        data = plugin_data_pb2.HParamsPluginData(session_end_info=done)
        value = Summary.Value(
            tag=hparams_metadata.SESSION_END_INFO_TAG,
            metadata=hparams_metadata.create_summary_metadata(data),
            tensor=hparams_metadata.NULL_TENSOR,
        )
        self._summarise(step, [value])

    def sync(self) -> None:
        """Write the file to the disk."""
        with writing(self._path):
            sync_file(self._file)
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with writing(self._path):
            self._file.close()

    def _summarise(self, step: int, values: Sequence[Any]) -> None:
        if values:
            self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        data = event.SerializeToString()
        head = _HEAD.pack(len(data), masked_checksum(len(data).to_bytes(8, "little")))
        with writing(self._path):
            self._file.write(b"".join((head, data, _TAIL.pack(masked_checksum(data)))))
            self._file.flush()


def _histogram(array: np.ndarray[Any, Any]) -> Any | None:
    """Return the counts in buckets of equal width, or None where nothing is finite."""
    values = np.asarray(array, dtype=np.float64).ravel()
    values = values[np.abs(values) <= _LARGEST]
    if not values.size:
        return None
    edges = np.unique(np.linspace(values.min(), values.max(), _BUCKETS + 1))
    single = edges.size == 1
    counts = np.array([values.size]) if single else np.histogram(values, bins=edges)[0]
    return HistogramProto(
        min=values.min(),
        max=values.max(),
        num=values.size,
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges if single else edges[1:],
        bucket=counts,
    )
