"""What of a scenario, and of its states, is one part's: what a process needs that computes this part alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from antiphon.distributed.parts.halves import part_of
from antiphon.distributed.parts.placement import Placement
from antiphon.engine.heart.system import System
from antiphon.engine.state.objects import OBJECTS
from antiphon.engine.state.trees import Tree
from antiphon.nets.user_module import meta_copy
from antiphon.scenarios import Scenario

_BY_AGENT = ("learners", "agents")
END = {"sender": "outbox", "receiver": "inbox"}
"""What of a channel is at each of its ends."""


@dataclass(frozen=True)
class Share:
    """The agents of a part and its ends of channels.

    Attributes:
        ends: Which ends of each of its channels are its own, `receiver` or `sender`, in order.
        groups: Places of its learning groups among all of them.
        order: All agents and all channels, in canonical order.
    """

    index: int
    agents: frozenset[str]
    ends: Mapping[str, list[str]]
    groups: tuple[int, ...]
    order: Mapping[str, list[str]]

    @classmethod
    def of(cls, system: System, placement: Placement, index: int) -> Self:
        part_system = part_of(system, placement, index)
        agents_by_channel = {
            name: {"receiver": channel.receiver, "sender": channel.sender}
            for name, channel in part_system.channels.items()
        }
        return cls(
            index,
            frozenset(part_system.agents),
            {
                name: [end for end, agent in agents_at_ends.items() if agent in part_system.agents]
                for name, agents_at_ends in agents_by_channel.items()
            },
            tuple(i for i, group in enumerate(system.groups) if group in part_system.groups),
            {"agents": list(system.agents), "channels": list(system.channels)},
        )

    def state(self, full_state: Mapping[str, Any]) -> Tree:
        """Return this part's share of the state of a whole simulation (`LiveSystem.state_dict`), without copying a tensor."""
        system = dict(full_state["system"])
        for key in _BY_AGENT:
            system[key] = {
                name: state_of_agent for name, state_of_agent in system[key].items() if name in self.agents
            }
        for key, end in (("predictors", "sender"), ("inputs", "receiver")):
            held_channels = {name for name, ends in self.ends.items() if end in ends}
            system[key] = {name: state for name, state in system[key].items() if name in held_channels}
        if OBJECTS in system:
            system[OBJECTS] = {
                name: state_of_objects
                for name, state_of_objects in system[OBJECTS].items()
                if name in self.agents
            }
        system["groups"] = [system["groups"][i] for i in self.groups]
        system["wires"] = {name: dict(system["wires"][name]) for name in self.ends}
        for name, ends in self.ends.items():
            wire = system["wires"][name]
            if "receiver" not in ends:
                wire["inbox"] = {**wire["inbox"], "messages": []}
            if "sender" not in ends:
                wire["outbox"] = {**wire["outbox"], "sent": [], "back": []}
        return {**full_state, "system": system, "part": {"index": self.index}}


def scenario_of_part(scenario: Scenario, placement: Placement, index: int) -> Scenario:
    """Return a scenario whose modules take no memory where another part computes them; `index` -1: none of them does."""

    def of_part(spec: Any, agent: str) -> Any:
        """A specification with modules for where an agent is computed."""
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
        channels.append(
            spec.model_copy(
                update={
                    key: predictor for key, predictor in predictors.items() if predictor != getattr(spec, key)
                }
            )
        )
    agents = {name: of_part(spec, name) for name, spec in scenario.agents.items()}
    reduced = scenario.model_copy(update={"agents": agents, "channels": tuple(channels)})
    for name in (
        vars(reduced).keys() - type(reduced).model_fields.keys()
    ):  # what has been derived of the others
        del vars(reduced)[name]
    return reduced
