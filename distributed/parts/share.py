"""What of a scenario, and of its states, is one part's; and the states of all parts as that of the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import nn

from antiphon.distributed.parts.placement import Placement
from antiphon.engine.heart.system import System
from antiphon.engine.state.state_dict import OBJECTS
from antiphon.engine.state.trees import Tree, renumbered
from antiphon.nets.user_module import meta_copy
from antiphon.scenarios import Scenario

_OWNERS = {
    "learners": "agent",
    "agents": "agent",
    OBJECTS: "agent",
    "predictors": "outbox",
    "inputs": "inbox",
}
"""What of a system's state is by name, and which part has it: the agent's, or that of an end of the channel."""


def part_of(system: System, placement: Placement, index: int) -> System:
    """Return the agents of one part, as a system that shares them with the whole one."""
    agents = {name: agent for name, agent in system.agents.items() if placement[name] == index}
    halves = {
        channel.name: channel
        for agent in agents.values()
        for channel in (*agent.connections.outgoing, *agent.connections.incoming)
    }
    channels = {
        name: halves.get(name, channel)
        for name, channel in system.channels.items()
        if agents.keys() & {channel.sender, channel.receiver}
    }
    remote_parts = {
        name: placement[channel.receiver if channel.sender in agents else channel.sender]
        for name, channel in channels.items()
        if placement[channel.sender] != placement[channel.receiver]
    }
    waves = [[call for call in wave if call[0] in agents] for wave in system.schedule.waves]
    return replace(
        system,
        agents=agents,
        channels=channels,
        groups=[group for group in system.groups if group.agent_names[0] in agents],
        schedule=replace(
            system.schedule, clocks={name: agent.clock for name, agent in agents.items()}, waves=waves
        ),
        remote_parts=remote_parts,
    )


@dataclass(frozen=True)
class Share:
    """The agents of a part and its ends of channels.

    Attributes:
        ends: Which ends of each of its channels are its own, `inbox` or `outbox`, in order.
        groups: Places of its learning groups among all of them.
        order: All agents and all channels, in canonical order.
    """

    agents: frozenset[str]
    ends: Mapping[str, list[str]]
    groups: tuple[int, ...]
    order: Mapping[str, list[str]]

    @classmethod
    def of(cls, system: System, placement: Placement, index: int) -> Self:
        part_system = part_of(system, placement, index)
        return cls(
            frozenset(part_system.agents),
            {
                name: [
                    end
                    for end, agent in (("inbox", channel.receiver), ("outbox", channel.sender))
                    if agent in part_system.agents
                ]
                for name, channel in part_system.channels.items()
            },
            tuple(i for i, group in enumerate(system.groups) if group in part_system.groups),
            {"agents": list(system.agents), "channels": list(system.channels)},
        )

    def state(self, full_state: Mapping[str, Any]) -> Tree:
        """Return this part's share of the state of a whole simulation (`LiveSystem.state_dict`), without copying a tensor."""
        system = dict(full_state["system"])
        for key, owner in _OWNERS.items():
            own = (
                self.agents
                if owner == "agent"
                else {name for name, ends in self.ends.items() if owner in ends}
            )
            if key in system:
                system[key] = {name: state for name, state in system[key].items() if name in own}
        system["groups"] = [system["groups"][i] for i in self.groups]
        system["wires"] = {name: dict(system["wires"][name]) for name in self.ends}
        for name, ends in self.ends.items():
            wire = system["wires"][name]
            if "inbox" not in ends:
                wire["inbox"] = {**wire["inbox"], "messages": []}
            if "outbox" not in ends:
                wire["outbox"] = {**wire["outbox"], "sent": [], "back": []}
        return {**full_state, "system": system}


def scenario_of_part(scenario: Scenario, placement: Placement, index: int) -> Scenario:
    """Return a scenario whose modules take no memory where another part computes them; `index` -1: none of them does."""

    def of_part(spec: Any, agent: str) -> Any:
        if placement[agent] == index:
            return spec
        modules = {
            name: meta_copy(module) for name, module in vars(spec).items() if isinstance(module, nn.Module)
        }
        return spec.model_copy(update=modules)

    channels = []
    for spec in scenario.channels:
        predictors = {"gradient": of_part(spec.gradient, spec.sender)}
        if spec.input is not None:
            predictors["input"] = of_part(spec.input, spec.receiver)
        channels.append(spec.model_copy(update=predictors))
    agents = {name: of_part(spec, name) for name, spec in scenario.agents.items()}
    reduced = scenario.model_copy(update={"agents": agents, "channels": tuple(channels)})
    derived = vars(reduced).keys() - type(reduced).model_fields.keys()  # of the others
    for name in derived:
        del vars(reduced)[name]
    return reduced


def merge_states(states: Sequence[Mapping[str, Any]], shares: Sequence[Share]) -> Tree:
    """Return the state of the whole (`LiveSystem.state_dict`) of those of all parts in order, everything delivered."""
    systems, order = [state["system"] for state in states], shares[0].order

    def union(mappings: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Tree:
        values = {name: value for mapping in mappings for name, value in mapping.items()}
        return {name: values[name] for name in names if name in values}

    signals: dict[int, Tree] = {}
    for system in systems:
        for step, values in system["signals"]:
            signals.setdefault(step, {}).update(values)
    numbers = {step: number for number, step in enumerate(signals)}
    groups: dict[int, Any] = {}
    wires: dict[str, Tree] = {name: {} for name in order["channels"]}
    for share, system in zip(shares, systems, strict=True):
        among_all = [numbers[step] for step, _ in system["signals"]]
        groups |= zip(share.groups, renumbered(system["groups"], among_all), strict=True)
        wires_of_part = renumbered(system["wires"], among_all)
        for name, ends in share.ends.items():
            wires[name] |= {end: wires_of_part[name][end] for end in ends}
    merged = dict(systems[0])
    for key, owner in _OWNERS.items():
        if any(key in system for system in systems):
            names = order["agents" if owner == "agent" else "channels"]
            merged[key] = union([system.get(key, {}) for system in systems], names)
    merged |= {
        "wires": wires,
        "groups": [groups[number] for number in sorted(groups)],
        "signals": [[step, values] for step, values in signals.items()],
    }
    newest: Tree = {}
    for state in states:
        for kind, metrics_by_name in state["newest"].items():
            for name, metrics in metrics_by_name.items():
                newest.setdefault(kind, {}).setdefault(name, {}).update(metrics)
    means = union([state["means"] for state in states], [*order["agents"], *order["channels"]])
    return {**states[0], "means": means, "newest": newest, "system": merged}
