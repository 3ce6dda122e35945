"""Descriptions of a run for recorders: the graph of agents and channels, with the words that explain each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from antiphon.base.extensions import name_of
from antiphon.comms.read_modes import READ_MODES
from antiphon.scenarios import AgentSpec, ChannelSpec, Scenario
from antiphon.scenarios.agent_specs import NetworkSpec
from antiphon.scenarios.optimiser_spec import OptimiserSpec
from antiphon.scenarios.relations import Relations
from antiphon.scenarios.tied_parameters import agent_and_parameter
from antiphon.telemetry.metrics import RunDescription
from antiphon.telemetry.timeline_text import Timeline

if TYPE_CHECKING:
    import networkx as nx


def describe_run(
    scenario: Scenario,
    facts: Mapping[str, Any],
    *,
    document: str = "",
    start: int = 0,
    until: int | None = None,
    timeline: Timeline | None = None,
) -> RunDescription:
    """Return the description that recorders receive before the first metrics.

    Args:
        start: Steps done before this session.
        until: The step it stops at; None: the scenario's last.
    """
    graph = graph_of(scenario)
    for name, part in (facts.get("parts") or {}).get("placement", {}).items():
        graph.nodes[name]["part"] = part
    values = {name: facts.get(name) for name in ("scenario", "variant", "seed")}
    for name, value in (facts.get("values") or {}).items():  # a parameter may be called as one of these is
        values[f"parameter.{name}" if name in values else name] = value
    hparams = {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in values.items()
        if value is not None
    }
    return RunDescription(
        yaml=document,
        hparams=hparams,
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
    import networkx as nx

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


def _leaves(key: str, settings: Any) -> Iterator[tuple[str, str]]:
    """Yield the single settings within settings as texts, by their place; of a Python object its type."""
    if isinstance(settings, Mapping):
        for name, inner in settings.items():
            yield from _leaves(f"{key}.{name}", inner)
    else:
        yield key, json.dumps(settings, default=lambda value: type(value).__name__)


def _own_optimiser(key: str, optimiser: OptimiserSpec | None) -> dict[str, str]:
    """Return the settings of an optimiser of an agent's or predictor's own in words, by its key; nothing where there is none."""
    if optimiser is None:
        return {}
    settings = _leaves("", optimiser.model_dump(exclude_none=True))
    return {
        key: ", ".join(f"{name[1:]} {value}".replace('"', "") for name, value in settings if value != "[]")
    }


def about_agent(scenario: Scenario, name: str) -> dict[str, str]:
    agent = scenario.agents[name]
    clock = agent.clock
    about = {
        "network": _network(agent),
        "observes": agent.in_words or "nothing",
        "objective": " + ".join(goal.in_words for goal in agent.objectives.values()) or "none",
        "ticks": "every step" if clock.period == 1 else f"every {clock.period}, phase {clock.phase}",
        "learns": _learning(scenario, name),
    }
    about |= _own_optimiser("optimiser", agent.optimiser)
    if agent.categories != "one_hot":
        about["categories"] = f"classes enter as {agent.categories}"
    if agent.acts:
        about["acts"] = "its output is the environment's action"
    if agent.share is not None:
        about["shares"] = f"its parameters with group {agent.share}"
    ties = [
        tie for tie in scenario.share if any(agent_and_parameter(tied_name)[0] == name for tied_name in tie)
    ]
    if ties:
        about["tied"] = ", ".join(" = ".join(tie) for tie in ties)
    return about


def _network(spec: AgentSpec) -> str:
    """Return the kind and the sizes of an agent's network: `mlp 64`; `mlp 64, critic mlp 32 of state` with a critic."""
    critic = spec.critic
    seen = "" if critic is None else f", critic {_layers(critic.network)} of {critic.in_words}"
    if spec.layers is not None:
        return _layers(spec.layers) + seen
    return (name_of(spec.network.kind) if isinstance(spec.network, NetworkSpec) else "Python") + seen


def _layers(network: NetworkSpec) -> str:
    hidden = ", ".join(map(str, network.get("hidden", ())))
    if network.recurrent:
        return f"{network.kind} {network.get('size')}" + (f" behind {hidden}" if hidden else "")
    return f"{network.kind} {hidden}" if hidden else network.without_layers or network.kind


def _learning(scenario: Scenario, name: str) -> str:
    """Return when an agent learns: `every 4 ticks, with probability 0.5`; locked to others, by the window of all."""
    spec = scenario.agents[name]
    if not spec.learn:
        return "never"
    unroll: int | str = spec.clock.unroll
    when = "tick" if unroll == 1 else unroll if isinstance(unroll, str) else f"{unroll} ticks"
    if name in scenario.locked_agents:
        window = scenario.windows[name]
        if window != scenario.window([name]):
            when = window if isinstance(window, str) else f"{window} steps"
    return f"every {when}" + (f", with probability {spec.p_update:g}" if spec.p_update != 1 else "")


def about_channel(channel: ChannelSpec, relations: Relations) -> dict[str, str]:
    """Return a channel of a graph in words, by heading."""
    link = channel.link
    about: dict[str, str] = {}
    if channel.state:
        about["carries"] = "the state to the next tick"
    if channel.sample is not None:
        about["message"] = channel.sample.in_words
    if channel.written_coupling.in_words != channel.coupling.name:
        about["coupling"] = channel.written_coupling.in_words
    predicted = channel.coupling.predicts
    if predicted:
        gradient = channel.gradient
        parts: list[str] = [name_of(gradient.kind)]
        parts += [f"target {gradient.own_target}"] if gradient.own_target else []
        if not gradient.own_target:
            named = relations.context(channel)
            parts += [f"given {', '.join(named)}" if named else "no context"]
        parts += ["at every site"] if channel.at_sites(gradient) else []
        parts += [f"scale {gradient.scale:g}"] if gradient.scale != 1 else []
        parts += ["trained but not used"] if not gradient.apply else []
        parts += ["applied as far as it predicts"] if relations.gated(channel) else []
        parts += ["in all passes of the receiver"] if channel.replayed else []
        about["gradient"] = ", ".join(parts)
        about |= _own_optimiser("gradient.optimiser", gradient.optimiser)
    if predicted and channel.input is not None:
        context = ", ".join(channel.input.context)
        about["input"] = name_of(channel.input.kind) + (f", given {context}" if context else "")
        about["input"] += ", at every site" if channel.at_sites(channel.input) else ""
        about |= _own_optimiser("input.optimiser", channel.input.optimiser)
    parts = [f"delay {link.delay}"] if link.delay else []
    parts += [f"drop {link.drop:g}"] if link.drop else []
    parts += [f"noise {link.noise:g}"] if link.noise else []
    parts += [f"{link.bits} bits"] if link.bits else []
    parts += [f"back {link.back}"] if link.back not in (None, link.delay) else []
    parts += [f"sent where {channel.mask}"] if channel.mask else []
    about["link"] = ", ".join(parts) or "no delay, no loss"
    if not READ_MODES[channel.read].newest_only:
        about["read"] = channel.read
    return about
