"""Small event files, written by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from antiphon.telemetry.event_file import EventFile
from tests.kit.tab import FORMAT, GRAPH, PLUGIN, TIMELINE

LOSS = "antiphon/agent/loss"
AGE = "antiphon/channel/age"
Rows = Mapping[int, Mapping[str, Any]]


def graph(names: Sequence[str] = ("a", "b"), **changes: Any) -> dict[str, Any]:
    """Return the document of agents in a ring."""
    agents = [{"name": name, "role": "agent", "period": 1, "x": 0.5, "y": 0.5} for name in names]
    ring = [(place, (place + 1) % len(names)) for place in range(len(names))]
    channels = [{"name": f"{names[a]}->{names[b]}", "from": a, "to": b} for a, b in ring]
    whole = {"format": FORMAT, "scenario": "ring", "every": 1, "agents": agents, "channels": channels}
    return {**whole, "explanations": {}, **changes}


def rows(steps: Sequence[int], scale: float = 1.0) -> dict[int, dict[str, Any]]:
    """Return a loss and an age for two agents and two channels at each step."""
    return {step: {LOSS: [step * scale, -step], AGE: [step, step + 0.5]} for step in steps}


def write(
    folder: Path,
    what: Rows,
    start: int = 0,
    *,
    document: Any = None,
    timeline: Any = None,
) -> Path:
    """Write one session of a run and return its event file.

    Args:
        folder: The run's.
        what: Arrays by step and tag.
        start: Steps done before the session.
        document: Under the tag of the graph: an object, or text as it is; by default the ring of two.
        timeline: Likewise, under the tag of the timeline; by default none.
    """
    before = set(folder.glob("*")) if folder.is_dir() else set()
    events = EventFile(folder, start=start)
    for tag, content in ((GRAPH, graph() if document is None else document), (TIMELINE, timeline)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            events.arrays(start, [(tag, text)], PLUGIN)
    for step, values in what.items():
        events.arrays(step, [(tag, np.asarray(value, np.float32)) for tag, value in values.items()], PLUGIN)
    events.close()
    (path,) = set(folder.glob("*")) - before
    return path
