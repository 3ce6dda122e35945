"""The graph and the timeline of a run as plain data for the Channels tab."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from antiphon.base.imports import allowed_imports
from antiphon.telemetry.graph_layout import Points, communities, positions
from antiphon.telemetry.metrics import RunDescription
from antiphon.telemetry.tab.explanations import EXPLANATIONS
from antiphon.telemetry.tab.tags import FORMAT
from antiphon.telemetry.timeline_text import Timeline, channel_cells
from antiphon.telemetry.verdicts import spanning

_LONGEST = 200_000
"""Largest number of entries of a timeline; a longer one is left out, since it would load slowly."""


def graph_document(description: RunDescription) -> dict[str, Any]:
    """Return a run's graph as plain data: agents with positions, channels, explanations of the metrics.

    The order of agents and channels is the order of their values in the event file.
    """
    graph, edges, parts = description.graph, description.edges, description.parts
    agents, channels = description.agents, description.channels
    number = {name: index for index, name in enumerate(agents)}
    points, by_timescale = positions(graph)
    grouped = communities(graph)
    return {
        "format": FORMAT,
        "scenario": description.scenario,
        "seed": description.hparams.get("seed"),
        **({"settings": dict(description.settings)} if description.settings else {}),
        "every": description.period,
        "until": description.until,
        "batch": description.batch,
        "span": spanning(description.hold, description.period),
        **({"values_every": description.values_every} if description.values_every else {}),
        "by_timescale": by_timescale,
        **({"has_objects": True} if description.has_objects else {}),
        **({"no_fork": description.no_fork} if description.no_fork else {}),
        **({"imports": imports} if (imports := allowed_imports()) else {}),
        **({"parts": parts} if parts else {}),
        "agents": [_agent(name, graph.nodes[name], points[name], grouped.get(name)) for name in agents],
        "channels": [_channel(name, edges[name], graph.edges[edges[name]], number) for name in channels],
        "figures": {  # explanations of metrics, under the word of event files
            family: {
                metric: {**explanation._asdict(), "says": explanation.plain}
                for metric, explanation in explanations.items()
            }
            for family, explanations in EXPLANATIONS.items()
            if parts or family != "part"
        },
    }


def timeline_document(timeline: Timeline, description: RunDescription) -> dict[str, Any] | None:
    """Return the timeline of a run's first steps, implicit states included, as plain data; None if it is too long."""
    by_agent = {agent.name: agent for agent in timeline.agents}
    by_channel = {channel.name: channel for channel in timeline.channels}
    agents, channels = description.agents, description.channels
    start = timeline.start
    document: dict[str, Any] = {
        "start": start,
        "steps": timeline.steps,
        "episode_ends": _where(timeline.episode_ends, start),
        "agents": [{"ticks": [], "ends": [], "since": []} for _ in agents],
        "channels": [{"cells": []} for _ in channels],
    }
    for name, row in zip(agents, document["agents"], strict=True):
        if (agent := by_agent.get(name)) is not None:
            ticks = _where(agent.ticks, start)
            since = [[step, int(agent.since[step - start])] for step in ticks]
            row |= {"ticks": ticks, "ends": _where(agent.ends, start), "since": since}
    for name, row in zip(channels, document["channels"], strict=True):
        if (channel := by_channel.get(name)) is not None:
            row["cells"] = [[step, text] for step, text in enumerate(channel_cells(channel), start) if text]
    entries = sum(
        len(values) for rows in ("agents", "channels") for row in document[rows] for values in row.values()
    )
    return document if entries <= _LONGEST else None


LINEAGE_FIGURE = "lineage.svg"
"""The drawing of a population's members, in its folder."""


def lineage_document(name: str, picture: str) -> dict[str, Any]:
    """Return a population in the place of a run's graph: the drawing of its lineage, SVG."""
    return {"format": FORMAT, "scenario": name, "every": 1, "agents": [], "channels": [], "lineage": picture}


def _where(flags: Any, start: int) -> list[int]:
    return [int(index) + start for index in np.flatnonzero(flags)]


_AGENT = {"role": "agent", "period": 1, "phase": 0, "unroll": 1, "about": {}}
_CHANNEL = {"coupling": "locked", "delay": 0, "drop": 0.0, "size": None, "about": {}}
"""Attributes of an ordinary agent, and of a locked channel without delay."""


def _agent(name: str, node: Mapping[str, Any], point: Points, community: int | None) -> dict[str, Any]:
    x, y = (round(float(side), 5) for side in point)
    grouped = {} if community is None else {"community": community}
    return {"name": name, **_AGENT, **node, **grouped, "x": x, "y": y}


def _channel(
    name: str, ends: tuple[str, str, int | str], edge: Mapping[str, Any], number: Mapping[str, int]
) -> dict[str, Any]:
    values = {key: edge.get(key, default) for key, default in _CHANNEL.items()}
    ends_by_number = {"from": number[ends[0]], "to": number[ends[1]]}
    more = {key: edge[key] for key in ("predictor", "replaces_messages", "typed") if key in edge}
    return {"name": name, **ends_by_number, **values, **more, "state": edge.get("carries") == "state"}
