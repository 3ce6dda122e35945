"""Advice that needs to know the environment: what runs, but is about another example than it should be."""

from __future__ import annotations

from collections.abc import Iterator

import networkx as nx

from antiphon.envs.registry import describe
from antiphon.envs.signal import Description
from antiphon.scenarios import Scenario, warnings
from antiphon.scenarios.parts import AgentSpec

__all__ = ["advice"]


def advice(scenario: Scenario) -> list[str]:
    """Return the scenario's warnings and those about delays and waiting (semantics 21, 27b).

    Raises:
        ScenarioError: The environment is not known.
    """
    env = describe(scenario.env)
    found = warnings(scenario)
    if env.is_stream and env.episode_steps != env.hold:
        found.extend(_late(scenario, env))
    found.extend(_mixed(scenario))
    found.extend(_waiting_for_each_other(scenario))
    return found


def _late(scenario: Scenario, env: Description) -> Iterator[str]:
    """Objectives that hear of an example when the next one is already shown."""
    ways: nx.DiGraph[str] = nx.DiGraph()
    ways.add_nodes_from(scenario.agents)
    for channel in scenario.channels:
        known = ways.get_edge_data(channel.sender, channel.receiver, {"delay": channel.link.delay})
        delay = min(known["delay"], channel.link.delay)
        ways.add_edge(channel.sender, channel.receiver, delay=delay)
    seers = [name for name, agent in scenario.agents.items() if agent.observes]
    for name, agent in scenario.agents.items():
        if agent.objective is None or agent.align:
            continue
        for seer in seers:
            if seer == name or not nx.has_path(ways, seer, name):
                continue
            steps = nx.dijkstra_path_length(ways, seer, name, weight="delay")
            if steps >= env.hold:
                yield (
                    f"agent {name}: hears what '{seer}' saw {steps} steps later, when another example is shown "
                    f"(hold {env.hold}); give it `align`, or the environment a longer `hold`"
                )
                break


def _mixed(scenario: Scenario) -> Iterator[str]:
    """Aligned agents whose messages were made from different examples."""
    lags: dict[str, int] = {}
    for _ in scenario.agents:
        lags = {name: _lag(scenario, name, agent, lags) for name, agent in scenario.agents.items()}
    for name, agent in scenario.agents.items():
        found = {c.name: lags[c.sender] + c.link.delay for c in scenario.inputs_of(name)}
        if agent.align and len(set(found.values())) > 1:
            ages = ", ".join(f"{channel} {steps}" for channel, steps in found.items())
            yield f"agent {name}: is aligned, but its messages are of different steps ({ages} old)"


def _lag(scenario: Scenario, name: str, agent: AgentSpec, lags: dict[str, int]) -> int:
    inputs = scenario.inputs_of(name)
    if not agent.align or not inputs:
        return 0
    chosen = next((c for c in inputs if c.name == agent.align), inputs[0])
    return lags.get(chosen.sender, 0) + chosen.link.delay


def _waiting_for_each_other(scenario: Scenario) -> Iterator[str]:
    """Cycles of delayed channels: each agent's gradient waits for the next one's, so none ever comes."""
    ways: nx.DiGraph[str] = nx.DiGraph()
    ways.add_edges_from((c.sender, c.receiver) for c in scenario.channels if c.coupling == "delayed")
    for part in nx.strongly_connected_components(ways):
        if len(part) > 1:
            names = ", ".join(sorted(part))
            yield f"agents {names}: wait for each other's gradients over delayed channels, and never learn"
