"""Warnings of settings that run, and were measured to cost a training: one line each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antiphon.base.table import some
from antiphon.comms.endpoint_values import STATES
from antiphon.scenarios.scenario import Scenario


def warnings(scenario: Scenario) -> list[str]:
    """Return the warnings of a scenario, one line each, with the agents or channels that it is about."""
    rules = (_blind_predictors, _blocked, _waiting_for_each_other, _selected_on_test)
    return [line for rule in rules for line in rule(scenario)]


def _about(kind: str, names: Sequence[str], message: str) -> Iterator[str]:
    if names:
        yield f"{kind}{'' if len(names) == 1 else 's'} {some(names)}: {message}"


def _blind_predictors(scenario: Scenario) -> Iterator[str]:
    """Gradients that are predicted without what they depend on: the label of a classifier, or what a symbol is about."""
    from antiphon.scenarios.relations import reachable

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
    waiting = [channel for channel in scenario.channels if channel.coupling.waits]
    graph = nx.DiGraph([(group_of[channel.sender], group_of[channel.receiver]) for channel in waiting])
    for component in nx.strongly_connected_components(graph):
        names = sorted(name for group in component for name in group)
        if len(component) > 1 or graph.has_edge(*component, *component):
            message = "wait for each other's gradients over delayed channels, and learn nothing from them"
            yield from _about("agent", names, f"{message}; make one of the channels locked or decoupled")


def _selected_on_test(scenario: Scenario) -> Iterator[str]:
    evaluate = scenario.training.evaluate
    if evaluate is not None and evaluate.split == "test" and evaluate.judged_by:
        keys = " and ".join(dict.fromkeys(str(path[0]) for path in evaluate.judged_by))
        yield f"training.evaluate: {keys} by the test split, so its score is no test; use split: validation"
