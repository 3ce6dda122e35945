"""Descriptions of a run for recorders: the graph of agents and channels, with what the scenario file says of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import networkx as nx

from antiphon.base.spec import plain
from antiphon.engine.state.compatibility import described
from antiphon.scenarios import ChannelSpec, Scenario
from antiphon.scenarios.agent_specs import NetworkSpec
from antiphon.scenarios.relations import Relations
from antiphon.telemetry.metrics import RunDescription
from antiphon.telemetry.timeline_text import Timeline


def describe_run(
    scenario: Scenario,
    facts: Mapping[str, Any],
    *,
    start: int = 0,
    until: int | None = None,
    timeline: Timeline | None = None,
) -> RunDescription:
    """Return the description that recorders receive before the first metrics, of a session from `start` to `until`."""
    graph = graph_of(scenario)
    for name, part in (facts.get("parts") or {}).get("placement", {}).items():
        graph.nodes[name]["part"] = part
    return RunDescription(
        graph=graph,
        names={
            "agents": list(scenario.agents),
            "channels": [(channel.name, channel.slug) for channel in scenario.channels],
        },
        scenario=scenario.scenario,
        period=scenario.telemetry.period,
        until=scenario.training.steps if until is None else until,
        start_step=start,
        max=scenario.telemetry.max,
        timeline=timeline,
    )


def graph_of(scenario: Scenario) -> nx.MultiDiGraph[str]:
    """Return the graph of agents and channels, as telemetry draws it (`RunDescription.graph`)."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, agent in scenario.agents.items():
        role = "readout" if name in scenario.readouts else "agent" if agent.learn else "frozen"
        clock = agent.clock
        times = {"period": clock.period, "phase": clock.phase % clock.period, "unroll": clock.unroll}
        graph.add_node(name, role=role, **times, about=about_agent(scenario, name))
    for channel in scenario.channels:
        link, size = channel.link, channel.size
        graph.add_edge(
            channel.sender,
            channel.receiver,
            channel.key,
            coupling=channel.coupling.name,
            delay=link.delay,
            drop=link.drop,
            carries="state" if channel.state else "message",
            size=size if size is None or isinstance(size, int) else " x ".join(map(str, size)),
            about=about_channel(channel, scenario.relations),
        )
    return graph


def about_agent(scenario: Scenario, name: str) -> dict[str, str]:
    """Return an agent as a scenario file has it, a line by key, and when it ticks and learns."""
    spec = scenario.agents[name]
    clock, written = spec.clock, plain(spec)
    network = plain(spec.network) if isinstance(spec.network, NetworkSpec) else spec.network
    lines = {key: _line(value) for key, value in ({"network": network} | written).items()}
    ticks = "every step" if clock.period == 1 else f"every {clock.period}, phase {clock.phase}"
    return {
        **{key: line for key, line in lines.items() if key not in ("clock", "learn")},
        "ticks": ticks,
        "learns": _learning(scenario, name),
    }


def _line(value: Any) -> str:
    """Return a value of a scenario file as it is written there in one line, a kind first; of a Python object its name."""
    line = json.dumps(described(value), ensure_ascii=False).replace('"', "")
    return line[1:-1].removeprefix("kind: ") if isinstance(value, Mapping | list) else line


def _learning(scenario: Scenario, name: str) -> str:
    """Return when an agent learns: `every 4 ticks, with probability 0.5`; locked to others, by the window of all."""
    spec = scenario.agents[name]
    if not spec.learn:
        return "never"
    unroll: int | str = spec.clock.unroll
    when = "tick" if unroll == 1 else unroll if isinstance(unroll, str) else f"{unroll} ticks"
    window = scenario.relations.windows[name]
    if window != scenario.relations.window([name]):
        when = window if isinstance(window, str) else f"{window} steps"
    return f"every {when}" + (f", with probability {spec.p_update:g}" if spec.p_update != 1 else "")


def about_channel(channel: ChannelSpec, relations: Relations) -> dict[str, str]:
    """Return a channel as a scenario file has it, a line by key, with all signals that its synthetic gradient is given."""
    written = {key: value for key, value in plain(channel).items() if key not in ("from", "to", "key")}
    if channel.coupling.predicts:
        written["gradient"] = plain(channel.gradient) | {"context": list(relations.context(channel))}
    else:
        written = {key: value for key, value in written.items() if key not in ("gradient", "input")}
    return {key: _line(value) for key, value in written.items()}
