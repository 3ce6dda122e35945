"""Stacking: the system of single agents that a scenario declares, as one of stacks.

Agents of one kind become a stack, and channels of one kind between two stacks. What has no second of its kind, or cannot
be stacked, is a stack of one.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise

import networkx as nx
import torch
from torch import Tensor

from antiphon.agents.learner import StackedLearner
from antiphon.comms.links import FanIn, InputSegment, StackedFanIn, StackedLinks
from antiphon.comms.model import Model
from antiphon.comms.outliers import BundledOutliers, Outliers
from antiphon.comms.stacked import StackedModels
from antiphon.engine.build.similarity import agent_kind, channel_kind, place_of, reasons_alone
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import Ledger
from antiphon.engine.core.rows import Replicas
from antiphon.engine.core.system import LearningGroup, Schedule, System

__all__ = ["Stacked", "stack", "stacks_of"]


@dataclass(frozen=True)
class Stacked:
    """A system of stacks, and the single agents it is made of.

    Attributes:
        base: The single agents and channels; their parameters are views of the stacked ones.
        system: The stacks.
        place: By agent: its stack, and its place there.
        alone: By agent, why it is a stack of one.
    """

    base: System
    system: System
    place: dict[str, tuple[str, int]]
    alone: dict[str, str]
    _places: dict[str, tuple[Channel, int]] = field(default_factory=dict)

    def channel_of(self, name: str) -> tuple[Channel, int]:
        """The stack that a channel is in, and its place there."""
        if not self._places:
            self._places.update(
                (own, (channel, k))
                for channel in self.system.channels.values()
                for k, own in enumerate(channel.names)
            )
        return self._places[name]

    @classmethod
    def of_single_agents(cls, base: System) -> Stacked:
        """Every agent as a stack of one."""
        return cls(base, base, {name: (name, 0) for name in base.agents}, {})


def stacks_of(system: System) -> tuple[list[list[Agent]], dict[str, str]]:
    """The stacks of a system, in canonical order, and by agent why some are alone.

    An agent without a second of its kind is a stack with a leading axis all the same where many channels of one kind lead
    to it, which come as one stack.
    """
    reasons = reasons_alone(system)
    waves = {name: i for i, wave in enumerate(system.schedule.waves) for call in wave for name in call}
    kinds: dict[Hashable, list[Agent]] = {}
    for name, agent in system.agents.items():
        kind: Hashable = name if name in reasons else agent_kind(system, agent, waves[name])
        kinds.setdefault(kind, []).append(agent)
    for members in kinds.values():
        name = members[0].name
        if len(members) == 1 and name not in reasons and not _reads_a_stack(system, members[0]):
            reasons[name] = "no other is like it"
    return list(kinds.values()), reasons


def _reads_a_stack(system: System, agent: Agent) -> bool:
    kinds = [channel_kind(system, channel) for channel in agent.inputs]
    return len(kinds) > len(set(kinds))


def stack(base: System) -> Stacked:
    """Make a system of stacks."""
    found, alone = stacks_of(base)
    place: dict[str, tuple[str, int]] = {}
    agents: dict[str, Agent] = {}
    for members in found:
        first = members[0].name
        name = f"{first} and {len(members) - 1} more" if len(members) > 1 else first
        agents[name] = _rewired(members[0]) if first in alone else _stack_agents(name, members, base)
        place |= {agent.name: (name, i) for i, agent in enumerate(members)}
    channels = _Channels(base, place, agents).stack()
    groups = _groups(base, place)
    waves = []
    for wave in base.schedule.waves:
        calls = [
            tuple(dict.fromkeys(place[name][0] for name in call))
            if agents[place[call[0]][0]].stacked
            else call
            for call in wave
        ]
        waves.append(list(dict.fromkeys(calls)))
    clocks = {name: agent.clock for name, agent in agents.items()}
    system = System(
        agents,
        channels,
        groups,
        Schedule(clocks, waves, groups),
        base.description,
        base.batch,
        base.dtype,
        base.device,
        base.divergence,
        base.actor,
        base.episode,
        base.replicas,
    )
    return Stacked(base, system, place, alone)


def _index(places: list[int], count: int, device: torch.device) -> Tensor | None:
    """Places as an index tensor; None where it would be the identity."""
    return None if places == list(range(count)) else torch.tensor(places, device=device)


def _replicas(base: System, agents: Sequence[str]) -> Replicas:
    each = [base.replica_of.get(name, 0) for name in agents]
    return Replicas(each, base.replicas, base.batch, base.device)


# --- agents ----------------------------------------------------------------------------------------------


def _rewired(agent: Agent) -> Agent:
    """A lone agent without its channels, which may become stacks; its parameters are the same tensors."""
    twin = copy.copy(agent)
    twin.inputs, twin.outputs, twin.memory, twin._ports = [], [], None, None
    twin.members = (agent,)
    return twin


def _stack_agents(name: str, members: Sequence[Agent], base: System) -> Agent:
    settings = {f.name: getattr(members[0], f.name) for f in fields(Agent) if f.init}
    learners = [agent.learner for agent in members]
    settings |= {
        "name": name,
        "inputs": [],
        "outputs": [],
        "memory": None,
        "learner": StackedLearner(learners, base.batch),
        "members": tuple(members),
        "observed": tuple(zip(*(agent.observes for agent in members), strict=True)),
        "replicas": _replicas(base, [agent.name for agent in members]),
        "participation_seeds": None,
        "_order": {},
    }
    if members[0].p_update < 1.0:
        settings["participation_seeds"] = torch.tensor([agent.participation_seed for agent in members])
    return Agent(**settings)


# --- channels --------------------------------------------------------------------------------------------


class _Channels:
    """Stacks the channels of a system whose agents have been stacked.

    Args:
        base: The single agents and channels.
        place: By agent: its stack, and its place there.
        agents: The stacks; their channels are wired here.
    """

    def __init__(self, base: System, place: dict[str, tuple[str, int]], agents: dict[str, Agent]) -> None:
        self.base, self.place, self.agents = base, place, agents

    def stack(self) -> dict[str, Channel]:
        """Make the channel stacks and wire them."""
        kinds: dict[Hashable, list[Channel]] = {}
        for name, channel in self.base.channels.items():
            sender, receiver = self._ends(channel)
            kind: Hashable = name
            if receiver.stacked and channel.coupling != "delayed":
                kind = sender.name, receiver.name, channel_kind(self.base, channel)
            kinds.setdefault(kind, []).append(channel)
        found: dict[str, Channel] = {}
        for members in kinds.values():
            made = self._channel(members)
            found[made.name] = made
            if made.state:
                self.agents[made.sender].memory = made
            else:
                self.agents[made.sender].outputs.append(made)
                self.agents[made.receiver].inputs.append(made)
        for agent in self.agents.values():
            if agent.stacked:
                agent.layout = self._layout(agent)
                if agent.align is not None:
                    agent.align = next(c.name for c in agent.inputs if agent.align in c.names)
        return found

    def _ends(self, channel: Channel) -> tuple[Agent, Agent]:
        return self.agents[self.place[channel.sender][0]], self.agents[self.place[channel.receiver][0]]

    def _channel(self, members: list[Channel]) -> Channel:
        batch = self.base.batch
        first = members[0]
        sender, receiver = self._ends(first)
        if not sender.stacked and not receiver.stacked:
            return first
        members = sorted(members, key=lambda c: self.place[c.sender][1])
        first = members[0]
        settings = {f.name: getattr(first, f.name) for f in fields(Channel)}
        settings |= {"sender": sender.name, "receiver": receiver.name}
        settings |= {"input_examples": [], "input_example_members": []}
        if sender.stacked:  # its ports have the names of its first member's
            port = place_of(first.port, sender.members[self.place[first.sender][1]].learner.network)
            settings["port"] = port if isinstance(port, str) else list(sender.learner.network.heads)[port]
        if len(members) > 1:
            settings["name"] = f"{first.name} and {len(members) - 1} more"
            settings["zeros"] = torch.cat([channel.zeros for channel in members])
            settings["ledger"] = _ledger(settings["name"], [channel.ledger for channel in members], batch)
            settings["predictor"] = _models([c.predictor for c in members], batch)
            settings["input"] = _models([c.input for c in members], batch)
            if first.outliers is not None:
                outliers = [c.outliers for c in members if isinstance(c.outliers, Outliers)]
                settings["outliers"] = BundledOutliers(outliers)
        device = first.zeros.device
        settings |= {
            "members": tuple(members),
            "take": _index([self.place[c.sender][1] for c in members], len(sender.members), device),
            "give": _index([self.place[c.receiver][1] for c in members], len(receiver.members), device),
            "senders": len(sender.members),
            "replicas": _replicas(self.base, [channel.sender for channel in members]),
        }
        return Channel(**settings)

    def _layout(self, agent: Agent) -> FanIn:
        device, count = self.base.device, len(agent.members)
        if agent.fan_in != "concat":
            give = [torch.arange(count, device=device) if c.give is None else c.give for c in agent.inputs]
            return StackedFanIn(agent.fan_in, count, self.base.batch, (), give)
        where = {
            name: (b, k) for b, channel in enumerate(agent.inputs) for k, name in enumerate(channel.names)
        }
        shapes = [(c.shape, c.slots, c.ledger.read) for c in agent.members[0].inputs]
        segments: list[InputSegment] = []
        first = 0
        while first < len(shapes):
            last = first + 1
            while last < len(shapes) and shapes[last] == shapes[first]:
                last += 1
            read = [where[c.name] for member in agent.members for c in member.inputs[first:last]]
            used = sorted({b for b, _ in read})
            start = {b: sum(len(agent.inputs[o].members) for o in used if o < b) for b in used}
            places = [start[b] + k for b, k in read]
            total = sum(len(agent.inputs[b].members) for b in used)
            segments.append(InputSegment(tuple(used), _index(places, total, device), last - first, total))
            first = last
        return StackedFanIn("concat", count, self.base.batch, segments)


def _ledger(name: str, members: Sequence[Ledger], batch: int) -> Ledger:
    ledger = copy.copy(members[0])
    ledger.name = name
    ledger.link = StackedLinks([own.link for own in members], batch)  # type: ignore[assignment]
    ledger.records, ledger.uses, ledger.returned, ledger.held_signals = {}, {}, {}, {}
    return ledger


def _models(models: Sequence[Model | None], batch: int) -> StackedModels | None:
    found = [model for model in models if isinstance(model, Model)]
    return StackedModels(found, batch) if found else None


# --- learning groups -------------------------------------------------------------------------------------


def _groups(base: System, place: dict[str, tuple[str, int]]) -> list[LearningGroup]:
    """The learning groups of the stacks: groups that share a stack are one, whose members' gradients do not mix."""
    joined: nx.Graph[str] = nx.Graph()
    for group in base.units:
        names = [place[name][0] for name in group.members]
        joined.add_nodes_from(names)
        joined.add_edges_from(pairwise(names))
    parts = {name: i for i, names in enumerate(nx.connected_components(joined)) for name in names}
    found: dict[int, LearningGroup] = {}
    members: dict[int, dict[str, None]] = {}
    for group in base.units:
        part = parts[place[group.members[0]][0]]
        members.setdefault(part, {}).update(dict.fromkeys(place[name][0] for name in group.members))
        found.setdefault(part, group)
    return [
        LearningGroup(tuple(members[part]), group.windows, late=group.late, staleness=group.staleness)
        for part, group in found.items()
    ]
