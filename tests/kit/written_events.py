"""What TensorBoard finds in a run's folder, by its own readers, as plain data to be compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader  # type: ignore[import-untyped]
from tensorboard.backend.event_processing.plugin_event_accumulator import (  # type: ignore[import-untyped]
    EventAccumulator as MigratingAccumulator,
)
from tensorboard.util import tensor_util  # type: ignore[import-untyped]

from tests.kit.tab import GRAPH, PARTS

Rows = dict[str, list[tuple[int, Any]]]
"""(step, content) of every value by tag, in the order of writing."""

_ABOUT = re.compile(r'"about":\{("[^"]*":"[^"]*",?)*\}')
"""What a graph says of the settings of an agent or channel."""
_OF_TIME = ("seconds", "steps_per_second", "part/", "parts/")
"""Parts of tags whose values are of the clock, or of the machine's load."""


def timeless(tag: str) -> bool:
    """Whether a value depends on the run alone, and on no clock."""
    return not any(word in tag for word in _OF_TIME)


def raw_rows(folder: Path) -> Rows:
    """Return all that is in the event files of a folder, whether readers would drop it or not."""
    found: Rows = {}
    for path in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                content = tensor_util.make_ndarray(value.tensor)
                kept = (str(content.dtype), content.shape, content.tolist()) if timeless(value.tag) else None
                found.setdefault(value.tag, []).append((event.step, repr(kept)))
    return _documents_once(found)


def read_rows(folder: Path) -> Rows:
    """Return what TensorBoard's two accumulators hold after reading a folder; of the older one, which drops no tensors at
    the start of a session, without the documents that every session writes.
    """
    found: Rows = {}
    migrated = MigratingAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    for tag in migrated.Tags()["tensors"]:
        for event in migrated.Tensors(tag):
            content = repr(tensor_util.make_ndarray(event.tensor_proto).tolist())
            found.setdefault(tag, []).append((event.step, content if timeless(tag) else None))
    everything = dict.fromkeys(("scalars", "images", "tensors"), 0)
    plain = EventAccumulator(str(folder), size_guidance=everything).Reload()
    readers = {"scalars": plain.Scalars, "images": plain.Images}
    for kind, rows_of in (readers | {"tensors": plain.Tensors}).items():
        for tag in set(plain.Tags()[kind]) - {GRAPH, PARTS}:
            for event in rows_of(tag):
                content = repr({**vars(event), "wall_time": 0}) if timeless(tag) else None
                found.setdefault(f"{kind}:{tag}", []).append((event.step, content))
    return _documents_once(found)


def _documents_once(found: Rows) -> Rows:
    """Leave out the documents that a session writes again without a change, but for what has been set since."""
    for tag in {GRAPH, PARTS} & found.keys():
        rows = found[tag]
        contents = [_ABOUT.sub("", str(content)) for _, content in rows]
        before: list[str | None] = [None, *contents]
        found[tag] = [
            row for row, now, earlier in zip(rows, contents, before, strict=False) if now != earlier
        ]
    return found
