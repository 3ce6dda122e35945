"""What has been measured of a run after it: kept in its directory, and shown in its Channels tab."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from antiphon.engine.metrics.description import describe_run
from antiphon.engine.runs.directory import RunDirectory, write_json
from antiphon.engine.simulation import Simulation
from antiphon.telemetry.channels.recorder import ChannelsWriter
from antiphon.telemetry.event_file import EventFile
from antiphon.telemetry.figures import Figure

__all__ = ["keep_measured"]

FILE = "measured.json"


def keep_measured(
    directory: RunDirectory, simulation: Simulation, found: Mapping[str, Any], rows: Sequence[Figure]
) -> bool:
    """Keep measurements in `measured.json`, where they replace older ones of the same kind, and in the event file.

    TensorBoard follows the newest event file of a run only: while the run goes on nothing is written there.

    Args:
        directory: The run's.
        simulation: Of its newest checkpoint, which was measured.
        found: By kind (`ablation`, `value`), plain data.
        rows: The same as figures of channels.

    Returns:
        Whether the Channels tab shows them.

    Raises:
        RunError: The directory cannot be written.
    """
    path = directory.path / FILE
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        before = {}
    kept = before if isinstance(before, dict) else {}
    write_json(path, kept | {kind: {"step": simulation.now, **content} for kind, content in found.items()})
    if directory.facts["exit"] == "running":
        return False
    events = EventFile(directory.path)
    try:
        writer = ChannelsWriter(events, describe_run(simulation.scenario, directory.facts), documents=False)
        writer.figures(simulation.now, rows)
    finally:
        events.close()
    return True
