"""Metrics of three parts, chosen by hand: a ring of six agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import networkx as nx

from antiphon.telemetry import PartMetrics, RunDescription
from antiphon.telemetry.event_file import EventFile
from tests.kit.tab import ChannelsWriter

AGENTS = ("a", "b", "c", "d", "e", "f")
PLACEMENT = {"a": 0, "b": 0, "c": 1, "d": 1, "e": 2, "f": 2}
CHANNELS = [(one, other) for one, other in zip(AGENTS, AGENTS[1:] + AGENTS[:1], strict=True)]


def description(**changes: Any) -> RunDescription:
    """Return what recorders get of a run of the ring in three parts."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name in AGENTS:
        graph.add_node(name, role="readout" if name == "f" else "agent", part=PLACEMENT[name])
    for sender, receiver in CHANNELS:
        graph.add_edge(sender, receiver, 0, coupling="decoupled", delay=1)
    given: dict[str, Any] = {
        "graph": graph,
        "names": {"agents": AGENTS, "channels": [(f"{a}->{b}", f"{a}__to__{b}") for a, b in CHANNELS]},
        "scenario": "ring",
        "period": 10,
        "until": 100,
    }
    return RunDescription(**(given | changes))


def part(number: int, step: int, **changes: Any) -> PartMetrics:
    """Return the metrics of a part at a step."""
    given: dict[str, Any] = {
        "part": number,
        "machine": f"node-{number + 1}",
        "steps_taken": step,
        "seconds": step / 10,
        "computing": step / 20,
        "waiting": step / 40,
        "bytes_sent": 1_000 * step * (number + 1),
        "bytes_received": 2_000 * step,
        "calls": step,
    }
    return PartMetrics(**(given | changes))


def rows(step: int) -> list[PartMetrics]:
    """Return the metrics at a step: after step 50 the last part stands still, and the first waits for it."""
    found = [part(number, step) for number in range(3)]
    if step > 50:
        found[0] = part(0, step, waiting=step / 40 + 2.0)
        found[2] = part(2, 50)
    return found


STEPS = (10, 20, 60)


def record(folder: Path, start: int = 0, **changes: Any) -> None:
    """Write the metrics at `STEPS` into an event file, for the Channels tab."""
    events = EventFile(folder, start=start)
    described = description(start_step=start, **changes)
    writer = ChannelsWriter(events, described)
    writer.begin(described)
    for step in STEPS:
        writer.parts(step, rows(step))
    events.close()
