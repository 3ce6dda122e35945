"""Descriptions of a run for recorders: the graph of agents and channels, with the words that explain each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import networkx as nx

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.metrics.timeline import span, timeline
from antiphon.engine.planning.plan import learning_in_words, network_in_words, ticks_in_words
from antiphon.extensions import name_of
from antiphon.scenarios import ChannelSpec, Scenario
from antiphon.scenarios.ties import agent_and_parameter
from antiphon.telemetry.figures import RunDescription
from antiphon.telemetry.timeline import Timeline

__all__ = ["describe_run", "described", "graph_of"]


def describe_run(
    scenario: Scenario,
    facts: Mapping[str, Any],
    *,
    document: str = "",
    start: int = 0,
    until: int | None = None,
    timeline: Timeline | None = None,
) -> RunDescription:
    """Return the description that recorders get before the first figure.

    Args:
        scenario: Resolved.
        facts: What run.json says.
        document: The text of scenario.yaml.
        start: Steps done before this session.
        until: The step it stops at; None: that of the scenario.
        timeline: What happens in the first steps.
    """
    graph = graph_of(scenario)
    nx.set_node_attributes(graph, (facts.get("parts") or {}).get("placement", {}), "part")
    return RunDescription(
        yaml=document,
        hparams=_hparams(facts),
        graph=graph,
        names={
            "agents": list(scenario.agents),
            "channels": [(channel.name, channel.slug) for channel in scenario.channels],
        },
        scenario=scenario.scenario,
        every=scenario.telemetry.period,
        until=scenario.training.steps if until is None else until,
        batch=scenario.training.batch,
        start_step=start,
        top=scenario.telemetry.max,
        timeline=timeline,
    )


def described(simulation: BaseSimulation, parts: Mapping[str, Any] | None = None) -> RunDescription:
    """Return the description of a simulation that has no directory; `parts`: its division, as run.json would have it."""
    facts = {"scenario": simulation.scenario.scenario, "seed": simulation.seed, "parts": parts}
    first = timeline(simulation._system, 0, span(simulation._system))
    return describe_run(simulation.scenario, facts, start=simulation.now, timeline=first)


def _hparams(facts: Mapping[str, Any]) -> dict[str, float | int | str | bool]:
    values = {name: facts.get(name) for name in ("scenario", "variant", "seed")} | (facts.get("values") or {})
    known = {name: value for name, value in values.items() if value is not None}
    return {n: v if isinstance(v, bool | int | float | str) else json.dumps(v) for n, v in known.items()}


def graph_of(scenario: Scenario) -> nx.MultiDiGraph[str]:
    """Return who talks to whom, as telemetry draws it (`RunDescription.graph`)."""
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for name, agent in scenario.agents.items():
        role = "readout" if name in scenario.readouts else "agent" if agent.learn else "frozen"
        clock = agent.clock
        times = {"period": clock.period, "phase": clock.phase % clock.period, "unroll": clock.unroll}
        graph.add_node(
            name, role=role, **times, about=_about_agent(scenario, name) | _about_ties(scenario, name)
        )
    for channel in scenario.channels:
        link, size = channel.link, channel.size
        graph.add_edge(
            channel.sender,
            channel.receiver,
            channel.key,
            coupling=channel.coupling,
            delay=link.delay,
            drop=link.drop,
            carries="state" if channel.state else "message",
            size=size if size is None or isinstance(size, int) else " x ".join(map(str, size)),
            about=_about_channel(channel),
        )
    return graph


def _about_agent(scenario: Scenario, name: str) -> dict[str, str]:
    agent = scenario.agents[name]
    objective = agent.objective
    about = {
        "network": network_in_words(agent),
        "observes": ", ".join(agent.observes) or "nothing",
        "objective": "none" if objective is None else objective.in_words,
        "ticks": ticks_in_words(agent),
        "learns": learning_in_words(scenario, name),
    }
    if agent.categories != "one_hot":
        about["categories"] = f"classes enter by {agent.categories}"
    if agent.acts:
        about["acts"] = "its output is the environment's action"
    if agent.share is not None:
        about["shares"] = f"its parameters with group {agent.share}"
    return about


def _about_ties(scenario: Scenario, agent: str) -> dict[str, str]:
    """The weights that an agent has in common with others."""
    ties = [tie for tie in scenario.share if any(agent_and_parameter(name)[0] == agent for name in tie)]
    return {"tied": ", ".join(" = ".join(tie) for tie in ties)} if ties else {}


def _about_channel(channel: ChannelSpec) -> dict[str, str]:
    link = channel.link
    about: dict[str, str] = {}
    if channel.state:
        about["carries"] = "the state to the next tick"
    if channel.sample is not None:
        about["message"] = channel.sample.in_words
    predicted = channel.coupling in ("decoupled", "unlocked")
    if predicted:
        about["gradient"] = _gradient(channel)
    if predicted and channel.input is not None:
        context = ", ".join(channel.input.context)
        about["input"] = name_of(channel.input.kind) + (f", given {context}" if context else "")
        about["input"] += ", at every site" if channel.at_sites(channel.input) else ""
    if channel.coupling == "locked" and channel.feedback is not None:
        about["feedback"] = channel.feedback.kind
    parts = [f"delay {link.delay}"] if link.delay else []
    parts += [f"drop {link.drop:g}"] if link.drop else []
    parts += [f"noise {link.noise:g}"] if link.noise else []
    parts += [f"{link.bits} bits"] if link.bits else []
    parts += [f"rate {link.rate:g}"] if link.rate < 1 else []
    about["link"] = ", ".join(parts) or "at once, nothing lost"
    if channel.read != "last":
        about["read"] = channel.read
    return about


def _gradient(channel: ChannelSpec) -> str:
    gradient = channel.gradient
    parts: list[str] = [name_of(gradient.kind)]
    parts += [f"target {gradient.own_target}"] if gradient.own_target else []
    parts += [f"given {', '.join(gradient.context)}"] if gradient.context else []
    parts += ["at every site"] if channel.at_sites(gradient) else []
    parts += [f"scale {gradient.scale:g}"] if gradient.scale != 1 else []
    parts += ["trained but not used"] if not gradient.apply else []
    return ", ".join(parts)
