"""Warnings of settings that run, and were measured to cost a training: one line each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from antiphon.comms.endpoint_values import STATES
from antiphon.scenarios.relations import reachable
from antiphon.scenarios.scenario import Scenario

_MOST_NAMED = 4
"""Agents or channels in a line."""


def warnings(scenario: Scenario) -> list[str]:
    """Return the warnings of a scenario, one line each, with the agents or channels that it is about.

    Raises:
        ScenarioError: Messages are delayed, and there is no such environment.
    """
    return [line for rule in _RULES for line in rule(scenario)]


def listed(kind: str, names: Sequence[str]) -> str:
    """Return the first of some agents or channels, and their count, as `agents a, b, c, d, … (9 in all)`."""
    shown = ", ".join(names[:_MOST_NAMED])
    if len(names) > _MOST_NAMED:
        shown += f", … ({len(names)} in all)"
    return f"{kind} {shown}" if len(names) == 1 else f"{kind}s {shown}"


def _about(kind: str, names: Sequence[str], message: str) -> Iterator[str]:
    if names:
        yield f"{listed(kind, names)}: {message}"


def _unreached(scenario: Scenario) -> Iterator[str]:
    """Agents that learn from nothing, whatever the couplings: a detached channel is a control."""
    upstream = reachable(
        [name for name, agent in scenario.agents.items() if agent.objectives],
        [(channel.receiver, channel.sender) for channel in scenario.channels],
    )
    reached = upstream | scenario.relations.reached
    names = [name for name, agent in scenario.agents.items() if agent.learn and name not in reached]
    yield from _about("agent", names, "reached by no learning signal; no channel leads to an objective")


def _blind_predictors(scenario: Scenario) -> Iterator[str]:
    """Gradients that are predicted without what they depend on: the label of a classifier, or what a symbol is about."""
    goals = {name: agent.objectives.values() for name, agent in scenario.agents.items()}
    classifiers = [name for name, of_agent in goals.items() if any(goal.labels for goal in of_agent)]
    arcs = [(channel.receiver, channel.sender) for channel in scenario.channels]
    classifying = reachable(classifiers, arcs)
    targets = sorted({str(goal.target) for name in classifiers for goal in goals[name] if goal.labels})
    blind, collapsing = [], []
    for channel in scenario.channels:
        gradient = channel.gradient
        if channel.state or not (channel.coupling.predicts and gradient.direct and gradient.scale > 0):
            continue
        observed = {*scenario.agents[channel.sender].observes, STATES["from"]}
        if channel.symbols is not None and observed.isdisjoint(scenario.relations.context(channel)):
            collapsing.append(channel.name)
        elif channel.receiver in classifying and gradient.context is None and not gradient.closed_form:
            blind.append(channel.name)
    fix = f"give gradient.context [{', '.join(targets)}]"
    yield from _about("channel", blind, f"predicts gradients without the label, on which they depend; {fix}")
    yield from _about(
        "channel",
        collapsing,
        "a synthetic gradient of symbols without the sender's observations is the same for all of them, and the "
        "language collapses to one symbol; add the sender's observations to gradient.context",
    )


def _own_targets(scenario: Scenario) -> Iterator[str]:
    for name, agent in scenario.agents.items():
        for target in (goal.target for goal in agent.objectives.values() if goal.target in agent.observes):
            yield f"agent {name}: observes its own target {target!r}, which it can copy; leave out one of them"


def _blocked(scenario: Scenario) -> Iterator[str]:
    """A gradient passes over a locked channel within a window (rule 15)."""
    names = sorted(scenario.relations.blocked)
    yield from _about(
        "channel", names, "no gradient passes, as the delay is a whole window; use unroll: episode"
    )


def _waiting_for_each_other(scenario: Scenario) -> Iterator[str]:
    """Delayed channels on a cycle: each gradient waits for the next one, so all are dropped after `horizon`."""
    import networkx as nx

    group_of = scenario.relations.learning
    graph: nx.DiGraph[tuple[str, ...]] = nx.DiGraph()
    for channel in scenario.channels:
        if channel.coupling.waits:
            graph.add_edge(group_of[channel.sender], group_of[channel.receiver])
    for component in nx.strongly_connected_components(graph):
        names = sorted(name for group in component for name in group)
        if len(component) > 1 or graph.has_edge(*component, *component):
            message = "wait for each other's gradients over delayed channels, and learn nothing from them"
            yield from _about("agent", names, f"{message}; make one of the channels locked or decoupled")


def _too_late(scenario: Scenario) -> Iterator[str]:
    """Messages that are about an example that is no longer shown when they arrive."""
    import networkx as nx

    from antiphon.envs import describe

    if not any(channel.link.delay for channel in scenario.channels):
        return
    env = describe(scenario.env)
    graph: nx.DiGraph[str] = nx.DiGraph()
    for channel in (c for c in scenario.channels if not c.state):
        known = graph.get_edge_data(channel.sender, channel.receiver, {"delay": channel.link.delay})
        graph.add_edge(channel.sender, channel.receiver, delay=min(known["delay"], channel.link.delay))
    observers = {name for name, agent in scenario.agents.items() if agent.observes and name in graph}
    if not env.is_stream or not observers:
        return
    age = nx.multi_source_dijkstra_path_length(graph, observers, weight="delay")
    late = [
        channel.name
        for channel in scenario.channels
        if not (channel.state or scenario.agents[channel.receiver].align)
        and age.get(channel.sender, 0) + channel.link.delay >= env.hold
    ]
    message = f"arrives when its example is no longer shown (hold {env.hold})"
    yield from _about(
        "channel", late, f"{message}; give the receiver `align`, or the environment a longer `hold`"
    )


def _selected_on_test(scenario: Scenario) -> Iterator[str]:
    evaluate = scenario.training.evaluate
    if evaluate is not None and evaluate.split == "test" and evaluate.judged_by:
        keys = " and ".join(dict.fromkeys(str(path[0]) for path in evaluate.judged_by))
        yield f"training.evaluate: {keys} by the test split, so its score is no test; use split: validation"


_RULES: tuple[Callable[[Scenario], Iterator[str]], ...] = (
    _unreached,
    _blind_predictors,
    _own_targets,
    _blocked,
    _waiting_for_each_other,
    _too_late,
    _selected_on_test,
)
