"""Data of the Channels tab from the figures in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antiphon.telemetry.channels.series import Messages, RunData, Series
from antiphon.telemetry.channels.tags import Family
from antiphon.telemetry.history import History

__all__ = ["gathered"]

Row = NDArray[np.float32]
"""One number per agent, or per channel."""


def gathered(
    name: str, graph: Mapping[str, Any], timeline: Mapping[str, Any] | None, history: History
) -> RunData:
    """Return a run's data, equal to those read from its event file.

    Args:
        name: Of the run.
        graph: Its graph (`graph_document`).
        timeline: Its first steps (`timeline_document`), if there are any.
        history: Its figures and messages so far.
    """
    places = {
        "agent": {agent["name"]: i for i, agent in enumerate(graph["agents"])},
        "channel": {channel["name"]: i for i, channel in enumerate(graph["channels"])},
    }
    rows: dict[tuple[Family, str], dict[int, Row]] = {}
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite
        for step, kind, item, metric, value in history:
            if kind in ("agent", "channel") and (place := places[kind].get(item)) is not None:
                found = rows.setdefault((kind, metric), {})
                if step not in found:
                    found[step] = np.full(len(places[kind]), np.nan, dtype=np.float32)
                found[step][place] = value
    figures = {about: _series(found) for about, found in rows.items()}
    return RunData(name, graph, timeline, figures, dict(_messages(history, places["channel"])))


def _series(rows: dict[int, Row]) -> Series:
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
