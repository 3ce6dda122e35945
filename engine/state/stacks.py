"""The state of stacks by agent and channel, the form in which a checkpoint is written, and back.

Splitting copies nothing: a member's tensors are views of its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from antiphon.agents.learner import StackedLearner
from antiphon.comms.credit import as_leaf, constant
from antiphon.comms.outliers import BundledOutliers
from antiphon.comms.stacked import StackedModels
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import (
    AgentTick,
    Consumption,
    LearningGroup,
    Read,
    Record,
    Replicas,
    StepSignals,
    Tape,
    Tick,
    joined,
)
from antiphon.engine.core.system import Stacked

__all__ = ["merge_state", "split_state"]

_RECORD = ("message", "received", "returned", "lost", "void", "no_injection", "counted", "delta", "loss")
_MAILBOX = ("held", "held_stamp", "prior", "prior_stamp")
"""Fields that have rows: tensors [rows, …], masks, or None."""

Whole = TypeVar("Whole", Record, Consumption)


def split_state(stacked: Stacked) -> None:
    """Write the state of the stacks, parameters apart, to the single agents and channels."""
    if stacked.system is not stacked.base:
        _Splitter(stacked).run()


def merge_state(stacked: Stacked) -> None:
    """Read the state of the single agents and channels into their stacks."""
    if stacked.system is not stacked.base:
        _Merger(stacked).run()


def _models(channel: Channel) -> list[StackedModels]:
    models: tuple[object, ...] = channel.predictor, channel.input
    return [model for model in models if isinstance(model, StackedModels)]


def _groups(stacked: Stacked, group: LearningGroup) -> dict[int, LearningGroup]:
    """The groups of single agents that a group of stacks is made of, by identity."""
    group_of, agents = stacked.base.group_of, stacked.system.agents
    found = [group_of[member.name] for name in group.members for member in agents[name].members]
    return {id(group): group for group in found}


class _Splitter:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked = stacked
        self.batch = stacked.base.batch
        self._done: dict[int, tuple[object, list[Any]]] = {}
        """By identity: records and uses (which must not be collected meanwhile), and what they are split into."""

    def run(self) -> None:
        for agent in self.stacked.system.agents.values():
            self._agent(agent)
        for channel in self.stacked.system.channels.values():
            self._channel(channel)
        for group in self.stacked.base.groups:
            group.tape, group.pending, group.past = Tape(), [], []
        for group in self.stacked.system.groups:
            self._group(group)

    # --- agents and channels ------------------------------------------------------------------------------

    def _agent(self, agent: Agent) -> None:
        if isinstance(agent.learner, StackedLearner):
            agent.learner.write_members()
        enabled, count = agent.enabled(), len(agent.members)
        trails = [None] * count if agent.trail is None else self._dicts(agent.trail, count)
        for n, member in enumerate(agent.members):
            member.trail = trails[n]
            if member is not agent:
                member.agent_disabled = enabled is not None and not bool(enabled[n])

    def _channel(self, channel: Channel) -> None:
        for model in _models(channel):
            model.write_members()
        if isinstance(channel.outliers, BundledOutliers):
            channel.outliers.write_back()
        for name in ("predictors_disabled", "input_models_disabled"):
            disabled = getattr(channel, name)
            for k, own in enumerate(channel.members):
                if own is not channel:
                    of_own = disabled is not None and bool(disabled[k])
                    setattr(own, name, torch.ones(1, dtype=torch.bool) if of_own else None)
        if len(channel.members) > 1:
            self._ledger(channel)
            self._mailbox(channel)

    def _ledger(self, stack: Channel) -> None:
        ledger, count = stack.ledger, len(stack.members)
        records = {stamp: self.records(record, count) for stamp, record in ledger.records.items()}
        uses = {
            window: {key: self.uses(use, count) for key, use in found.items()}
            for window, found in ledger.uses.items()
        }
        returned = {
            step: [self.records(record, count) for record in found]
            for step, found in ledger.completed.items()
        }
        newest = self._each(ledger.newest, count)
        for k, channel in enumerate(stack.members):
            own = channel.ledger
            own.records = {s: some[k] for s, some in records.items() if not _forgotten(ledger, some[k])}
            own.uses = {
                w: counting
                for w, found in uses.items()
                if (counting := {key: some[k] for key, some in found.items() if _counts(some[k])})
            }
            own.completed = {
                step: back
                for step, found in returned.items()
                if (back := [some[k] for some in found if some[k].counted is not False])
            }
            own.newest, own.read_up_to = newest[k], ledger.read_up_to

    def _mailbox(self, stack: Channel) -> None:
        count = len(stack.members)
        rows = {name: self._each(getattr(stack.mailbox, name), count) for name in _MAILBOX}
        signals = self._dicts(stack.mailbox.held_signals, count)
        for k, channel in enumerate(stack.members):
            channel.mailbox.held_signals = signals[k]
            for name, values in rows.items():
                setattr(channel.mailbox, name, values[k])

    def records(self, record: Record, count: int) -> list[Record]:
        """Return a stack's record as those of its channels."""
        return self._once(record, count, self._record)

    def uses(self, use: Consumption, count: int) -> list[Consumption]:
        """Return a stack's use as those of its channels."""
        return self._once(use, count, self._use)

    def _once(self, whole: Whole, count: int, split: Callable[[Whole, int], list[Whole]]) -> list[Whole]:
        if count == 1:
            return [whole]
        if id(whole) not in self._done:
            self._done[id(whole)] = whole, split(whole, count)
        return self._done[id(whole)][1]

    def _record(self, record: Record, count: int) -> list[Record]:
        each = {name: self._each(getattr(record, name), count) for name in _RECORD}
        if record.finished is not None:  # who has nothing that counts has nothing (`GradientLedger.close`)
            each["counted"] = tuple(
                own if not isinstance(own, Tensor) or bool(own.any()) else False for own in each["counted"]
            )
        states = self._dicts(record.states, count)
        return [
            replace(
                record,
                waiting=set(record.waiting),
                states=states[k],
                graph_output=None,
                prediction=None,
                **{name: values[k] for name, values in each.items()},
            )
            for k in range(count)
        ]

    def _use(self, use: Consumption, count: int) -> list[Consumption]:
        parts = self.records(use.record, count), self._each(use.leaf, count), self._each(use.counted, count)
        return [Consumption(*own) for own in zip(*parts, strict=True)]

    # --- tapes --------------------------------------------------------------------------------------------

    def _group(self, group: LearningGroup) -> None:
        groups = _groups(self.stacked, group)
        for key, tape in self._tapes(group.tape, groups).items():
            groups[key].tape = tape
        for waiting in ("pending", "past"):
            for whole in getattr(group, waiting):
                for key, tape in self._tapes(whole, groups).items():
                    getattr(groups[key], waiting).append(tape)

    def _tapes(self, tape: Tape, groups: Iterable[int]) -> dict[int, Tape]:
        base = self.stacked.base
        found = {key: Tape(tape.window) for key in groups}
        for name, buffers in tape.start.items():
            for agent, statistics in self._by_member(name, buffers):
                found[id(base.group_of[agent])].start[agent] = statistics
        for tick in tape.ticks:
            stack = self.stacked.system.agents[tick.parts[0].agent]
            if not stack.stacked:
                found[id(base.group_of[stack.name])].ticks.append(tick)
                continue
            for part in self._parts(tick.parts[0], stack):
                found[id(base.group_of[part.agent])].ticks.append(Tick(tick.step, [part]))
        for name, record in tape.sent:
            channels = self.stacked.system.channels[name]
            for channel, own in zip(
                channels.members, self.records(record, len(channels.members)), strict=True
            ):
                sent = found[id(base.group_of[channel.sender])]
                sent.sent.append((channel.name, own))
                if name in tape.given_up:
                    sent.given_up.add(channel.name)
        return found

    def _by_member(self, name: str, buffers: dict[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
        stack = self.stacked.system.agents[name]
        if not stack.stacked:
            return [(name, buffers)]
        names = [list(member.learner.buffers) for member in stack.members]
        split = [buffers[key].unbind() for key in names[0]]
        return [
            (member.name, {key: own[n] for key, own in zip(names[n], split, strict=True)})
            for n, member in enumerate(stack.members)
        ]

    def _parts(self, part: AgentTick, stack: Agent) -> list[AgentTick]:
        count = len(stack.members)
        participates, ages = self._each(part.participates, count), self._each(part.ages, count)
        read: dict[str, list[Read]] = {}
        for entry in part.consumed:
            channels = self.stacked.system.channels[entry.channel]
            for channel, own in zip(channels.members, self._inputs(entry, channels), strict=True):
                read.setdefault(channel.name, []).append(own)
        return [
            AgentTick(
                agent.name,
                part.step_signals,
                [entry for channel in agent.incoming for entry in read[channel.name]],
                bool(mask[0]) if isinstance(mask, Tensor) else mask,
                None if agent.memory is None else read[agent.memory.name][0],
                own_ages,
            )
            for agent, mask, own_ages in zip(stack.members, participates, ages, strict=True)
        ]

    def _inputs(self, entry: Read, stack: Channel) -> list[Read]:
        count = len(stack.members)
        if count == 1:
            return [replace(entry, channel=stack.members[0].name)]
        values, available = self._each(entry.value, count), self._each(entry.available, count)
        uses = [None] * count if entry.use is None else self.uses(entry.use, count)
        return [
            Read(
                channel.name,
                entry.stamp,
                value if use is None else use.leaf,
                use if use is not None and _counts(use) else None,
                there,
            )
            for channel, value, use, there in zip(stack.members, values, uses, available, strict=True)
        ]

    # --- rows ---------------------------------------------------------------------------------------------

    def _each(self, rows: Any, count: int) -> tuple[Any, ...]:
        """The rows of each member; what is no tensor is the same for all."""
        return torch.split(rows, self.batch) if isinstance(rows, Tensor) else (rows,) * count

    def _dicts(self, rows: dict[Any, Tensor], count: int) -> list[dict[Any, Tensor]]:
        each = {key: self._each(value, count) for key, value in rows.items()}
        return [{key: values[k] for key, values in each.items()} for k in range(count)]


def _counts(use: Consumption) -> bool:
    """Whether a use counts anywhere; a channel alone has no other."""
    return bool(use.counted.any()) if isinstance(use.counted, Tensor) else use.counted


def _forgotten(ledger: GradientLedger, record: Record) -> bool:
    """Whether a channel alone would have dropped a void record that its stack still keeps for others."""
    if record.finished is None or record.complete or record.held_by_sender:
        return False
    sent = max(ledger.records)
    newest = ledger.sender.latest(sent - ledger.link.delay)
    if (ledger.link.drop or ledger.remembers) and record.stamp > ledger.read_up_to:
        return False
    return newest is not None and record.stamp < newest and record.finished < sent


class _Merger:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked = stacked
        self.batch = stacked.base.batch
        self._records: dict[tuple[int, ...], Record] = {}
        self._uses: dict[tuple[int, ...], Consumption] = {}
        self._void: dict[int, Record] = {}
        self._signals_of_replicas: dict[tuple[int, ...], StepSignals] = {}

    def run(self) -> None:
        for agent in self.stacked.system.agents.values():
            self._agent(agent)
        for channel in self.stacked.system.channels.values():
            self._channel(channel)
        for group in self.stacked.system.groups:
            self._group(group)

    # --- agents and channels ------------------------------------------------------------------------------

    def _agent(self, agent: Agent) -> None:
        if isinstance(agent.learner, StackedLearner):
            agent.learner.read_members()
        disabled = torch.tensor([member.agent_disabled is True for member in agent.members])
        agent.agent_disabled = False
        if bool(disabled.any()):
            agent.disable(disabled)
        trails = [member.trail for member in agent.members if member.trail is not None]
        if trails:
            agent.trail = self._dict(trails)

    def _channel(self, channel: Channel) -> None:
        channel.input_examples, channel.input_example_members = [], []
        for model in _models(channel):
            model.read_members()
        if isinstance(channel.outliers, BundledOutliers):
            channel.outliers.refresh()
        predictors = [own.predictor_disabled for own in channel.members]
        inputs = [own.input_model_disabled for own in channel.members]
        channel.predictors_disabled = torch.tensor(predictors) if any(predictors) else None
        channel.input_models_disabled = torch.tensor(inputs) if any(inputs) else None
        if len(channel.members) > 1:
            self._ledger(channel, [member.ledger for member in channel.members])
            mailboxes = [member.mailbox for member in channel.members]
            for name in _MAILBOX:
                setattr(channel.mailbox, name, self._rows([getattr(own, name) for own in mailboxes]))
            channel.mailbox.held_signals = self._dict([own.held_signals for own in mailboxes])

    def _ledger(self, stack: Channel, members: Sequence[GradientLedger]) -> None:
        ledger, replicas = stack.ledger, stack.replicas
        ledger.records = {
            stamp: self._record(
                self._filled(stamp, [own.records.get(stamp) for own in members], members), replicas
            )
            for stamp in sorted({stamp for own in members for stamp in own.records})
        }
        ledger.completed = {
            step: [self._record(some, replicas) for some in self._returned(step, members)]
            for step in dict.fromkeys(step for own in members for step in own.completed)
        }
        ledger.uses = {}
        for window in dict.fromkeys(w for own in members for w in own.uses):
            found = [own.uses.get(window, {}) for own in members]
            keys = dict.fromkeys(key for some in found for key in some)
            by_tick = {stamp for stamp, tick in keys if tick >= 0}
            ledger.uses[window] = {
                (stamp, tick): self._use(
                    [some.get((stamp, tick)) or some.get((stamp, -1)) for some in found], members, stack
                )
                for stamp, tick in keys
                if tick >= 0 or stamp not in by_tick
            }
        ledger.read_up_to = members[0].read_up_to
        ledger.newest = self._rows([own.newest for own in members])

    def _returned(self, step: int, members: Sequence[GradientLedger]) -> list[list[Record]]:
        """The records that come back at `step`, those of all members for each stamp.

        To some nothing comes back: theirs has no environment that counts.
        """
        found = [{record.stamp: record for record in own.completed.get(step, [])} for own in members]
        stamps = dict.fromkeys(stamp for some in found for stamp in some)
        return [self._filled(stamp, [some.get(stamp) for some in found], members) for stamp in stamps]

    def _filled(
        self, stamp: int, records: Sequence[Record | None], members: Sequence[GradientLedger]
    ) -> list[Record]:
        """A record of every member: some channels have none any more where nothing counted for them."""
        known = [record or own.records.get(stamp) for record, own in zip(records, members, strict=True)]
        like = next(record for record in known if record is not None)
        if id(like) not in self._void:
            self._void[id(like)] = replace(like, counted=False, delta=None, loss=None)
        return [self._void[id(like)] if record is None else record for record in known]

    def _record(self, records: Sequence[Record], replicas: Replicas) -> Record:
        """The records of a stack's channels as one: the same one for the same records."""
        if len(records) == 1:
            return records[0]
        key = tuple(id(record) for record in records)
        if key not in self._records:
            self._records[key] = replace(
                records[0],
                **{name: self._rows([getattr(record, name) for record in records]) for name in _RECORD},
                step_signals=self._signals([record.step_signals for record in records], replicas),
                waiting={window for record in records for window in record.waiting},
                states=self._dict([record.states for record in records]),
                held_by_sender=any(record.held_by_sender for record in records),
                graph_output=None,
                prediction=None,
            )
        return self._records[key]

    def _use(
        self, uses: Sequence[Consumption | None], members: Sequence[GradientLedger], stack: Channel
    ) -> Consumption:
        """The uses of a stack's channels as one; where one has none, nothing counts."""
        if len(uses) == 1 and uses[0] is not None:
            return uses[0]
        key = tuple(id(use) for use in uses)
        if key not in self._uses:
            stamp = next(use.record.stamp for use in uses if use is not None)
            known = self._filled(stamp, [None if use is None else use.record for use in uses], members)
            leaves = [
                one.received if use is None else constant(use.leaf)
                for use, one in zip(uses, known, strict=True)
            ]
            leaf = torch.cat(leaves)
            counted = self._rows([False if use is None else use.counted for use in uses])
            self._uses[key] = Consumption(
                self._record(known, stack.replicas),
                as_leaf(leaf) if stack.ledger.wants_deltas else leaf,
                counted,
            )
        return self._uses[key]

    # --- tapes --------------------------------------------------------------------------------------------

    def _group(self, group: LearningGroup) -> None:
        groups = list(_groups(self.stacked, group).values())
        group.tape = self._tape(group, [own.tape for own in groups])
        group.pending = [
            self._tape(group, each) for each in zip(*(own.pending for own in groups), strict=True)
        ]
        group.past = [self._tape(group, each) for each in zip(*(own.past for own in groups), strict=True)]

    def _tape(self, group: LearningGroup, tapes: Sequence[Tape]) -> Tape:
        tape = Tape(max(own.window for own in tapes))
        starts = {name: buffers for own in tapes for name, buffers in own.start.items()}
        for agent in (self.stacked.system.agents[name] for name in group.owners) if starts else ():
            if agent.stacked:  # a member that has not ticked yet starts from its present statistics
                each = [
                    list(starts.get(member.name, member.learner.buffers).values()) for member in agent.members
                ]
                names = agent.members[0].learner.buffers
                tape.start[agent.name] = {
                    key: torch.stack(own) for key, *own in zip(names, *each, strict=True)
                }
            else:
                tape.start[agent.name] = starts.get(agent.name, dict(agent.learner.buffers))
        parts = {
            (tick.step, part.agent): (tick, part)
            for own in tapes
            for tick in own.ticks
            for part in tick.parts
        }
        for step in sorted({step for step, _ in parts}):
            for call in self.stacked.system.schedule.calls(step):
                agent = self.stacked.system.agents[call[0]]
                if (step, agent.members[0].name) not in parts:
                    continue
                if agent.stacked:
                    some = [parts[step, member.name][1] for member in agent.members]
                    tape.ticks.append(Tick(step, [self._part(agent, some)]))
                else:
                    tape.ticks.append(parts[step, call[0]][0])
        tape.sent = list(self._sent(entry for own in tapes for entry in own.sent))
        tape.given_up = {name for own in tapes for name in own.given_up}  # delayed channels are stacks of one
        return tape

    def _sent(self, entries: Iterable[tuple[str, Record]]) -> Iterable[tuple[str, Record]]:
        by_stamp: dict[tuple[str, int], list[Record]] = {}
        for name, record in sorted(entries, key=lambda entry: entry[1].stamp):
            stack, k = self.stacked.channel_of(name)
            if len(stack.members) == 1:
                yield name, record
                continue
            some = by_stamp.setdefault((stack.name, record.stamp), [record] * len(stack.members))
            some[k] = record
        for (name, _), some in by_stamp.items():
            yield name, self._record(some, self.stacked.system.channels[name].replicas)

    def _part(self, stack: Agent, parts: Sequence[AgentTick]) -> AgentTick:
        by_agent = {part.agent: part for part in parts}

        def merged(channels: Channel) -> list[Read]:
            each = [
                [entry for entry in by_agent[channel.receiver].consumed if entry.channel == channel.name]
                for channel in channels.members
            ]
            return [self._input(channels, some) for some in zip(*each, strict=True)]

        return AgentTick(
            stack.name,
            self._signals([part.step_signals for part in parts], stack.replicas),
            [entry for channels in stack.incoming for entry in merged(channels)],
            self._rows([part.participates for part in parts]),
            None if stack.memory is None else merged(stack.memory)[0],
            self._rows([part.ages for part in parts]),
        )

    def _signals(self, signals_of: Sequence[StepSignals], replicas: Replicas) -> StepSignals:
        """The signals of all replicas that members are in."""
        if replicas.count == 1:
            return signals_of[0]
        each = dict(zip(replicas.index.tolist(), signals_of, strict=True))
        own = [each[world] for world in range(replicas.count)]
        key = tuple(id(step_signals) for step_signals in own)
        if key not in self._signals_of_replicas:
            self._signals_of_replicas[key] = joined(own)
        return self._signals_of_replicas[key]

    def _input(self, stack: Channel, entries: Sequence[Read]) -> Read:
        if len(entries) == 1:
            return replace(entries[0], channel=stack.name)
        available = self._rows([entry.available for entry in entries])
        uses = [entry.use for entry in entries]
        if all(use is None for use in uses):
            value = self._rows([entry.value for entry in entries])
            return Read(stack.name, entries[0].stamp, value, None, available)
        use = self._use(uses, [channel.ledger for channel in stack.members], stack)
        for rows, entry in zip(torch.split(constant(use.leaf), self.batch), entries, strict=True):
            if entry.use is None:  # what it read counts for nothing, but is read when the window is replayed
                rows.copy_(torch.zeros_like(rows) if entry.value is None else constant(entry.value))
        return Read(stack.name, None, use.leaf, use, available)

    # --- rows ---------------------------------------------------------------------------------------------

    def _rows(self, values: Sequence[Any]) -> Any:
        """The rows of all members; where one has a tensor, None stands for zeros and a bool for a mask of its rows."""
        if not any(isinstance(value, Tensor) for value in values) and len(set(values)) == 1:
            return values[0]
        blank = torch.zeros(self.batch, dtype=torch.bool, device=self.stacked.base.device)
        like = next((value for value in values if isinstance(value, Tensor)), blank)
        return torch.cat(
            [value if isinstance(value, Tensor) else torch.full_like(like, bool(value)) for value in values]
        )

    def _dict(self, each: Sequence[dict[Any, Tensor]]) -> dict[Any, Tensor]:
        return {key: self._rows([own[key] for own in each]) for key in each[0]}
