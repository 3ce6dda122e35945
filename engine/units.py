"""Units: which agents learn as one network, and in which windows (semantics 14, 16, 27a)."""

from __future__ import annotations

import networkx as nx

from antiphon.engine.clock import Clock, StepWindows, TickWindows, Windows
from antiphon.envs.signal import Description
from antiphon.errors import ScenarioError
from antiphon.scenarios.document import Scenario

__all__ = ["unite", "windows_of"]


def unite(scenario: Scenario) -> list[tuple[str, ...]]:
    """Return the maximal sets of agents joined by locked channels or by tied parameters, in canonical order.

    Tied agents learn from the mean of their gradients, and their batch statistics run over all of them, so
    their backward pass is one.
    """
    graph: nx.Graph[str] = nx.Graph()
    graph.add_nodes_from(scenario.agents)
    for group in scenario.locked_groups():
        nx.add_path(graph, group)
    tied: dict[str, str] = {}
    for name, agent in scenario.agents.items():
        if agent.share is not None:
            graph.add_edge(tied.setdefault(agent.share, name), name)
    order = {name: i for i, name in enumerate(scenario.agents)}
    found = [tuple(sorted(part, key=order.__getitem__)) for part in nx.connected_components(graph)]
    return sorted(found, key=lambda members: order[members[0]])


def windows_of(scenario: Scenario, members: tuple[str, ...], env: Description) -> Windows:
    """Return the windows of a unit.

    Raises:
        ScenarioError: Its window is the episode, but the environment's episodes have no fixed length.
    """
    first = scenario.agents[members[0]].clock
    if first.unroll == "episode":
        if env.episode_steps is None:
            raise ScenarioError(
                f"agents.{members[0]}.clock.unroll: 'episode' needs episodes of one known length; "
                "use `episode: example` in env, or a number"
            )
        if env.episode_steps > scenario.training.window_limit:
            raise ScenarioError(
                f"agents.{members[0]}.clock.unroll: an episode of {env.episode_steps} steps exceeds "
                f"training.window_limit ({scenario.training.window_limit})"
            )
        return StepWindows(env.episode_steps)
    joined = any(len(set(group) & set(members)) > 1 for group in scenario.locked_groups())
    if not joined:
        return TickWindows(Clock(first.period, first.phase), first.unroll)
    window, limit = scenario.window(members), scenario.training.window_limit
    assert isinstance(window, int)
    if window > limit:  # a locked group alone has been checked, but tied agents join groups
        raise ScenarioError(
            f"agents {', '.join(members)}: locked and tied together they would learn every {window} steps, more than "
            f"training.window_limit {limit}; choose periods and unrolls with a smaller common multiple"
        )
    return StepWindows(window)
