"""Lifting: from the system of a scenario to one of cohorts and bundles."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise

import networkx as nx
import torch
from torch import Tensor

from antiphon.comms.bundled import BundledOutliers
from antiphon.comms.model import Model
from antiphon.engine.cohort.learner import StackedLearner
from antiphon.engine.cohort.likeness import agent_kind, channel_kind, place_of, reasons_alone
from antiphon.engine.cohort.mailbox import Mailbox, Segment
from antiphon.engine.cohort.models import Models
from antiphon.engine.cohort.parts import Bundle, Cohort, Links, Replicas
from antiphon.engine.cohort.spans import width_of
from antiphon.engine.core.parts import Agent, Channel, LearningGroup
from antiphon.engine.core.schedule import Schedule
from antiphon.engine.core.system import System

__all__ = ["Lifted", "lift"]


@dataclass(frozen=True)
class Lifted:
    """A system of cohorts and bundles, and what it was made from.

    Attributes:
        base: One agent at a time.
        system: What is run: cohorts, bundles, and what stands alone.
        place: By agent: the name it is run under, and its place there.
        alone: By agent, why it is run as itself.
    """

    base: System
    system: System
    place: dict[str, tuple[str, int]]
    alone: dict[str, str]

    @property
    def cohorts(self) -> list[Cohort]:
        """The cohorts, in canonical order."""
        return [agent for agent in self.system.agents.values() if isinstance(agent, Cohort)]

    @property
    def bundles(self) -> list[Bundle]:
        """The bundles, in canonical order."""
        return [channel for channel in self.system.channels.values() if isinstance(channel, Bundle)]


def groups(system: System) -> tuple[list[list[Agent]], dict[str, str]]:
    """Return who is run together, in canonical order, and by agent why some stand alone.

    What has no second of its kind is run as itself, unless many alike lead to it, which come as one bundle.
    """
    reasons = reasons_alone(system)
    waves = {name: i for i, wave in enumerate(system.schedule.waves) for call in wave for name in call}
    kinds: dict[Hashable, list[Agent]] = {}
    for name, agent in system.agents.items():
        kind: Hashable = name if name in reasons else agent_kind(system, agent, waves[name])
        kinds.setdefault(kind, []).append(agent)
    for members in kinds.values():
        name = members[0].name
        if len(members) == 1 and name not in reasons and not _many_alike(system, members[0]):
            reasons[name] = "no other is like it"
    return list(kinds.values()), reasons


def _many_alike(system: System, agent: Agent) -> bool:
    kinds = [channel_kind(system, channel) for channel in agent.inputs]
    return len(kinds) > len(set(kinds))


def lift(base: System) -> Lifted:
    """Make a system of cohorts; the agents' and channels' own numbers become views of the stacked ones."""
    found, alone = groups(base)
    place: dict[str, tuple[str, int]] = {}
    agents: dict[str, Agent] = {}
    for members in found:
        first = members[0].name
        together = first not in alone
        name = f"{first} and {len(members) - 1} more" if len(members) > 1 else first
        agents[name] = _cohort(name, members, base) if together else _as_itself(members[0])
        place |= {agent.name: (name, i) for i, agent in enumerate(members)}
    channels = _channels(base, place, agents)
    units = _units(base, place)
    waves = [
        [
            tuple(dict.fromkeys(place[name][0] for name in call)) if _told(call, place, agents) else call
            for call in wave
        ]
        for wave in base.schedule.waves
    ]
    waves = [list(dict.fromkeys(wave)) for wave in waves]
    clocks = {name: agent.clock for name, agent in agents.items()}
    system = System(
        agents,
        channels,
        units,
        Schedule(clocks, waves, units),
        base.description,
        base.batch,
        base.dtype,
        base.device,
        base.divergence,
        base.actor,
        base.episode,
        base.cache,
        base.worlds,
    )
    return Lifted(base, system, place, alone)


def _told(call: tuple[str, ...], place: dict[str, tuple[str, int]], agents: dict[str, Agent]) -> bool:
    return isinstance(agents[place[call[0]][0]], Cohort)


# --- agents ----------------------------------------------------------------------------------------------


def _as_itself(agent: Agent) -> Agent:
    """An agent with the same numbers, whose channels may be bundles."""
    twin = copy.copy(agent)
    twin.inputs, twin.outputs, twin.memory, twin._ports = [], [], None, None
    return twin


def _cohort(name: str, members: Sequence[Agent], base: System) -> Cohort:
    settings = {f.name: getattr(members[0], f.name) for f in fields(Agent) if f.init}
    settings |= {"name": name, "inputs": [], "outputs": [], "memory": None}
    settings |= {
        "learner": StackedLearner([agent.learner for agent in members], base.batch, _width(base, members))
    }
    participation_seed = torch.tensor([agent.participation_seed for agent in members])
    looks = tuple(zip(*(agent.observes for agent in members), strict=True))
    return Cohort(
        **settings,
        members=tuple(members),
        names=tuple(agent.name for agent in members),
        batch=base.batch,
        looks=looks,
        worlds=_worlds(base, [agent.name for agent in members]),
        seeds=participation_seed if members[0].p_update < 1.0 else None,
    )


def _width(base: System, members: Sequence[Agent]) -> int:
    """How many members are computed at once: all, unless what they do within a window is theirs alone."""
    first = members[0]
    joined = any(len(base.group_of[agent.name].members) > 1 for agent in members)
    joined = joined or any(channel.coupling == "locked" for channel in first.inputs)  # to itself
    if joined or first.memory is not None or base.device.type != "cpu":
        return len(members)
    learner = first.learner
    own = sum(p.numel() for p in learner.parameters.values())
    widths = [p.shape[0] for p in learner.parameters.values()]  # about what its layers say for each sample
    return width_of(
        len(members), base.nothing.element_size() * (4 * own + 3 * base.batch * sum(widths)), base.cache
    )


def _worlds(base: System, agents: Sequence[str]) -> Replicas:
    each = [base.world_of.get(name, 0) for name in agents]
    return Replicas(each, base.worlds, base.batch, base.device)


# --- channels --------------------------------------------------------------------------------------------


def _channels(
    base: System, place: dict[str, tuple[str, int]], agents: dict[str, Agent]
) -> dict[str, Channel]:
    kinds: dict[Hashable, list[Channel]] = {}
    for name, channel in base.channels.items():
        sender, receiver = agents[place[channel.sender][0]], agents[place[channel.receiver][0]]
        kind: Hashable = name
        if isinstance(receiver, Cohort) and channel.coupling != "delayed":
            kind = sender.name, receiver.name, channel_kind(base, channel)
        kinds.setdefault(kind, []).append(channel)
    found: dict[str, Channel] = {}
    for members in kinds.values():
        made = _bundle(members, place, agents, base)
        found[made.name] = made
        if made.state:
            agents[made.sender].memory = made
        else:
            agents[made.sender].outputs.append(made)
            agents[made.receiver].inputs.append(made)
    for agent in agents.values():
        if isinstance(agent, Cohort):
            bundles = [bundle for bundle in agent.inputs if isinstance(bundle, Bundle)]
            agent.mailbox = _mailbox(agent, bundles, place, base)
            if agent.align is not None:
                agent.align = next(b.name for b in bundles for c in b.members if c.name == agent.align)
    return found


def _bundle(
    members: list[Channel], place: dict[str, tuple[str, int]], agents: dict[str, Agent], base: System
) -> Channel:
    batch = base.batch
    first = members[0]
    sender, receiver = agents[place[first.sender][0]], agents[place[first.receiver][0]]
    if not isinstance(sender, Cohort) and not isinstance(receiver, Cohort):
        return first
    members = sorted(members, key=lambda c: place[c.sender][1])
    many = len(members) > 1
    settings = {f.name: getattr(members[0], f.name) for f in fields(Channel) if f.init}
    settings |= {"sender": sender.name, "receiver": receiver.name, "heard": []}
    if isinstance(sender, Cohort):  # whose ports have the names of its first member's
        place_in = place_of(first.port, sender.members[place[first.sender][1]].learner.network)
        settings["port"] = (
            place_in if isinstance(place_in, str) else list(sender.learner.network.heads)[place_in]
        )
    if many:
        settings["name"] = f"{members[0].name} and {len(members) - 1} more"
        settings["zeros"] = torch.cat([channel.zeros for channel in members])
        settings["ledger"] = _ledger(settings["name"], members, batch)
        settings["predictor"] = _model([c.predictor for c in members], batch)
        settings["input"] = _model([c.input for c in members], batch)
        if first.outliers is not None:
            settings["outliers"] = BundledOutliers([c.outliers for c in members if c.outliers is not None])
    count = len(sender.members) if isinstance(sender, Cohort) else 1
    device = first.zeros.device
    return Bundle(
        **settings,
        members=tuple(members),
        batch=batch,
        take=_index([place[c.sender][1] for c in members], count, device),
        give=_index(
            [place[c.receiver][1] for c in members],
            len(receiver.members) if isinstance(receiver, Cohort) else 1,
            device,
        ),
        worlds=_worlds(base, [channel.sender for channel in members]),
        senders=count,
    )


def _ledger(name: str, members: Sequence[Channel], batch: int) -> object:
    ledger = copy.copy(members[0].ledger)
    ledger.name = name
    ledger.link = Links([channel.ledger.link for channel in members], batch)  # type: ignore[assignment]
    ledger.records, ledger.uses, ledger.returned, ledger.held_signals = {}, {}, {}, {}
    return ledger


def _model(models: Sequence[Model | None], batch: int) -> Models | None:
    found = [model for model in models if model is not None]
    return Models(found, batch) if found else None


def _index(places: list[int], count: int, device: torch.device) -> Tensor | None:
    return None if places == list(range(count)) else torch.tensor(places, device=device)


def _mailbox(
    agent: Cohort, bundles: list[Bundle], place: dict[str, tuple[str, int]], base: System
) -> Mailbox:
    device, count = base.device, len(agent.members)
    if agent.fan_in != "concat":
        give = [
            torch.arange(count, device=device) if bundle.give is None else bundle.give for bundle in bundles
        ]
        return Mailbox(agent.fan_in, count, (), give)
    where = {
        channel.name: (b, k) for b, bundle in enumerate(bundles) for k, channel in enumerate(bundle.members)
    }
    shapes = [(c.shape, c.slots, c.ledger.read) for c in agent.members[0].inputs]
    segments: list[Segment] = []
    first = 0
    while first < len(shapes):
        last = first + 1
        while last < len(shapes) and shapes[last] == shapes[first]:
            last += 1
        read = [where[c.name] for member in agent.members for c in member.inputs[first:last]]
        used = sorted({b for b, _ in read})
        start = {b: sum(len(bundles[other].members) for other in used if other < b) for b in used}
        places = [start[b] + k for b, k in read]
        total = sum(len(bundles[b].members) for b in used)
        segments.append(Segment(tuple(used), _index(places, total, device), last - first, total))
        first = last
    return Mailbox("concat", count, segments)


# --- units -----------------------------------------------------------------------------------------------


def _units(base: System, place: dict[str, tuple[str, int]]) -> list[LearningGroup]:
    """What learns together: units that share a cohort are one, whose members' gradients do not mix."""
    joined: nx.Graph[str] = nx.Graph()
    for unit in base.units:
        names = [place[name][0] for name in unit.members]
        joined.add_nodes_from(names)
        joined.add_edges_from(pairwise(names))
    parts = {name: i for i, names in enumerate(nx.connected_components(joined)) for name in names}
    found: dict[int, LearningGroup] = {}
    members: dict[int, dict[str, None]] = {}
    for unit in base.units:
        part = parts[place[unit.members[0]][0]]
        members.setdefault(part, {}).update(dict.fromkeys(place[name][0] for name in unit.members))
        found.setdefault(part, unit)
    return [
        LearningGroup(tuple(members[part]), unit.windows, late=unit.late, staleness=unit.staleness)
        for part, unit in found.items()
    ]
