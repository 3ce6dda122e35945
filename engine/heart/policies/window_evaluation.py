"""A window's ticks evaluated again, in some rows: what came from outside is constant, and what the window sent is sent again.

Rows are (member, environment) in the run; in one call a member's are (tick, environment) of the environments that are evaluated.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from antiphon.agents.network import HIDDEN, VALUE, Tensors
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.forward import ForwardPass, joined
from antiphon.engine.heart.window import Constant, CountedRead, Read, Tick, Window, WithGraph
from antiphon.nets.mask import ALL, NONE, Mask

Made = TypeVar("Made")
InStack = tuple[Tensor, int]
"""A message among those of a call, [T, K * b, …], and its place there."""


@dataclass(slots=True, eq=False)
class Block:
    """Ticks that are evaluated as one call, of agents that share their learner: those of a step, or all of the window."""

    parts: list[tuple[Agent, list[Tick]]]
    left_out: frozenset[str]
    """The linear heads that the call leaves out: those that nobody reads, and of ticks in turn those that are asked for."""
    kept: dict[Hashable, object] = field(default_factory=dict)
    """What is the same in every pass, in all rows."""

    def once(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """Return what is kept by `key`, made the first time."""
        if key not in self.kept:
            with torch.no_grad():
                self.kept[key] = make()
        return self.kept[key]  # type: ignore[return-value]


@dataclass(slots=True, eq=False)
class Pass:
    """One evaluation of a window's ticks, with its graph."""

    rows: Mapping[str, Tensor]
    """By agent, as many of each member, member by member; without an agent: all."""
    leaves: Mapping[tuple[str, int], InStack]
    """By channel and stamp, what is received of senders that are evaluated again beside the window."""
    ports: dict[str, Tensors] = field(default_factory=dict)
    """The ports that are asked for, [T, rows, …], by agent."""
    sent: dict[tuple[str, int], InStack] = field(default_factory=dict)
    """By channel and stamp, what the window has sent again."""
    calls: dict[str, list[Tensors]] = field(default_factory=lambda: defaultdict(list))
    """By agent, the ports of each call, [N * T * b, …]."""
    channel_rows: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    """By channel and end, its rows."""


class WindowEvaluation:
    """Evaluates a window again, with the running statistics of its start.

    All ticks of an agent are one call; those of agents on a circle or with a state are evaluated in turn, as are those that read
    them.

    Args:
        agents: The agents whose ticks are evaluated.
        asked: By agent, the ports that are wanted.
        sends: Channels over which is sent, beside those that the window itself reads with their graph.
    """

    def __init__(
        self,
        window: Window,
        agents: Mapping[str, Agent],
        forward_pass: ForwardPass,
        asked: Mapping[str, Sequence[str]],
        sends: Collection[str] = (),
    ) -> None:
        self._window, self._agents, self._forward_pass, self._asked = window, agents, forward_pass, asked
        self._mixes_rows = self.mixes_rows(agents)
        self._ticks: dict[str, list[Tick]] = {}
        for tick in window.ticks():
            if tick.agent_name in agents:
                self._ticks.setdefault(tick.agent_name, []).append(tick)
        channels = forward_pass.system.channels
        sent_again = {
            name: {read.channel_name for tick in ticks for read in self._live_reads(tick)}
            for name, ticks in self._ticks.items()
        }
        self._sends = {*sends, *chain.from_iterable(sent_again.values())}
        senders = {name: {channels[channel].sender for channel in own} for name, own in sent_again.items()}
        for name, own in senders.items():
            if agents[name].connections.state_channel is not None:
                own.add(name)
        self._blocks: list[Block] = []
        done = set[str]()
        while ready := [name for name in senders if name not in done and senders[name] <= done]:
            learner = agents[ready[0]].learner
            ready = [name for name in ready if agents[name].learner is learner]
            done.update(ready)
            left_out = self._left_out(agents[ready[0]], at_once=True)
            self._blocks.append(Block([(agents[name], self._ticks[name]) for name in ready], left_out))
        for call in window.ticks_by_call:
            in_turn = [(agents[t.agent_name], [t]) for t in call if t.agent_name in senders.keys() - done]
            if in_turn:
                self._blocks.append(Block(in_turn, self._left_out(in_turn[0][0], at_once=False)))

    @staticmethod
    def mixes_rows(agents: Mapping[str, Agent]) -> bool:
        """Return whether rows depend on each other, so that all are evaluated, tick by tick, and some are taken."""
        return any(agent.learner.network.row_split_obstacle() for agent in agents.values())

    def _live_reads(self, tick: Tick) -> Iterator[WithGraph]:
        """The reads, states too, that are differentiated through a sender whose ticks are evaluated."""
        state = () if tick.state_read is None else (tick.state_read,)
        for read in (*tick.reads(), *state):
            if isinstance(read, WithGraph) and self._is_live(read):
                yield read

    def evaluate(
        self,
        rows: Mapping[str, Tensor] | None = None,
        leaves: Mapping[tuple[str, int], InStack] | None = None,
    ) -> Pass:
        """Evaluate the window's ticks in some rows; None: in all."""
        this_pass = Pass(rows or {}, leaves or {})
        if self._mixes_rows:
            self._forward_pass.replay(self._window)
            for name, ports in self._asked.items():
                whole, rows_of = ports_of(self._ticks[name], ports), this_pass.rows.get(name)
                this_pass.ports[name] = {
                    port: values if rows_of is None else values[:, rows_of] for port, values in whole.items()
                }
            return this_pass
        for block in self._blocks:
            self._evaluate_block(block, this_pass)
        by_learner: dict[int, list[Agent]] = {}
        for name in self._asked:
            by_learner.setdefault(id(self._agents[name].learner), []).append(self._agents[name])
        for agents in by_learner.values():
            self._of_all_ticks(agents, this_pass)
        return this_pass

    # --- calls ---------------------------------------------------------------------------------------------

    def _evaluate_block(self, block: Block, this_pass: Pass) -> None:
        """Evaluate a block, which gives the pass its ports, and what it sends."""
        first = block.parts[0][0]
        inputs = [self._input(block, agent, ticks, this_pass) for agent, ticks in block.parts]
        states = [
            self._read(block, channel, [read for tick in ticks if (read := tick.state_read)], this_pass)
            for agent, ticks in block.parts
            if (channel := agent.connections.state_channel) is not None
        ]
        ports = first.learner.evaluate(
            self._start(first),
            joined(inputs),
            state=joined(states) if states else None,
            without=block.left_out,
        )[0]
        for (agent, ticks), own in zip(block.parts, divided(ports, [*map(len, inputs)]), strict=True):
            this_pass.calls[agent.name].append(own)
            self._send(block, agent, ticks, own, this_pass)

    def _left_out(self, agent: Agent, *, at_once: bool) -> frozenset[str]:
        system = self._forward_pass.system
        sent = {
            channel.content.port_name
            for sharing in system.agents_by_learner[system.learner_name_by_agent[agent.name]]
            for channel in sharing.connections.send_channels
            if channel.name in self._sends
        }
        asked = self._asked_of(agent) if at_once else []
        return frozenset(agent.learner.network.linear_heads.keys() - sent - {*asked})

    def _asked_of(self, agent: Agent) -> list[str]:
        """The ports that are asked for of agents with an agent's learner."""
        sharing = [name for name in self._asked if self._agents[name].learner is agent.learner]
        return [*dict.fromkeys(port for name in sharing for port in self._asked[name])]

    def _of_all_ticks(self, agents: Sequence[Agent], this_pass: Pass) -> None:
        """Give the pass the ports that are asked for of agents that share their learner, with heads and values of all ticks."""
        learner, start = agents[0].learner, self._start(agents[0])
        has_critic = agents[0].has_critic
        asked = [
            name
            for name in self._asked_of(agents[0])
            if name in learner.network.heads and not (has_critic and name == VALUE)
        ]
        late = [name for name in asked if name not in this_pass.calls[agents[0].name][0]]
        kept = [name for name in asked if name not in late] + ([HIDDEN] if late else [])
        ports = [{name: self._at_ticks(agent, name, this_pass) for name in kept} for agent in agents]
        joint = Tensors()
        if late:
            joint = learner.from_hidden(start, joined([own.pop(HIDDEN) for own in ports]), late)
        if has_critic:
            observed = joined([self._of_critic(agent, this_pass) for agent in agents])
            joint[VALUE] = learner.values(start, observed)[0]
        sizes = [self._row_count(agent, this_pass) * len(self._ticks[agent.name]) for agent in agents]
        for agent, own, of_joint in zip(agents, ports, divided(joint, sizes), strict=True):
            own |= of_joint
            ticks, members = len(self._ticks[agent.name]), len(agent.members)
            this_pass.ports[agent.name] = {name: by_tick(port, members, ticks) for name, port in own.items()}

    def _at_ticks(self, agent: Agent, port: str, this_pass: Pass) -> Tensor:
        """A port at all ticks, [N * T * b, …]."""
        calls = [ports[port] for ports in this_pass.calls[agent.name]]
        return calls[0] if len(calls) == 1 else in_rows(torch.stack(calls), len(agent.members))

    def _of_critic(self, agent: Agent, this_pass: Pass) -> Tensor:
        """What an agent's critic observes at all ticks, [N * T * b, …]."""
        ticks, start = self._ticks[agent.name], self._start(agent)
        block = next(block for block in self._blocks if any(part is agent for part, _ in block.parts))
        observed = block.once(
            ("critic", agent.name),
            lambda: torch.stack([self._forward_pass.critic_input(tick, start) for tick in ticks]),
        )
        return in_rows(observed, len(agent.members), this_pass.rows.get(agent.name))

    def _start(self, agent: Agent) -> Tensors:
        return self._forward_pass.window_statistics(agent, self._window, agent.learner.buffers)

    @staticmethod
    def _row_count(agent: Agent, this_pass: Pass) -> int:
        rows = this_pass.rows.get(agent.name)
        return len(agent.members) * agent.batch if rows is None else len(rows)

    # --- what enters -----------------------------------------------------------------------------------------

    def _input(self, block: Block, agent: Agent, ticks: Sequence[Tick], this_pass: Pass) -> Tensor:
        """What enters an agent's network at some ticks, [N * T * b, …]."""
        rows, members, start = this_pass.rows.get(agent.name), len(agent.members), self._start(agent)
        if not any(self._is_live(read, this_pass.leaves) for tick in ticks for read in tick.reads()):
            joined_input = partial(self._forward_pass.joined_input, window=self._window, statistics=start)
            whole = block.once(("input", agent.name), lambda: torch.stack([*map(joined_input, ticks)]))
            return in_rows(whole, members, rows)
        at_ticks = partial(map, partial(self._forward_pass.observations, statistics=start), ticks)
        observed = block.once(
            ("observed", agent.name), lambda: [*map(torch.stack, zip(*at_ticks(), strict=True))]
        )
        reads = [
            [
                self._read(block, channel, slot_reads, this_pass, slot)
                for slot, slot_reads in enumerate(_by_slot(channel, [t.reads_by_channel[i] for t in ticks]))
            ]
            for i, channel in enumerate(agent.connections.incoming)
        ]
        row_count = self._row_count(agent, this_pass) // members * len(ticks)
        return agent.join_input([in_rows(values, members, rows) for values in observed], reads, row_count)

    def _is_live(self, read: Read, leaves: Container[tuple[str, int]] = ()) -> bool:
        """Whether a pass makes anew what is read."""
        if isinstance(read, WithGraph):
            return self._forward_pass.system.channels[read.channel_name].sender in self._agents
        return isinstance(read, CountedRead) and (read.channel_name, read.received.stamp) in leaves

    def _read(
        self, block: Block, channel: Channel, reads: Sequence[Read], this_pass: Pass, slot: int = 0
    ) -> Tensor:
        """What some ticks read over a channel, [K * T * b, size], zeros where there is no message."""
        members, key = len(channel.members), (channel.name, slot)
        rows = self._rows_of(channel, "receiver", this_pass)
        available = ALL
        if any(read.available is not ALL for read in reads):
            count, device = len(channel.content.zeros), channel.content.zeros.device
            masks = block.once(
                ("available", *key), lambda: torch.stack([r.available.tensor(count, device) for r in reads])
            )
            available = Mask.of(in_rows(masks, members, rows))
        live = [read for read in reads if self._is_live(read, this_pass.leaves)]
        others = [read for read in reads if not self._is_live(read, this_pass.leaves)]
        outputs = self._window.outputs_with_graph
        if others:
            fixed = block.once(
                ("fixed", *key),
                lambda: torch.stack([constant(read.value_in(outputs, channel, NONE)) for read in others]),
            )
            values = fixed if rows is None else fixed.index_select(1, rows)
        if live:
            made = self._live_values(block, key, channel, live, this_pass, rows)
            if others:
                each = dict(zip([*others, *live], [*values.unbind(), *made.unbind()], strict=True))
                made = torch.stack([each[read] for read in reads])
            values = made
        return available.zero_elsewhere(in_rows(values, members))

    def _live_values(
        self,
        block: Block,
        key: tuple[str, int],
        channel: Channel,
        reads: Sequence[Read],
        this_pass: Pass,
        rows: Tensor | None,
    ) -> Tensor:
        """What is read with its sender's graph, or of a sender that is evaluated beside the window, [reads, K * b, size]."""
        if isinstance(reads[0], CountedRead):
            own = [read.received.stamp for read in reads if isinstance(read, CountedRead)]
            return at_places([this_pass.leaves[channel.name, stamp] for stamp in own])
        stamps = [read.stamp for read in reads if isinstance(read, WithGraph)]
        outputs = at_places([this_pass.sent[channel.name, stamp] for stamp in stamps]).flatten(2)
        noise = block.once(("link noise", *key), lambda: link_noise(channel, stamps))
        values = received(channel, outputs, noise, rows)
        learning = self._window.learning_rows_by_agent[channel.receiver]
        mask = chosen(learning.map(channel.rows_from_receiver), rows).map(
            partial(_at_ticks, ticks=len(values))
        )
        return mask.where(values, constant(values))

    def _rows_of(self, channel: Channel, end: str, this_pass: Pass) -> Tensor | None:
        """The rows of a channel in the environments of the agents at one end; None: all."""
        name = getattr(channel, end)
        rows, key = this_pass.rows.get(name), (channel.name, end)
        if rows is None:
            return None
        if key not in this_pass.channel_rows:
            index, members = getattr(channel.endpoints, f"{end}_index"), len(self._agents[name].members)
            this_pass.channel_rows[key] = rows_through(rows, index, members, channel.batch)
        return this_pass.channel_rows[key]

    # --- what is sent ----------------------------------------------------------------------------------------

    def _send(
        self, block: Block, agent: Agent, ticks: Sequence[Tick], ports: Tensors, this_pass: Pass
    ) -> None:
        """Enter in a pass what an agent sends at some ticks; samples are those of the first pass."""
        for channel in agent.connections.send_channels:
            if channel.name not in self._sends:
                continue
            members, rows = len(channel.members), self._rows_of(channel, "sender", this_pass)
            output = channel.output_from_port(ports[channel.content.port_name])
            if channel.content.sampler is not None:
                output = self._sampled(block, channel, output, ticks, rows)
            sent = by_tick(output, members, len(ticks))
            learning = ticks[0].learning_rows
            if learning is not ALL and learning is not NONE:
                own = chosen(channel.mask_from_sender(learning), rows)
                own = own.map(partial(_at_ticks, ticks=len(ticks)))
                sent = own.where(sent, constant(sent))
            this_pass.sent |= {(channel.name, tick.step): (sent, i) for i, tick in enumerate(ticks)}

    @staticmethod
    def _sampled(
        block: Block, channel: Channel, output: Tensor, ticks: Sequence[Tick], rows: Tensor | None
    ) -> Tensor:
        """Outputs as the messages that were sampled in the first pass, with its noise."""
        sampler, members = channel.content.sampler, len(channel.members)
        assert sampler is not None
        port = output.new_empty(len(channel.content.zeros), *output.shape[1:])
        noises = block.once(
            ("noise", channel.name), lambda: stacked([sampler.noise(port, tick.step) for tick in ticks])
        )
        samples = block.once(
            ("samples", channel.name),
            lambda: torch.stack([tick.sampled_messages[channel.name] for tick in ticks]),
        )
        noise = None if noises is None else in_rows(noises, members, rows)
        return sampler.message(output, noise, in_rows(samples, members, rows))[0]


def ports_of(ticks: Sequence[Tick], names: Sequence[str]) -> Tensors:
    """Return those of some ports that there are at some ticks, [T, rows, …]."""
    return {n: torch.stack([tick.ports[n] for tick in ticks]) for n in names if n in ticks[0].ports}


def divided(ports: Tensors, sizes: list[int]) -> list[Tensors]:
    """Return so many rows of ports each."""
    if len(sizes) == 1:
        return [ports]
    return [{n: torch.split(port, sizes)[i] for n, port in ports.items()} for i in range(len(sizes))]


def in_rows(values: Tensor, members: int, rows: Tensor | None = None) -> Tensor:
    """[T, N * B, …], or some rows of it, as rows of the members, [N * T * b, …]."""
    if len(values) == 1:  # in order
        return values[0] if rows is None else values[0].index_select(0, rows)
    values = values if rows is None else values.index_select(1, rows)
    if members == 1:
        return values.flatten(0, 1)
    of_members = values.view(len(values), members, values.shape[1] // members, *values.shape[2:])
    return of_members.transpose(0, 1).flatten(0, 2)


def by_tick(values: Tensor, members: int, ticks: int) -> Tensor:
    """The way back: [N * T * b, …] as [T, N * b, …]."""
    if ticks == 1 or members == 1:
        return values.view(ticks, -1, *values.shape[1:])
    return values.view(members, ticks, -1, *values.shape[1:]).transpose(0, 1).flatten(1, 2)


def rows_through(rows: Tensor, index: Tensor | None, members: int, batch: int) -> Tensor:
    """Return the rows of channels in the environments of some rows of the agents at one end, as many of each.

    Args:
        rows: Of the agents, member by member.
        index: [K]: the agent of each channel; None: each in turn.
        members: N, the agents.
        batch: B.
    """
    environments = rows.view(members, -1) % batch
    if index is not None:
        environments = environments.index_select(0, index)
    first_rows = torch.arange(len(environments), device=rows.device).unsqueeze(1) * batch
    return (environments + first_rows).flatten()


def at_places(messages: Sequence[InStack]) -> Tensor:
    """Return messages as one stack, [S, K * b, …]."""
    first, places = messages[0][0], [place for _, place in messages]
    if any(stack is not first for stack, _ in messages):
        return torch.stack([stack[place] for stack, place in messages])
    if places == [*range(len(first))]:
        return first
    return first[torch.tensor(places, device=first.device)]


def link_noise(channel: Channel, stamps: Sequence[int]) -> Tensor | None:
    """Return the noise of a channel's link for some messages, [S, K * B, size]; None: it has none."""
    return stacked([channel.wire.link.noise_of(stamp, channel.content.zeros) for stamp in stamps])


def received(channel: Channel, outputs: Tensor, noise: Tensor | None, rows: Tensor | None) -> Tensor:
    """Return outputs that are sent again, [S, K * b, size], as the link carries them, with its noise of then."""
    if noise is not None:
        noise = (noise if rows is None else noise.index_select(1, rows)).flatten(0, 1)
    carried: Tensor = channel.wire.link.received(outputs.flatten(0, 1), noise)
    return carried.view_as(outputs)


def chosen(mask: Mask, rows: Tensor | None) -> Mask:
    return mask if rows is None else mask.map(partial(torch.index_select, dim=0, index=rows))


def _at_ticks(mask: Tensor, ticks: int) -> Tensor:
    return mask.expand(ticks, -1)


def stacked(noises: Sequence[Tensor | None]) -> Tensor | None:
    """[T, …] of the noises of T ticks; None: there is none."""
    present = [noise for noise in noises if noise is not None]
    return torch.stack(present) if present else None


def _by_slot(channel: Channel, reads_by_tick: Sequence[Sequence[Read]]) -> list[tuple[Read, ...]]:
    """What some ticks read over a channel, oldest first; nothing is the oldest of a tick that reads fewer than another."""
    slots, nothing = max(map(len, reads_by_tick)), Constant(channel.name)
    return [*zip(*([nothing] * (slots - len(reads)) + [*reads] for reads in reads_by_tick), strict=True)]
