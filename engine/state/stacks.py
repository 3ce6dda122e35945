"""Messages and windows of stacks by agent and channel, the form in which a checkpoint is written, and back.

Both forms are trees of `state_dict.messages`. What has rows is split and joined by them (trees.py); what is left says whose a member's things are, and which messages a single channel has no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.layout import Layout
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.window import LearningGroup
from antiphon.engine.stacked import AgentOrChannel, Stacked
from antiphon.engine.state.state_dict import messages
from antiphon.engine.state.trees import Tree, join, joined_signals, split_rows

_NOWHERE = {"mask": False}


def _anywhere(mask: Tree) -> bool:
    where = mask["mask"]
    return bool(where.any()) if isinstance(where, Tensor) else bool(where)


def _all_reads(tick: Tree) -> list[Tree]:
    """All that an agent read at a tick, its own state among it."""
    state_reads = [] if tick["state_read"] is None else [tick["state_read"]]
    return [*chain(*tick["reads_by_channel"]), *state_reads]


# --- from stacks to single agents ------------------------------------------------------------------------


def split_state(system: System, bases: Sequence[System]) -> list[Tree]:
    """Return the messages and windows of a system of stacks by agent and channel, of each seed."""
    saved = messages(system)
    signals_by_seed = [saved["signals"]]
    if len(bases) > 1:
        rows = [split_rows(shared.signals, len(bases), system.batch) for shared in saved["signals"]]
        signals_by_seed = [
            [StepSignals(shared.step, own[seed]) for shared, own in zip(saved["signals"], rows, strict=True)]
            for seed in range(len(bases))
        ]
    return [
        _Splitter(Stacked(base, system, seed)).split({**saved, "signals": signals, "events": base.events})
        for seed, (base, signals) in enumerate(zip(bases, signals_by_seed, strict=True))
    ]


class _Splitter:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked, self.system, self.base = stacked, stacked.system, stacked.single_system

    def split(self, saved: Tree) -> Tree:
        groups: dict[LearningGroup, Tree] = {group: {"waiting": []} for group in self.base.groups}
        for group, saved_group in zip(self.system.groups, saved["groups"], strict=True):
            members = self.stacked.groups_of(group)
            for key, window in self._windows(saved_group["window"], members).items():
                groups[key]["window"] = window
            for saved_window in saved_group["waiting"]:
                for key, window in self._windows(saved_window, members).items():
                    groups[key]["waiting"].append(window)
        return {
            **saved,
            "wires": {
                name: ends
                for channel in self.system.channels.values()
                for name, ends in self._ends(channel, saved["wires"][channel.name])
            },
            "groups": list(groups.values()),
            "agents": {
                single.name: kept
                for name, agent in self.system.agents.items()
                for (_, single), kept in zip(
                    self.stacked.singles(agent), self._split(saved["agents"][name], agent), strict=True
                )
            },
        }

    def _split(self, tree: Tree, stack: Agent | Channel) -> Sequence[Tree]:
        members = self.stacked.places_of(stack)
        return split_rows(tree, members.stop - members.start, self.base.batch, members.start)

    def _ends(self, stack: Channel, saved: Tree) -> Iterator[tuple[str, Tree]]:
        """The ends of each channel, with the messages that its stack still keeps."""
        if len(stack.members) == 1:
            yield stack.members[0].name, saved
            return
        sender, receiver = saved["outbox"], saved["inbox"]
        sent = [self._split(tree, stack) for tree in sender["sent"]]
        received = [self._split(tree, stack) for tree in receiver["messages"]]
        without = {**sender, "sent": [], "back": []}, {**receiver, "messages": []}
        outboxes, inboxes = (self._split(end, stack) for end in without)
        for k, (_, channel) in enumerate(self.stacked.singles(stack)):
            own = [_sent_alone(members[k]) for members in sent]
            counted = {message["stamp"] for message in own if message["counted"]["mask"] is not False}
            back = (
                [step, [stamp for stamp in stamps if stamp in counted]] for step, stamps in sender["back"]
            )
            outbox = {**outboxes[k], "sent": own, "back": [entry for entry in back if entry[1]]}
            inbox = {**inboxes[k], "messages": [members[k] for members in received]}
            yield channel.name, {"outbox": outbox, "inbox": inbox}

    def _windows(self, window: Tree, groups: Sequence[LearningGroup]) -> dict[LearningGroup, Tree]:
        group_of, agents, channels = self.base.group_by_agent, self.system.agents, self.system.channels
        # of several none has given up channels: what waits is in stacks of one
        windows: dict[LearningGroup, Tree] = {
            key: {**window, "statistics_before": {}, "ticks_by_call": [], "sent": []} for key in groups
        }
        for name, buffers in window["statistics_before"].items():
            rows_by_name = [
                rows.unbind() if agents[name].layout.has_member_axis else [rows] for rows in buffers.values()
            ]
            for n, member in self.stacked.singles(agents[name]):
                own_buffers = (member_rows[n] for member_rows in rows_by_name)
                windows[group_of[member.name]]["statistics_before"][member.name] = dict(
                    zip(member.learner.buffers, own_buffers, strict=True)
                )
        for call in window["ticks_by_call"]:
            agent = agents[call[0]["agent_name"]]
            single_ticks = self._ticks(call[0], agent) if agent.layout.has_member_axis else ()
            for ticks in [[tick] for tick in single_ticks] or [call]:
                windows[group_of[ticks[0]["agent_name"]]]["ticks_by_call"].append(ticks)
        for name, stamp in window["sent"]:
            for _, channel in self.stacked.singles(channels[name]):
                windows[group_of[channel.sender]]["sent"].append([channel.name, stamp])
        return windows

    def _ticks(self, tick: Tree, stack: Agent) -> Iterator[Tree]:
        reads: dict[str, list[Tree]] = {}
        for read in _all_reads(tick):
            channels = self.system.channels[read["channel_name"]]
            reads_by_channel, stacked = self._split(read, channels), len(channels.members) > 1
            for (_, channel), own_read in zip(self.stacked.singles(channels), reads_by_channel, strict=True):
                own_read["channel_name"] = channel.name
                if stacked and own_read["kind"] == "leaf" and not _anywhere(own_read["counted"]):
                    left = {key: own_read[key] for key in ("channel_name", "value", "available")}
                    own_read = {"kind": "constant", **left}
                reads.setdefault(channel.name, []).append(own_read)
        without_reads = {**tick, "reads_by_channel": [], "state_read": None}
        ticks = self._split(without_reads, stack)
        for (_, agent), own_tick in zip(self.stacked.singles(stack), ticks, strict=True):
            yield {
                **own_tick,
                "agent_name": agent.name,
                "reads_by_channel": [reads[channel.name] for channel in agent.connections.incoming],
                "state_read": None
                if agent.connections.state_channel is None
                else reads[agent.connections.state_channel.name][0],
            }


def _sent_alone(message: Tree) -> Tree:
    """A member's message: one whose reads counted in other members alone returns nothing."""
    if message["finished_at"] is None or _anywhere(message["counted"]):
        return message
    return {**message, "counted": _NOWHERE, "back_at": None, "returned": None}


# --- from single agents to stacks ------------------------------------------------------------------------


class Merger:
    """Merges the messages and windows of the single agents and channels of each seed to those of stacks."""

    def __init__(self, system: System, bases: Sequence[System], saved: Sequence[Tree]) -> None:
        self.system, self.bases, self.saved = system, bases, saved
        self.all_signals: list[StepSignals] = saved[0]["signals"] if system.seed_count == 1 else []
        self._stacked = [Stacked(base, system, seed) for seed, base in enumerate(bases)]
        self._numbers: dict[tuple[int, ...], int] = {}

    def merged(self) -> Tree:
        channels = self.system.channels.values()
        wires = {c.name: self._ends(c, self._members("wires", c)) for c in channels}
        groups = {
            group: tree
            for base, saved in zip(self.bases, self.saved, strict=True)
            for group, tree in zip(base.groups, saved["groups"], strict=True)
        }
        return {
            **self.saved[0],
            "wires": wires,
            "groups": [self._group(group, groups) for group in self.system.groups],
            "agents": {
                name: self._joined(self._members("agents", agent), agent)
                for name, agent in self.system.agents.items()
            },
            "signals": self.all_signals,
        }

    def _group(self, group: LearningGroup, saved: Mapping[LearningGroup, Tree]) -> Tree:
        singles = [(stacked.seed, key) for stacked in self._stacked for key in stacked.groups_of(group)]
        waiting = ([(seed, window) for window in saved[key]["waiting"]] for seed, key in singles)
        return {
            "window": self._window(group, [(seed, saved[key]["window"]) for seed, key in singles]),
            "waiting": [self._window(group, windows) for windows in zip(*waiting, strict=True)],
        }

    def _members(self, key: str, stack: AgentOrChannel) -> list[Any]:
        return [self.saved[seed][key][name] for seed, name in self._seeds_and_names(stack)]

    def _joined(self, trees: Sequence[Tree], stack: Agent | Channel) -> Tree:
        number = partial(self._signals_number, layout=stack.layout)
        joined: Tree = join(trees, self.system.batch, self.system.device, number)
        return joined

    def _signals_number(self, numbers: Sequence[int], layout: Layout) -> int:
        """The number of the signals of all seeds, where each member's own have one."""
        if layout.seed_count == 1:
            return numbers[0]
        key = tuple(numbers[:: layout.members_per_seed])
        if key not in self._numbers:
            self._numbers[key] = len(self.all_signals)
            signals = [saved["signals"][number] for saved, number in zip(self.saved, key, strict=True)]
            self.all_signals.append(joined_signals(signals))
        return self._numbers[key]

    def _ends(self, stack: Channel, ends: Sequence[Tree]) -> Tree:
        if len(ends) == 1:
            return ends[0]
        outboxes, inboxes = [tree["outbox"] for tree in ends], [tree["inbox"] for tree in ends]
        back: dict[int, dict[int, None]] = {}
        for step, stamps in (entry for outbox in outboxes for entry in outbox["back"]):
            back.setdefault(step, {}).update(dict.fromkeys(stamps))
        sent = self._messages(stack, [outbox["sent"] for outbox in outboxes])
        for message, members in sent:
            message["window_open"] = any(member["window_open"] for member in members)
            message["back_at"] = next((m["back_at"] for m in members if m["back_at"] is not None), None)
        received = self._messages(stack, [inbox["messages"] for inbox in inboxes])
        for message, members in received:
            numbers = {number for member in members for number in member["open_windows"]["set"]}
            message["open_windows"] = {"set": sorted(numbers)}
        return {
            "outbox": {
                **self._joined([{**outbox, "sent": [], "back": []} for outbox in outboxes], stack),
                "sent": [message for message, _ in sent],
                "back": [[step, list(stamps)] for step, stamps in back.items()],
            },
            "inbox": {
                **self._joined([{**inbox, "messages": []} for inbox in inboxes], stack),
                "messages": [message for message, _ in received],
            },
        }

    def _messages(self, stack: Channel, messages: Sequence[Sequence[Tree]]) -> list[tuple[Tree, list[Tree]]]:
        """The messages of all channels, each with its members, where some may have none any more: nothing counted for them."""
        by_stamp = [{message["stamp"]: message for message in of_member} for of_member in messages]
        found = []
        for stamp in sorted({stamp for of_member in by_stamp for stamp in of_member}):
            like = next(of_member[stamp] for of_member in by_stamp if stamp in of_member)
            nothing = {"loss": None, "returned": None, "gradient": None}
            absent = {**like, "counted": _NOWHERE, **{key: None for key in nothing if key in like}}
            members = [of_member.get(stamp, absent) for of_member in by_stamp]
            found.append((self._joined(members, stack), members))
        return found

    # --- windows ----------------------------------------------------------------------------------------

    def _window(self, group: LearningGroup, windows: Sequence[tuple[int, Tree]]) -> Tree:
        agents, stack_of = self.system.agents, self._stacked[0].stack_and_index
        starts = {
            (seed, name): buffers
            for seed, window in windows
            for name, buffers in window["statistics_before"].items()
        }
        calls = {
            (call[0]["step"], seed, call[0]["agent_name"]): call
            for seed, window in windows
            for call in window["ticks_by_call"]
        }
        before = {}
        if starts:
            before = {name: self._start(agents[name], starts) for name in group.agent_count_by_learner}
        sent = [entry for _, window in windows for entry in window["sent"]]
        sent.sort(key=lambda entry: entry[1])
        return {
            "number": max(window["number"] for _, window in windows),
            "given_up_channel_names": windows[0][1]["given_up_channel_names"],  # several never wait
            "statistics_before": before,
            "ticks_by_call": self._calls(calls),
            "sent": list(dict.fromkeys((stack_of[name][0].name, s) for name, s in sent)),
        }

    def _calls(self, calls: Mapping[tuple[int, int, str], list[Tree]]) -> list[list[Tree]]:
        """The network calls of stacks, of those of single agents by step, seed and name."""
        joined_calls = []
        for step in sorted({step for step, *_ in calls}):
            for names in self.system.schedule.network_calls(step):
                agent = self.system.agents[names[0]]
                keys = [(step, *who) for who in self._seeds_and_names(agent)]
                if keys[0] not in calls:
                    continue
                if agent.layout.has_member_axis:
                    joined_calls.append([self._tick(agent, [calls[key][0] for key in keys])])
                else:
                    joined_calls.append(calls[keys[0]])
        return joined_calls

    def _seeds_and_names(self, stack: AgentOrChannel) -> list[tuple[int, str]]:
        return [
            (stacked.seed, single.name) for stacked in self._stacked for _, single in stacked.singles(stack)
        ]

    def _start(self, agent: Agent, starts: Mapping[tuple[int, str], Tree]) -> Tree:
        """A stack's statistics at the window's start; a member that has not ticked yet starts from its present ones."""
        members = zip(self._seeds_and_names(agent), agent.members, strict=True)
        buffers_by_member = [starts.get(who, member.learner.buffers) for who, member in members]
        if not agent.layout.has_member_axis:
            return dict(buffers_by_member[0])
        values = zip(*(buffers.values() for buffers in buffers_by_member), strict=True)
        return {
            key: torch.stack(values_of) for key, values_of in zip(agent.learner.buffers, values, strict=True)
        }

    def _tick(self, stack: Agent, ticks: Sequence[Tree]) -> Tree:
        read = {who: _all_reads(tick) for who, tick in zip(self._seeds_and_names(stack), ticks, strict=True)}

        def merged(channels: Channel) -> list[Tree]:
            seed_of = channels.layout.seed_of
            reads_by_channel = [
                [one for one in read[seed_of(k), channel.receiver] if one["channel_name"] == channel.name]
                for k, channel in enumerate(channels.members)
            ]
            step, reads_of_all = ticks[0]["step"], zip(*reads_by_channel, strict=True)
            return [self._read(channels, reads, step) for reads in reads_of_all]

        return {
            **self._joined([{**tick, "reads_by_channel": [], "state_read": None} for tick in ticks], stack),
            "agent_name": stack.name,
            "reads_by_channel": [merged(channels) for channels in stack.connections.incoming],
            "state_read": None
            if stack.connections.state_channel is None
            else merged(stack.connections.state_channel)[0],
        }

    def _read(self, stack: Channel, reads: Sequence[Tree], step: int) -> Tree:
        """What a tick read over all channels of a stack; what a member read as a constant counts for nothing."""
        leaves = [read for read in reads if read["kind"] == "leaf"]
        if not leaves:
            return {**self._joined(reads, stack), "channel_name": stack.name}
        as_leaves = [{**leaves[0], "counted": _NOWHERE, **read} for read in reads]
        merged = {**self._joined(as_leaves, stack), "kind": "leaf", "channel_name": stack.name}
        if len(reads) > 1:
            shared = len(leaves) == len(reads) and all(read["only_tick"] is None for read in reads)
            merged["only_tick"] = None if shared else step
        return merged
