"""Stacks of channels: those of one kind between two stacks of agents, and how agents read and send by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TypeVar

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

Kind = TypeVar("Kind", bound=Model)


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
            if agent.layout.has_member_axis:
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
        here = (channel for channel in family if channel.name in self.bases[0].channels)
        ends = (((c.sender in self.positions, self.bases[0].remote_parts.get(c.name)), c) for c in here)
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
        members = [*channels, *(base.channels[c.name] for base in self.bases[1:] for c in channels)]
        first, stacked = members[0], len(family) * len(self.bases) > 1
        content, gradient = first.content, first.synthetic_gradient
        synthetic_input, device = replace(first.synthetic_input, examples=[]), content.zeros.device
        sender_name, receiver_name, link = first.sender, first.receiver, first.wire.link
        layout = Layout(len(members), len(self.bases), self.bases[0].batch, device, has_member_axis=stacked)
        if stacked:
            zeros = content.zeros.new_zeros(()).expand(len(members) * layout.batch, content.size)
            samplers = [c.content.sampler for c in members if c.content.sampler is not None]
            sampler = samplers[0].stack(samplers) if samplers else None
            content = replace(content, zeros=zeros, sampler=sampler)
        endpoints = Endpoints(None, None, sender_count=1, sender_rows=None)
        if sender_name in self.positions:
            sender = self.agents[self.positions[sender_name].stack_name]
            indices = _indices_in(sender, [self.positions[c.sender].index for c in channels])
            sender_name, endpoints.sender_count = sender.name, len(sender.members)
            endpoints.sender_index = _index(indices, len(sender.members), device)
            if endpoints.sender_index is None and self._selects(family):
                endpoints.sender_index = torch.tensor(indices, device=device)
            if sender.layout.has_member_axis:  # its ports have the names of its first member's
                port = head_of(content.port_name, sender.members[indices[0]].learner.network)
                port = port if isinstance(port, str) else list(sender.learner.network.heads)[port]
                content = replace(content, port_name=port)
            if stacked:  # elsewhere a predictor is computed there, and so for an input
                model = _stacked([c.synthetic_gradient.model for c in members])
                gradient = replace(gradient, model=model, context=_context(channels, device))
        if receiver_name in self.positions:
            receiver = self.agents[self.positions[receiver_name].stack_name]
            indices = _indices_in(receiver, [self.positions[c.receiver].index for c in channels])
            receiver_name = receiver.name
            endpoints.receiver_index = _index(indices, len(receiver.members), device)
            if stacked:
                synthetic_input.model = _stacked([c.synthetic_input.model for c in members])
        name = first.name
        if len(members) > 1:
            name = f"{name} and {len(members) - 1} more"
            link = replace(link, members=tuple(channel.wire.link for channel in members))
        stack = replace(
            first,
            name=name,
            sender=sender_name,
            receiver=receiver_name,
            members=tuple(members),
            layout=layout,
            endpoints=endpoints,
            content=content,
            wire=Wire.of(first.wire, name=name, link=link),
            synthetic_gradient=gradient,
            synthetic_input=synthetic_input,
        )
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
                Segment(tuple(used), _index(indices, total, self.bases[0].device), total, last - first)
            )
            first = last
        return StackFanIn(len(agent.members), segments)


def _stacked(models: Sequence[Kind | None]) -> Kind | None:
    present = [model for model in models if model is not None]
    return type(present[0]).stacked(present) if present else None


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
