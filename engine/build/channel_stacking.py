"""Stacks of channels: those of one kind between two stacks of agents, and how agents read and send by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any

import torch
from torch import Tensor

from antiphon.base.tools import by_key
from antiphon.comms.fan_in import Segment, StackFanIn
from antiphon.comms.predictors import Model
from antiphon.engine.build.channels import connect
from antiphon.engine.build.stack_members import head_of
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel, Endpoints, PredictorContext
from antiphon.engine.heart.ends import Wire
from antiphon.engine.heart.layout import Layout, SenderRows, name_in_seed
from antiphon.engine.heart.system import System
from antiphon.engine.state.changes import read_members


@dataclass(frozen=True, slots=True)
class Position:
    """Where an agent is: in which stack, and its index there among those of its seed."""

    stack_name: str
    index: int


@dataclass(frozen=True)
class ChannelStacking:
    """Stacks the channels of a system whose agents have been stacked into `agents`, and wires them.

    Attributes:
        bases: The single agents and channels of each seed; of a part, its own and those that begin or end at them.
        positions: By agent.
        agents: The stacks.
        families: The channels that are stacked where all agents are in one system, of one seed.
        whole_index: By agent: its index in its stack there, among those of its seed.
        whole_size: By agent: members of its stack there, of one seed.
    """

    bases: Sequence[System]
    positions: Mapping[str, Position]
    agents: dict[str, Agent]
    families: Sequence[Sequence[Channel]]
    whole_index: Mapping[str, int]
    whole_size: Mapping[str, int]

    @property
    def base(self) -> System:
        return self.bases[0]

    def stack(self) -> dict[str, Channel]:
        stacks: dict[str, Channel] = {}
        for family in self.families:
            ordered = sorted(family, key=lambda channel: self.whole_index[channel.sender])
            pieces = [self._channel(members, family) for members in self._pieces(ordered)]
            self._join_senders(pieces, ordered)
            for channel in pieces:
                stacks[channel.name] = channel
                connect(channel, self.agents)
        for agent in self.agents.values():
            if agent.has_member_axis:
                agent.inputs.fan_in = self._fan_in(agent)
                if agent.inputs.align_channel_name is not None:
                    incoming, align = agent.connections.incoming, agent.inputs.align_channel_name
                    agent.inputs.align_channel_name = next(
                        stack.name
                        for stack in incoming
                        if any(member.name == align for member in stack.members)
                    )
        return stacks

    def _pieces(self, family: Sequence[Channel]) -> list[list[Channel]]:
        """The channels of a family in this system, in the family's order: those within, and those cut, by the other end."""
        here = (channel for channel in family if channel.name in self.base.channels)
        ends = (((c.sender in self.positions, self.base.remote_parts.get(c.name)), c) for c in here)
        return list(by_key(ends).values())

    def _join_senders(self, pieces: Sequence[Channel], family: Sequence[Channel]) -> None:
        """Let the pieces of a family whose senders are in this system select their rows at once."""
        sent = [piece for piece in pieces if piece.sender in self.agents]
        if len(sent) < 2:
            return
        # of one seed: those of several are never cut
        sent_names = {name for piece in sent for name in piece.member_names}
        members = [channel for channel in family if channel.name in sent_names]
        device = sent[0].content.zeros.device
        index_by_channel = {channel.name: i for i, channel in enumerate(members)}
        senders = [self.positions[channel.sender].index for channel in members]
        rows_by_piece = {
            piece.name: torch.tensor([index_by_channel[name] for name in piece.member_names], device=device)
            for piece in sent
        }
        sender_count = sent[0].endpoints.sender_count
        rows = SenderRows(_index(senders, sender_count, device), rows_by_piece, sender_count)
        for piece in sent:
            piece.endpoints.sender_rows = rows

    def _selects(self, family: Sequence[Channel]) -> bool:
        """Whether the messages of a whole family are rows selected of their senders' port, not the port itself.

        Autograd adds up what comes back to a port in another order where it is itself the message.
        """
        indices = sorted(self.whole_index[channel.sender] for channel in family)
        return indices != list(range(self.whole_size[family[0].sender]))

    def _channel(self, channels: Sequence[Channel], family: Sequence[Channel]) -> Channel:
        batch, stacked = self.base.batch, len(family) * len(self.bases) > 1
        members = [
            *channels,
            *(base.channels[channel.name] for base in self.bases[1:] for channel in channels),
        ]
        first = members[0]
        device = first.content.zeros.device
        settings: dict[str, Any] = {"members": tuple(members)}
        of_content: dict[str, Any] = {}
        sender_index, receiver_index, sender_count = None, None, 1
        of_gradient: dict[str, Any] = {}
        of_input: dict[str, Any] = {"examples": []}
        settings["layout"] = Layout(len(members), len(self.bases), batch, device, has_member_axis=stacked)
        if first.sender in self.positions:
            sender = self.agents[self.positions[first.sender].stack_name]
            indices = _indices_in(sender, [self.positions[c.sender].index for c in channels])
            settings["sender"] = sender.name
            sender_count = len(sender.members)
            index = _index(indices, len(sender.members), device)
            selects = index is None and self._selects(family)
            sender_index = torch.tensor(indices, device=device) if selects else index
            if sender.has_member_axis:  # its ports have the names of its first member's
                port = head_of(first.content.port_name, sender.members[indices[0]].learner.network)
                of_content["port_name"] = (
                    port if isinstance(port, str) else list(sender.learner.network.heads)[port]
                )
        if first.receiver in self.positions:
            receiver = self.agents[self.positions[first.receiver].stack_name]
            indices = _indices_in(receiver, [self.positions[c.receiver].index for c in channels])
            settings["receiver"] = receiver.name
            receiver_index = _index(indices, len(receiver.members), device)
        settings["endpoints"] = Endpoints(sender_index, receiver_index, sender_count, sender_rows=None)
        name = f"{first.name} and {len(members) - 1} more" if len(members) > 1 else first.name
        settings["wire"] = _wire(name, [channel.wire for channel in members])
        if stacked:
            settings["name"] = name
            zeros = first.content.zeros.new_zeros(())
            of_content["zeros"] = zeros.expand(len(members) * batch, first.content.size)
            if first.sender in self.positions:  # elsewhere a predictor is computed there, and so for an input
                of_gradient["model"] = _stacked([c.synthetic_gradient.model for c in members])
                of_gradient["context"] = _context(channels, device)
            if first.receiver in self.positions:
                of_input["model"] = _stacked([c.synthetic_input.model for c in members])
            if first.content.sampler is not None:
                samplers = [c.content.sampler for c in members if c.content.sampler is not None]
                of_content["sampler"] = first.content.sampler.stack(samplers)
        settings["content"] = replace(first.content, **of_content)
        settings["synthetic_gradient"] = replace(first.synthetic_gradient, **of_gradient)
        settings["synthetic_input"] = replace(first.synthetic_input, **of_input)
        stack = replace(first, **settings)
        if len(self.bases) > 1:
            read_members(stack)
        return stack

    def _fan_in(self, agent: Agent) -> StackFanIn:
        position_by_channel = {
            name: (b, k)
            for b, stack in enumerate(agent.connections.incoming)
            for k, name in enumerate(stack.member_names)
        }
        shapes = [(c.content.shape, c.wire.timetable.slots) for c in agent.members[0].connections.incoming]
        segments: list[Segment] = []
        first = 0
        for _, equal in groupby(shapes):
            last = first + len(list(equal))
            positions = [
                position_by_channel[name_in_seed(c.name, agent.layout.seed_of(n), agent.layout.seed_count)]
                for n, member in enumerate(agent.members)
                for c in member.connections.incoming[first:last]
            ]
            used = sorted({b for b, _ in positions})
            *starts, total = accumulate((len(agent.connections.incoming[b].members) for b in used), initial=0)
            start = dict(zip(used, starts, strict=True))
            indices = [start[b] + k for b, k in positions]
            segments.append(
                Segment(tuple(used), _index(indices, total, self.base.device), total, last - first)
            )
            first = last
        return StackFanIn(len(agent.members), segments)


def _wire(name: str, members: Sequence[Wire]) -> Wire:
    link = members[0].link
    if len(members) > 1:
        link = replace(link, members=tuple(wire.link for wire in members))
    return Wire.of(members[0], name=name, link=link)


def _stacked(models: Sequence[Model | None]) -> Model | None:
    present = [model for model in models if model is not None]
    return Model.stacked(present) if present else None


def _context(channels: Sequence[Channel], device: torch.device) -> PredictorContext:
    """What the synthetic gradients of channels of one seed see: all that any of them does, and which columns are of each."""
    contexts = [channel.synthetic_gradient.context for channel in channels]
    specs = tuple(dict.fromkeys(spec for context in contexts for spec in context.signal_specs))
    if all(context.signal_specs == specs for context in contexts):
        return contexts[0]
    starts = dict(zip(specs, accumulate((spec.features for spec in specs), initial=0), strict=False))
    columns = [
        [starts[spec] + column for spec in context.signal_specs for column in range(spec.features)]
        for context in contexts
    ]
    return replace(contexts[0], signal_specs=specs, columns=torch.tensor(columns, device=device))


def _indices_in(stack: Agent, of_seed: Sequence[int]) -> list[int]:
    layout = stack.layout
    return [seed * layout.members_per_seed + index for seed in range(layout.seed_count) for index in of_seed]


def _index(indices: list[int], count: int, device: torch.device) -> Tensor | None:
    """Indices as a tensor; None where it would be the identity."""
    return None if indices == list(range(count)) else torch.tensor(indices, device=device)
