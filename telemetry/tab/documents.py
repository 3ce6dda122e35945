"""The graph of a run as plain data for the Channels tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.telemetry.graph_layout import Points, positions
from antiphon.telemetry.metrics import RunDescription
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.tags import FORMAT


def graph_document(description: RunDescription) -> dict[str, Any]:
    """Return a run's graph as plain data: agents with positions, channels, explanations of the metrics.

    The order of agents and channels is the order of their values in the event file.
    """
    graph, edges, parts = description.graph, description.edges, description.parts
    agents, channels = description.agents, description.channels
    number = {name: index for index, name in enumerate(agents)}
    points, by_timescale = positions(graph)
    return {
        "format": FORMAT,
        "scenario": description.scenario,
        "every": description.period,
        "until": description.until,
        "by_timescale": by_timescale,
        **({"parts": parts} if parts else {}),
        "agents": [_agent(name, graph.nodes[name], points[name]) for name in agents],
        "channels": [_channel(name, edges[name], graph.edges[edges[name]], number) for name in channels],
        "explanations": {
            family: {
                metric: explanation._replace(says=explanation.says.replace("`", ""))._asdict()
                for metric, explanation in explanations.items()
            }
            for family, explanations in EXPLANATIONS.items()
            if parts or family != "part"
        },
    }


_AGENT = {"role": "agent", "period": 1, "phase": 0, "unroll": 1, "about": {}}
_CHANNEL = {"coupling": "locked", "delay": 0, "drop": 0.0, "size": None, "about": {}}
"""Attributes of an ordinary agent, and of a locked channel without delay."""


def _agent(name: str, node: Mapping[str, Any], point: Points) -> dict[str, Any]:
    x, y = (round(float(side), 5) for side in point)
    return {"name": name, **_AGENT, **node, "x": x, "y": y}


def _channel(
    name: str, ends: tuple[str, str, int | str], edge: Mapping[str, Any], number: Mapping[str, int]
) -> dict[str, Any]:
    values = {key: edge.get(key, default) for key, default in _CHANNEL.items()}
    ends_by_number = {"from": number[ends[0]], "to": number[ends[1]]}
    return {"name": name, **ends_by_number, **values, "state": edge.get("carries") == "state"}
