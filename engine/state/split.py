"""Splitting the state of stacks into that of single agents and channels: the form in which a checkpoint is written.

Nothing is copied: a member's tensors are views of its rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import AgentTick, Consumption, Input, Record, Tape, Tick
from antiphon.engine.core.rows import EnvMask
from antiphon.engine.core.system import LearningGroup, Stacked

__all__ = ["split_state"]


def split_state(stacked: Stacked) -> None:
    """Write ledgers, tapes and traces of the stacks to the single agents and channels."""
    if stacked.system is not stacked.base:
        _Splitter(stacked).run()


class _Splitter:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked = stacked
        self.batch = stacked.base.batch
        self._records: dict[int, list[Record]] = {}
        self._uses: dict[int, list[Consumption]] = {}
        self._kept: list[object] = []
        """What identities are remembered of must not be collected meanwhile."""

    def run(self) -> None:
        for agent in self.stacked.system.agents.values():
            self._agent(agent)
        for channel in self.stacked.system.channels.values():
            if len(channel.members) > 1:
                self._ledger(channel)
        for group in self.stacked.base.units:
            group.tape, group.pending, group.past = Tape(), [], []
        for group in self.stacked.system.units:
            self._group(group)

    # --- agents and channels ------------------------------------------------------------------------------

    def _agent(self, agent: Agent) -> None:
        trails = None if agent.trail is None else {s: self._rows(v) for s, v in agent.trail.items()}
        for n, member in enumerate(agent.members):
            member.trail = None if trails is None else {step: rows[n] for step, rows in trails.items()}

    def _ledger(self, stack: Channel) -> None:
        ledger, count = stack.ledger, len(stack.members)
        records = {stamp: self.records(record, count) for stamp, record in ledger.records.items()}
        uses = {
            window: {key: self.uses(use, count) for key, use in found.items()}
            for window, found in ledger.uses.items()
        }
        returned = {
            step: [self.records(record, count) for record in found] for step, found in ledger.returned.items()
        }
        rows = {
            name: self._maybe(getattr(stack.mailbox, name), count)
            for name in ("held", "held_stamp", "prior", "prior_stamp")
        }
        newest = self._maybe(ledger.newest, count)
        signals = {name: self._rows(value) for name, value in stack.mailbox.held_signals.items()}
        for k, channel in enumerate(stack.members):
            own = channel.ledger
            own.records = {s: some[k] for s, some in records.items() if not _forgotten(ledger, some[k])}
            own.uses = {
                w: counting
                for w, found in uses.items()
                if (counting := {key: some[k] for key, some in found.items() if _counts(some[k])})
            }
            own.returned = {
                step: heard
                for step, found in returned.items()
                if (heard := [some[k] for some in found if some[k].counted is not False])
            }
            own.newest, own.read_up_to = newest[k], ledger.read_up_to
            channel.mailbox.held_signals = {name: values[k] for name, values in signals.items()}
            for name, values in rows.items():
                setattr(channel.mailbox, name, values[k])

    def records(self, record: Record, count: int) -> list[Record]:
        """Return a bundle's record as those of its channels."""
        if count == 1:
            return [record]
        if id(record) not in self._records:
            self._kept.append(record)
            self._records[id(record)] = self._split(record, count)
        return self._records[id(record)]

    def _split(self, record: Record, count: int) -> list[Record]:
        message, received = self._rows(record.message), self._rows(record.received)
        optional = {
            name: self._maybe(getattr(record, name), count) for name in ("returned", "lost", "delta", "loss")
        }
        mask = {
            name: self._masks(getattr(record, name), count) for name in ("void", "no_injection", "counted")
        }
        if record.finished is not None:  # who has nothing that counts has nothing (`GradientLedger.close`)
            mask["counted"] = tuple(
                own if not isinstance(own, Tensor) or bool(own.any()) else False for own in mask["counted"]
            )
        states = {name: self._rows(state) for name, state in record.states.items()}
        return [
            Record(
                record.stamp,
                message[k],
                received[k],
                record.step_signals,
                record.first_use,
                set(record.waiting),
                record.deadline,
                optional["returned"][k],
                {name: rows[k] for name, rows in states.items()},
                record.began,
                optional["lost"][k],
                mask["void"][k],
                mask["no_injection"][k],
                mask["counted"][k],
                optional["delta"][k],
                optional["loss"][k],
                record.finished,
                record.held_by_sender,
            )
            for k in range(count)
        ]

    def uses(self, use: Consumption, count: int) -> list[Consumption]:
        """Return a bundle's use as those of its channels."""
        if count == 1:
            return [use]
        if id(use) not in self._uses:
            self._kept.append(use)
            records, leaves = self.records(use.record, count), self._rows(use.leaf)
            counted = self._masks(use.counted, count)
            self._uses[id(use)] = [Consumption(records[k], leaves[k], counted[k]) for k in range(count)]
        return self._uses[id(use)]

    # --- tapes --------------------------------------------------------------------------------------------

    def _group(self, unit: LearningGroup) -> None:
        base = self.stacked.base
        cohorts = [a for name in unit.members if (a := self.stacked.system.agents[name]).stacked]
        own_units = {
            id(base.group_of[member.name]): base.group_of[member.name]
            for cohort in cohorts
            for member in cohort.members
        }
        for name in unit.members:
            if not self.stacked.system.agents[name].stacked:
                own_units[id(base.group_of[name])] = base.group_of[name]
        for key, tape in self._tapes(unit.tape, own_units).items():
            own_units[key].tape = tape
        for pending in unit.pending:
            for key, tape in self._tapes(pending, own_units).items():
                own_units[key].pending.append(tape)
        for past in unit.past:
            for key, tape in self._tapes(past, own_units).items():
                own_units[key].past.append(tape)

    def _tapes(self, tape: Tape, units: dict[int, LearningGroup]) -> dict[int, Tape]:
        base = self.stacked.base
        found = {key: Tape(tape.window) for key in units}
        for name, buffers in tape.start.items():
            for agent, statistics in self._by_member(name, buffers):
                found[id(base.group_of[agent])].start[agent] = statistics
        for tick in tape.ticks:
            cohort = self.stacked.system.agents[tick.parts[0].agent]
            if not cohort.stacked:
                found[id(base.group_of[cohort.name])].ticks.append(tick)
                continue
            for part in self._parts(tick.parts[0], cohort):
                found[id(base.group_of[part.agent])].ticks.append(Tick(tick.step, [part]))
        for name, record in tape.sent:
            stack = self.stacked.system.channels[name]
            for channel, own in zip(stack.members, self.records(record, len(stack.members)), strict=True):
                sent = found[id(base.group_of[channel.sender])]
                sent.sent.append((channel.name, own))
                if name in tape.given_up:
                    sent.given_up.add(channel.name)
        return found

    def _by_member(self, name: str, buffers: dict[str, Tensor]) -> list[tuple[str, dict[str, Tensor]]]:
        cohort = self.stacked.system.agents[name]
        if not cohort.stacked:
            return [(name, buffers)]
        names = [list(member.learner.buffers) for member in cohort.members]
        split = [buffers[key].unbind() for key in names[0]]
        return [
            (member.name, {key: own[n] for key, own in zip(names[n], split, strict=True)})
            for n, member in enumerate(cohort.members)
        ]

    def _parts(self, part: AgentTick, cohort: Agent) -> list[AgentTick]:
        participates = self._masks(part.participates, len(cohort.members))
        ages = self._maybe(part.ages, len(cohort.members))
        read: dict[str, list[Input]] = {}
        for entry in part.consumed:
            stack = self.stacked.system.channels[entry.channel]
            for channel, own in zip(stack.members, self._inputs(entry, stack), strict=True):
                read.setdefault(channel.name, []).append(own)
        found = []
        for n, agent in enumerate(cohort.members):
            mask = participates[n]
            found.append(
                AgentTick(
                    agent.name,
                    part.step_signals,
                    [entry for channel in agent.inputs for entry in read[channel.name]],
                    bool(mask[0]) if isinstance(mask, Tensor) else mask,
                    None if agent.memory is None else read[agent.memory.name][0],
                    ages[n],
                )
            )
        return found

    def _inputs(self, entry: Input, stack: Channel) -> list[Input]:
        count = len(stack.members)
        if count == 1:
            return [Input(stack.members[0].name, entry.stamp, entry.value, entry.use, entry.alive)]
        values = self._maybe(entry.value, count)
        alive = self._masks(entry.alive, count)
        uses = [None] * count if entry.use is None else self.uses(entry.use, count)
        return [
            Input(
                channel.name,
                entry.stamp,
                values[k] if (use := uses[k]) is None else use.leaf,
                use if use is not None and _counts(use) else None,
                alive[k],
            )
            for k, channel in enumerate(stack.members)
        ]

    # --- rows ---------------------------------------------------------------------------------------------

    def _rows(self, rows: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.split(rows, self.batch))

    def _maybe(self, rows: Tensor | None, count: int) -> tuple[Tensor | None, ...]:
        return (None,) * count if rows is None else self._rows(rows)

    def _masks(self, mask: EnvMask, count: int) -> tuple[EnvMask, ...]:
        return self._rows(mask) if isinstance(mask, Tensor) else (mask,) * count


def _counts(use: Consumption) -> bool:
    """Whether a use counts anywhere; a channel alone has no other."""
    return bool(use.counted.any()) if isinstance(use.counted, Tensor) else use.counted


def _forgotten(ledger: GradientLedger, record: Record) -> bool:
    """Whether a channel alone would have dropped a void record that its bundle still keeps for others."""
    if record.finished is None or record.complete or record.held_by_sender:
        return False
    sent = max(ledger.records)
    newest = ledger.sender.latest(sent - ledger.link.delay)
    if (ledger.link.drop or ledger.remembers) and record.stamp > ledger.read_up_to:
        return False
    return newest is not None and record.stamp < newest and record.finished < sent
