"""Writer of one TensorBoard event file, by TensorBoard's own records, and their checksum, CRC-32C, ten times as fast
as TensorBoard's own on long data.

`torch.utils.tensorboard` writes the same records; here they come without torch, many values in one event,
pretty names beside the tags (which TensorBoard's fast loader drops), and always in the run's own folder (its
`add_hparams` and `add_scalars` make runs of their own). TensorBoard's data structures are used in this file alone.
"""

from __future__ import annotations

import math
import os
import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from numpy.typing import NDArray
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[import-untyped]
from tensorboard.compat.proto.summary_pb2 import (  # type: ignore[import-untyped]
    DATA_CLASS_SCALAR,
    DATA_CLASS_TENSOR,
    HistogramProto,
    Summary,
    SummaryMetadata,
)
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import (  # type: ignore[import-untyped]
    CRC_TABLE,
    masked_crc32c,
)
from tensorboard.plugins.custom_scalar import layout_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.custom_scalar import metadata as layout_metadata
from tensorboard.plugins.hparams import api_pb2, plugin_data_pb2  # type: ignore[import-untyped]
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.text.summary_v2 import text_pb  # type: ignore[import-untyped]
from tensorboard.util import tensor_util  # type: ignore[import-untyped]

from antiphon.files import cut, open_binary, sync_file, sync_folder, writing
from antiphon.telemetry.channels.tags import GRAPH, PARTS, SESSION, TIMELINE

__all__ = ["masked_checksum"]

_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
"""Before a record its length and the checksum of that; after it, its own."""
_TIME = b"\x09"
"""Before the time in an event, of eight bytes; the first thing in it."""
_SHORT = 1024
"""Bytes below which a loop over them is faster than arrays."""
_ONES = 0xFFFFFFFF

Words = NDArray[np.uint32]


def masked_checksum(data: bytes) -> int:
    """Return the masked checksum of `data` in a record: rotated by 15 bits, plus a constant.

    The remainder of two concatenated pieces is that of the first, shifted by the length of the second, plus that of the
    second. So neighbours are joined pair by pair, all pairs of one length at once.
    """
    if len(data) < _SHORT:
        return int(masked_crc32c(data))
    padded = np.zeros(-(-len(data) // 4) * 4, dtype=np.uint8)  # zeros in front change no remainder
    padded[-len(data) :] = np.frombuffer(data, dtype=np.uint8)
    padded[-len(data) :][:4] ^= 255  # the same as a remainder of ones to begin with
    remainders, power = _shifted(_by(2), padded.view("<u4")), 2
    while len(remainders) > 1:
        if len(remainders) % 2:
            remainders = np.concatenate([np.zeros(1, dtype=np.uint32), remainders])
        remainders, power = _shifted(_by(power), remainders[0::2]) ^ remainders[1::2], power + 1
    checksum = int(remainders[0]) ^ _ONES
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & _ONES


def _shifted(tables: Words, remainders: Words) -> Words:
    """Shift each remainder, by table lookup of its bytes."""
    low, second, third, high = (remainders >> shift & 255 for shift in (0, 8, 16, 24))
    shifted: Words = tables[0][low] ^ tables[1][second] ^ tables[2][third] ^ tables[3][high]
    return shifted


@cache
def _by(power: int) -> Words:
    """Return the tables of a shift by 2 ** `power` zero bytes, [byte of the remainder, its value]."""
    if power:
        return _shifted(_by(power - 1), _by(power - 1))
    value = np.arange(256, dtype=np.uint32)
    return np.stack([np.array(CRC_TABLE, dtype=np.uint32), value, value << 8, value << 16])


_FILE_NAME = re.compile(r"events\.out\.tfevents\.(\d+)\.")
_SUFFIX = ".antiphon"
_LARGEST = float(np.finfo(np.float32).max)
_BUCKETS = 30


def event_files(folder: Path) -> dict[Path, int]:
    """Return the event files in a folder, each with the time in its name (seconds)."""
    found = {path: _FILE_NAME.match(path.name) for path in folder.glob("events.out.tfevents.*")}
    return {path: int(match[1]) for path, match in found.items() if match}


RESULT = "result/"
"""Beginning of the tags of a run's result."""
HPARAMS = frozenset((hparams_metadata.EXPERIMENT_TAG, hparams_metadata.SESSION_START_INFO_TAG))
"""Tags of a run's row in the HParams tab."""
_DESCRIPTION = ("scenario/", GRAPH, TIMELINE, PARTS)
_ENDS = (RESULT, hparams_metadata.SESSION_END_INFO_TAG)
_ONCE = (*_DESCRIPTION, *HPARAMS, layout_metadata.CONFIG_SUMMARY_TAG)
_LOOKED_FOR = tuple(tag.encode() for tag in (*_ONCE, *_ENDS))


@dataclass
class EarlierEvents:
    """What a run's event files have of earlier sessions, besides its figures."""

    tags: set[str] = field(default_factory=set)
    """Of everything that is written once."""
    documents: dict[str, str] = field(default_factory=dict)
    """The newest text by tag."""
    charts: dict[str, list[str]] = field(default_factory=dict)
    """Titles of the newest charts by category."""
    wall_time: float = 0.0
    """Of the last event, in seconds since 1970."""

    def add(self, step: int, value: Any) -> None:
        """Add a value of one event; what is not as this module writes it is left out."""
        tag, tensor = value.tag, value.tensor
        if not tag.startswith(_ONCE):
            return
        with suppress(ValueError, DecodeError):
            if tag == layout_metadata.CONFIG_SUMMARY_TAG:
                layout = layout_pb2.Layout.FromString(b"".join(tensor.string_val))
                self.charts = {found.title: [one.title for one in found.chart] for found in layout.category}
            elif len(tensor.string_val) == 1:
                self.documents[tag] = tensor.string_val[0].decode()
            self.tags.add(tag)


def drop_after(folder: Path, step: int) -> EarlierEvents:
    """Cut the event files of a folder off after a step, at which a run goes on, and return what they keep.

    Also cut off are a result, which the run has anew at its end, and a last record that a crash tore. A damaged file, which
    no reader can follow beyond the damage, stays as it is, and so do those of other writers.

    Raises:
        RunError: A file cannot be read or cut.
    """
    kept = EarlierEvents()
    for path in sorted(event_files(folder)):
        if path.suffix != _SUFFIX:
            continue
        with writing(path):
            with open_binary(path) as file:
                end = _kept_bytes(file, step, kept)
            if end is not None:
                cut(path, end)
    return kept


def _kept_bytes(file: Any, step: int, kept: EarlierEvents) -> int | None:
    """Return after how many bytes a file is cut off, and gather what is before; None: it stays as it is."""
    size = os.fstat(file.fileno()).st_size
    result: int | None = None
    """Where the result begins, as long as nothing follows it."""
    while head := file.read(_HEAD.size):
        begin: int = file.tell() - len(head)
        if len(head) < _HEAD.size:
            return begin if result is None else result
        length, checksum = _HEAD.unpack(head)
        if masked_checksum(head[:8]) != checksum:
            return None
        if begin + _HEAD.size + length + _TAIL.size > size:
            return begin if result is None else result
        record = file.read(length)
        (checksum,) = _TAIL.unpack(file.read(_TAIL.size))
        if record[:1] == _TIME and length > 8:
            kept.wall_time = max(kept.wall_time, _plausible(*struct.unpack_from("<d", record, 1)))
        late = _step_of(record) > step
        if not late and not any(tag in record for tag in _LOOKED_FOR):
            result = None
            continue
        if masked_checksum(record) != checksum:
            return None
        try:
            event = Event.FromString(record)
        except DecodeError:
            return None
        if late and any(value.tag != SESSION for value in event.summary.value):
            return begin if result is None else result
        result = (begin if result is None else result) if _is_end(event) else None
        for value in event.summary.value:
            kept.add(event.step, value)
    return result


def _is_end(event: Any) -> bool:
    return any(value.tag.startswith(_ENDS) for value in event.summary.value)


def _step_of(record: bytes) -> int:
    """Return the step of an event: the number after its wall time, in seven bits a byte; 0 is left out."""
    if record[:1] != _TIME or record[9:10] != b"\x10":
        return 0
    step = 0
    for place, byte in enumerate(record[10:20]):
        step |= (byte & 127) << 7 * place
        if byte < 128:
            break
    return step


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


def _plausible(seconds: float) -> float:
    """Return a time read from a file, or 0 where it can be none: names of files have ten digits."""
    return seconds if 0 < seconds < 10**10 else 0


class WallClock:
    """The time of events in seconds since 1970, which never goes back: a clock that is set back goes on from where it was.

    Args:
        after: The earliest time that it returns.
    """

    def __init__(self, after: float = 0.0) -> None:
        self._last, self._at, self._ahead = after, time.monotonic(), 0.0

    def __call__(self) -> float:
        """Return the time."""
        now, at = time.time() + self._ahead, time.monotonic()
        if now < self._last:
            expected = self._last + at - self._at
            self._ahead += expected - now
            now = expected
        self._last, self._at = now, at
        return now


class EventFile:
    """A new event file in a run's folder, named to be read after the files that are there.

    Args:
        folder: The run's.
        after: The time of the last event there, in seconds since 1970; no event is earlier.

    Raises:
        RunError: The file cannot be written, here or later.
    """

    def __init__(self, folder: Path, after: float = 0.0) -> None:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            newest = max(event_files(folder).values(), default=0)
            self._clock = WallClock(max(after, _plausible(newest)))
            stamp = max(int(self._clock()), newest + 1)
            self._path = folder / f"events.out.tfevents.{stamp:010d}{_SUFFIX}"
            self._file = self._path.open("xb")
        self._known: set[str] = set()
        self._write(Event(wall_time=self._clock(), file_version="brain.Event:2"))

    def forget_after(self, step: int) -> None:
        """Mark a session start: readers drop values after `step` in earlier files of the folder.

        Every session writes it, the first one too: some readers ignore the first mark.
        """
        start = SessionLog(status=SessionLog.START)
        self._write(Event(wall_time=self._clock(), step=step + 1, session_log=start))

    def scalars(self, step: int, values: Iterable[tuple[str, str, float]]) -> None:
        """Write numbers as (tag, pretty name, value); those that are not finite in float32 are skipped."""
        finite = (row for row in values if math.isfinite(row[2]) and abs(row[2]) <= _LARGEST)
        self._summarise(
            step,
            [
                Summary.Value(
                    tag=tag,
                    metadata=self._metadata(tag, "scalars", DATA_CLASS_SCALAR, display_name),
                    simple_value=value,
                )
                for tag, display_name, value in finite
            ],
        )

    def histograms(self, step: int, values: Iterable[tuple[str, str, np.ndarray[Any, Any]]]) -> None:
        """Write distributions as (tag, pretty name, array); values that are not finite are left out."""
        protos = ((tag, display_name, _histogram(array)) for tag, display_name, array in values)
        self._summarise(
            step,
            [
                Summary.Value(
                    tag=tag,
                    metadata=self._metadata(tag, "histograms", DATA_CLASS_TENSOR, display_name),
                    histo=proto,
                )
                for tag, display_name, proto in protos
                if proto is not None
            ],
        )

    def text(self, step: int, tag: str, text: str) -> None:
        """Write text that is displayed verbatim: Markdown and HTML are escaped."""
        block = "\n".join("    " + line for line in text.splitlines())
        self._summarise(step, text_pb(tag, block).value)

    def document(self, step: int, tag: str, text: str, plugin: str) -> None:
        """Write text for a plugin."""
        self._tensor(step, [(tag, tensor_util.make_tensor_proto(text))], plugin)

    def arrays(self, step: int, values: Iterable[tuple[str, np.ndarray[Any, Any]]], plugin: str) -> None:
        """Write arrays of float32 for a plugin as (tag, array), all in one event."""
        found = [(tag, tensor_util.make_tensor_proto(np.asarray(a, dtype=np.float32))) for tag, a in values]
        self._tensor(step, found, plugin)

    def _tensor(self, step: int, values: Sequence[tuple[str, Any]], plugin: str) -> None:
        self._summarise(
            step,
            [
                Summary.Value(tag=tag, metadata=self._metadata(tag, plugin, DATA_CLASS_TENSOR), tensor=v)
                for tag, v in values
            ],
        )

    def _metadata(
        self, tag: str, plugin: str, data_class: Any, display_name: str = ""
    ) -> SummaryMetadata | None:
        """Metadata of a value: its tab and pretty name, for the first value of a tag only.

        TensorBoard's fast data server drops the pretty name of a value without a class of data, and then the tag stands
        above a curve twice.
        """
        if tag in self._known:
            return None
        self._known.add(tag)
        data = SummaryMetadata.PluginData(plugin_name=plugin)
        return SummaryMetadata(display_name=display_name, plugin_data=data, data_class=data_class)

    def charts(self, step: int, categories: Mapping[str, Sequence[Chart]]) -> None:
        """Write the layout of the Custom Scalars tab: charts by category."""
        layout = layout_pb2.Layout(
            category=[
                layout_pb2.Category(title=title, chart=[_chart(chart) for chart in charts])
                for title, charts in categories.items()
            ]
        )
        value = Summary.Value(
            tag=layout_metadata.CONFIG_SUMMARY_TAG,
            metadata=layout_metadata.create_summary_metadata(),
            tensor=tensor_util.make_tensor_proto(layout.SerializeToString()),
        )
        self._summarise(step, [value])

    def hparams(
        self, step: int, values: Mapping[str, float | int | str | bool], results: Sequence[tuple[str, str]]
    ) -> None:
        """Write the run's row of the HParams tab into the run itself; `results` are (tag, pretty name) of scalars beside it."""
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=display_name)
            for tag, display_name in results
        ]
        infos = [api_pb2.HParamInfo(name=name, type=_hparam_type(value)) for name, value in values.items()]
        start = plugin_data_pb2.SessionStartInfo(start_time_secs=self._clock())
        for name, value in values.items():
            if isinstance(value, bool):
                start.hparams[name].bool_value = value
            elif isinstance(value, str):
                start.hparams[name].string_value = value
            else:
                start.hparams[name].number_value = value
        experiment = api_pb2.Experiment(hparam_infos=infos, metric_infos=metrics)
        self._summarise(
            step,
            [
                _of_hparams(hparams_metadata.EXPERIMENT_TAG, experiment=experiment),
                _of_hparams(hparams_metadata.SESSION_START_INFO_TAG, session_start_info=start),
            ],
        )

    def hparams_done(self, step: int) -> None:
        """Mark the run as successful in the HParams tab."""
        done = plugin_data_pb2.SessionEndInfo(status=api_pb2.STATUS_SUCCESS, end_time_secs=self._clock())
        self._summarise(step, [_of_hparams(hparams_metadata.SESSION_END_INFO_TAG, session_end_info=done)])

    def flush(self) -> None:
        """Flush the file."""
        with writing(self._path):
            self._file.flush()

    def sync(self) -> None:
        """Flush the file to the disk."""
        with writing(self._path):
            sync_file(self._file)
            sync_folder(self._path.parent)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with writing(self._path):
            self._file.close()

    def _summarise(self, step: int, values: Sequence[Any]) -> None:
        if values:
            self._write(Event(wall_time=self._clock(), step=step, summary=Summary(value=values)))

    def _write(self, event: Any) -> None:
        data = event.SerializeToString()
        head = _HEAD.pack(len(data), masked_checksum(len(data).to_bytes(8, "little")))
        with writing(self._path):
            self._file.write(b"".join((head, data, _TAIL.pack(masked_checksum(data)))))


def _of_hparams(tag: str, **content: Any) -> Any:
    metadata = hparams_metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(**content))
    return Summary.Value(tag=tag, metadata=metadata, tensor=hparams_metadata.NULL_TENSOR)


def _chart(chart: Chart) -> Any:
    if chart.band is None:
        lines = layout_pb2.MultilineChartContent(tag=[chart.tags])
        return layout_pb2.Chart(title=chart.title, multiline=lines)
    lower, upper = chart.band
    series = layout_pb2.MarginChartContent.Series(value=chart.tags, lower=lower, upper=upper)
    return layout_pb2.Chart(title=chart.title, margin=layout_pb2.MarginChartContent(series=[series]))


def _hparam_type(value: object) -> Any:
    if isinstance(value, bool):
        return api_pb2.DATA_TYPE_BOOL
    return api_pb2.DATA_TYPE_STRING if isinstance(value, str) else api_pb2.DATA_TYPE_FLOAT64


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
