"""What the Channels tab shows of a run whose figures are in memory."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from antiphon.telemetry.channels.documents import graph_document, order, timeline_document
from antiphon.telemetry.channels.series import Messages, RunData, Series
from antiphon.telemetry.channels.tags import Family
from antiphon.telemetry.figures import RunDescription
from antiphon.telemetry.history import History

__all__ = ["gathered"]


def gathered(name: str, description: RunDescription, history: History) -> RunData:
    """Return the run as it would be read from its event file.

    Args:
        name: What the run is called.
        description: The run.
        history: Its figures and messages so far.
    """
    agents, channels = order(description)
    places = {
        "agent": {n: i for i, n in enumerate(agents)},
        "channel": {n: i for i, n in enumerate(channels)},
    }
    rows: dict[tuple[Family, str], dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]]] = {}
    for step, kind, item, metric, value in history:
        if kind in ("agent", "channel") and (place := places[kind].get(item)) is not None:
            found = rows.setdefault((kind, metric), {})
            if step not in found:
                found[step] = np.full(len(places[kind]), np.nan, dtype=np.float32)
            found[step][place] = value
    timeline = description.timeline
    return RunData(
        name=name,
        graph=graph_document(description),
        timeline=None if timeline is None else timeline_document(timeline, description),
        figures={about: _series(found) for about, found in rows.items()},
        messages=dict(_messages(history, places["channel"])),
    )


def _series(rows: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]]) -> Series:
    return Series(np.array(list(rows), dtype=np.int64), np.stack(list(rows.values())))


def _messages(history: History, places: dict[str, int]) -> Iterable[tuple[int, Messages]]:
    found: dict[str, list[tuple[int, np.ndarray[tuple[int, int], np.dtype[np.float32]]]]] = {}
    for step, rows in history.messages.items():
        for name, array in rows:
            found.setdefault(name, []).append((step, array.astype(np.float32)))
    for name, taken in found.items():
        if name in places:
            steps, samples = zip(*taken, strict=True)
            yield places[name], Messages(np.array(steps, dtype=np.int64), list(samples))
