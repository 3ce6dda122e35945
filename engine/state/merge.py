"""Merging the state of single agents and channels, as a checkpoint has it, into that of their stacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

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
    Input,
    Record,
    StepSignals,
    Tape,
    Tick,
    joined,
)
from antiphon.engine.core.rows import EnvMask, Replicas
from antiphon.engine.core.system import LearningGroup, Stacked

__all__ = ["merge_state"]


def merge_state(stacked: Stacked) -> None:
    """Read ledgers, tapes, traces, statistics and what is disabled from the single agents and channels."""
    if stacked.system is not stacked.base:
        _Merger(stacked).run()


class _Merger:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked = stacked
        self.batch = stacked.base.batch
        self._records: dict[tuple[int, ...], Record] = {}
        self._uses: dict[tuple[int, ...], Consumption] = {}
        self._void: dict[int, Record] = {}
        self._moments: dict[tuple[int, ...], StepSignals] = {}
        self._place = {
            name: (channel, k)
            for channel in stacked.system.channels.values()
            for k, name in enumerate(channel.names)
        }

    def run(self) -> None:
        for agent in self.stacked.system.agents.values():
            self._agent(agent)
        for channel in self.stacked.system.channels.values():
            self._channel(channel)
        for group in self.stacked.system.units:
            self._group(group)

    # --- agents and channels ------------------------------------------------------------------------------

    def _agent(self, agent: Agent) -> None:
        if isinstance(agent.learner, StackedLearner):
            agent.learner.read_members()
        disabled = torch.tensor([member.agent_disabled is True for member in agent.members])
        agent.agent_disabled = False
        if bool(disabled.any()):
            agent.disable(disabled)
        trails = [member.trail for member in agent.members]
        if trails[0] is not None:
            agent.trail = {
                step: torch.cat([trail[step] for trail in trails if trail is not None]) for step in trails[0]
            }

    @property
    def _device(self) -> torch.device:
        return self.stacked.base.device

    def _channel(self, channel: Channel) -> None:
        channel.input_examples, channel.input_example_members = [], []
        for model in (channel.predictor, channel.input):
            if isinstance(model, StackedModels):
                model.read_members()
        if isinstance(channel.outliers, BundledOutliers):
            channel.outliers.refresh()
        channel.predictors_disabled = _any([c.predictor_disabled for c in channel.members])
        channel.input_models_disabled = _any([c.input_model_disabled for c in channel.members])
        if len(channel.members) > 1:
            self._ledger(channel, [member.ledger for member in channel.members])
            self._mailbox(channel)

    def _ledger(self, stack: Channel, members: Sequence[GradientLedger]) -> None:
        ledger, replicas = stack.ledger, stack.replicas
        ledger.records = {
            stamp: self._record(
                self._filled(stamp, [own.records.get(stamp) for own in members], members), replicas
            )
            for stamp in sorted({stamp for own in members for stamp in own.records})
        }
        ledger.returned = {
            step: [self._record(some, replicas) for some in self._returned(step, members)]
            for step in dict.fromkeys(step for own in members for step in own.returned)
        }
        ledger.uses = {}
        for window in dict.fromkeys(w for own in members for w in own.uses):
            found = [own.uses.get(window, {}) for own in members]
            keys = dict.fromkeys(key for some in found for key in some)
            apart = {stamp for stamp, tick in keys if tick >= 0}
            keys = dict.fromkeys(key for key in keys if key[1] >= 0 or key[0] not in apart)
            ledger.uses[window] = {
                (stamp, tick): self._use(
                    [some.get((stamp, tick)) or some.get((stamp, -1)) for some in found],
                    members,
                    stack,
                )
                for stamp, tick in keys
            }
        ledger.read_up_to = members[0].read_up_to
        ledger.newest = self._rows([own.newest for own in members])

    def _mailbox(self, stack: Channel) -> None:
        members = [channel.mailbox for channel in stack.members]
        for name in ("held", "held_stamp", "prior", "prior_stamp"):
            setattr(stack.mailbox, name, self._rows([getattr(own, name) for own in members]))
        stack.mailbox.held_signals = {
            name: torch.cat([own.held_signals[name] for own in members]) for name in members[0].held_signals
        }

    def _returned(self, step: int, members: Sequence[GradientLedger]) -> list[list[Record]]:
        """Return the records that come back at `step`, those of all members for each stamp.

        To some nothing comes back: theirs has no environment that counts.
        """
        found = [{record.stamp: record for record in own.returned.get(step, [])} for own in members]
        stamps = dict.fromkeys(stamp for some in found for stamp in some)
        return [self._filled(stamp, [some.get(stamp) for some in found], members) for stamp in stamps]

    def _filled(
        self, stamp: int, records: Sequence[Record | None], members: Sequence[GradientLedger]
    ) -> list[Record]:
        """Return a record of every member: some channels have none any more where nothing counted for them."""
        known = [record or own.records.get(stamp) for record, own in zip(records, members, strict=True)]
        like = next(record for record in known if record is not None)
        if id(like) not in self._void:
            self._void[id(like)] = replace(like, counted=False, delta=None, loss=None)
        return [self._void[id(like)] if record is None else record for record in known]

    def _record(self, records: Sequence[Record], replicas: Replicas) -> Record:
        """Return the records of a bundle's channels as one: the same one for the same records."""
        if len(records) == 1:
            return records[0]
        key = tuple(id(record) for record in records)
        if key not in self._records:
            first = records[0]
            names = tuple(first.states)
            self._records[key] = Record(
                first.stamp,
                torch.cat([record.message for record in records]),
                torch.cat([record.received for record in records]),
                self._signals([record.step_signals for record in records], replicas),
                first.first_use,
                {window for record in records for window in record.waiting},
                first.deadline,
                self._rows([record.returned for record in records]),
                {name: torch.cat([record.states[name] for record in records]) for name in names},
                first.began,
                self._lost(records),
                self._masks([record.void for record in records]),
                self._masks([record.no_injection for record in records]),
                self._masks([record.counted for record in records]),
                self._rows([record.delta for record in records]),
                self._rows([record.loss for record in records]),
                first.finished,
                any(record.held_by_sender for record in records),
            )
        return self._records[key]

    @staticmethod
    def _lost(records: Sequence[Record]) -> Tensor | None:
        lost = [record.lost for record in records if record.lost is not None]
        return torch.cat(lost) if lost else None

    def _use(
        self, uses: Sequence[Consumption | None], members: Sequence[GradientLedger], stack: Channel
    ) -> Consumption:
        """Return the uses of a bundle's channels as one; where one has none, nothing counts."""
        if len(uses) == 1 and uses[0] is not None:
            return uses[0]
        key = tuple(id(use) for use in uses)
        if key not in self._uses:
            stamp = next(use.record.stamp for use in uses if use is not None)
            known = self._filled(stamp, [None if use is None else use.record for use in uses], members)
            leaf = torch.cat(
                [
                    one.received if use is None else constant(use.leaf)
                    for use, one in zip(uses, known, strict=True)
                ]
            )
            record = self._record(known, stack.replicas)
            counted = self._masks([False if use is None else use.counted for use in uses])
            self._uses[key] = Consumption(record, as_leaf(leaf) if stack.ledger.returns else leaf, counted)
        return self._uses[key]

    # --- tapes --------------------------------------------------------------------------------------------

    def _group(self, unit: LearningGroup) -> None:
        base, agents = self.stacked.base, self.stacked.system.agents
        units: dict[int, LearningGroup] = {}
        for name in unit.members:
            agent = agents[name]
            for member in agent.members:
                units.setdefault(id(base.group_of[member.name]), base.group_of[member.name])
        found = list(units.values())
        unit.tape = self._tape(unit, [own.tape for own in found])
        unit.pending = [
            self._tape(unit, tapes) for tapes in zip(*(own.pending for own in found), strict=True)
        ]
        unit.past = [self._tape(unit, tapes) for tapes in zip(*(own.past for own in found), strict=True)]

    def _tape(self, unit: LearningGroup, tapes: Sequence[Tape]) -> Tape:
        tape = Tape(max(own.window for own in tapes))
        starts = {name: buffers for own in tapes for name, buffers in own.start.items()}
        for agent in (self.stacked.system.agents[name] for name in unit.owners) if starts else ():
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
                if agent.stacked:
                    if (step, agent.members[0].name) in parts:
                        some = [parts[step, member.name][1] for member in agent.members]
                        tape.ticks.append(Tick(step, [self._part(agent, some)]))
                elif (step, call[0]) in parts:
                    tape.ticks.append(parts[step, call[0]][0])
        tape.sent = list(self._sent(entry for own in tapes for entry in own.sent))
        tape.given_up = {name for own in tapes for name in own.given_up}  # delayed channels are stacks of one
        return tape

    def _sent(self, entries: Iterable[tuple[str, Record]]) -> Iterable[tuple[str, Record]]:
        by_stamp: dict[tuple[str, int], list[Record]] = {}
        for name, record in sorted(entries, key=lambda entry: entry[1].stamp):
            placed = self._place.get(name)
            if placed is None or len(placed[0].members) == 1:
                yield name, record
                continue
            stack, k = placed
            some = by_stamp.setdefault((stack.name, record.stamp), [record] * len(stack.members))
            some[k] = record
        for (name, _), some in by_stamp.items():
            channel = self.stacked.system.channels[name]
            yield name, self._record(some, channel.replicas)

    def _part(self, cohort: Agent, parts: Sequence[AgentTick]) -> AgentTick:
        by_agent = {part.agent: part for part in parts}

        def entries(channel: Channel) -> list[Input]:
            return [e for e in by_agent[channel.receiver].consumed if e.channel == channel.name]

        inputs: list[Input] = []
        memory = None
        for stack in [*cohort.inputs, *([] if cohort.memory is None else [cohort.memory])]:
            each = [entries(channel) for channel in stack.members]
            found = [self._input(stack, some) for some in zip(*each, strict=True)]
            if stack is cohort.memory:
                memory = found[0]
            else:
                inputs.extend(found)
        participates = self._masks([part.participates for part in parts])
        ages = self._rows([part.ages for part in parts])
        step_signals = self._signals([part.step_signals for part in parts], cohort.replicas)
        return AgentTick(cohort.name, step_signals, inputs, participates, memory, ages)

    def _signals(self, signals_of: Sequence[StepSignals], replicas: Replicas) -> StepSignals:
        """Return the moment of all replicas that members are in."""
        if replicas.count == 1:
            return signals_of[0]
        each = dict(zip(replicas.index.tolist(), signals_of, strict=True))
        own = [each[world] for world in range(replicas.count)]
        key = tuple(id(step_signals) for step_signals in own)
        if key not in self._moments:
            self._moments[key] = joined(own)
        return self._moments[key]

    def _input(self, stack: Channel, entries: Sequence[Input]) -> Input:
        if len(entries) == 1:
            return Input(stack.name, entries[0].stamp, entries[0].value, entries[0].use, entries[0].alive)
        alive = self._masks([entry.alive for entry in entries])
        uses = [entry.use for entry in entries]
        if any(use is not None for use in uses):
            ledgers = [channel.ledger for channel in stack.members]
            use = self._use(uses, ledgers, stack)
            for rows, entry in zip(torch.split(constant(use.leaf), self.batch), entries, strict=True):
                if (
                    entry.use is None
                ):  # what it read counts for nothing, but is read when the window is replayed
                    rows.copy_(torch.zeros_like(rows) if entry.value is None else constant(entry.value))
            return Input(stack.name, None, use.leaf, use, alive)
        value = self._rows([entry.value for entry in entries])
        return Input(stack.name, entries[0].stamp, value, None, alive)

    # --- rows ---------------------------------------------------------------------------------------------

    def _rows(self, values: Sequence[Any]) -> Tensor | None:
        """Return rows put together; zeros for those that have none; None where nobody has any."""
        some = next((value for value in values if value is not None), None)
        if some is None:
            return None
        return torch.cat([torch.zeros_like(some) if value is None else value for value in values])

    def _masks(self, masks: Sequence[EnvMask]) -> EnvMask:
        if not any(isinstance(one, Tensor) for one in masks) and len(set(masks)) == 1:
            return masks[0]
        full = torch.ones(self.batch, dtype=torch.bool, device=self._device)
        return torch.cat([one if isinstance(one, Tensor) else full & one for one in masks])


def _any(flags: Sequence[bool]) -> Tensor | None:
    return torch.tensor(flags) if any(flags) else None
