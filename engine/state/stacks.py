"""Messages and windows of stacks by agent and channel, the form in which a checkpoint is written, and back.

Both forms are trees of `state_dict.messages`. Every tensor of a stack has the rows of its members one after the other, and
is split and joined like any other (`split_rows`, `join_rows`); what is left says what a single channel has no record of.
Splitting copies nothing: a member's tensors are views of its rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import BundledOutliers, constant
from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ledger import GradientLedger
from antiphon.engine.heart.message import LearningGroup, ReplicaSignals, StepSignals, joined
from antiphon.engine.heart.rows import Replicas
from antiphon.engine.heart.system import Stacked, System
from antiphon.engine.state.state_dict import Tree
from antiphon.errors import RunError
from antiphon.nets.trained_parameters import StackedParameters

__all__ = ["merge_state", "parts_of", "split_state"]

_RECORD = ("message", "received", "returned", "states", "lost", "dead", "silent", "counted", "delta", "loss")
_MAILBOX = ("newest", "held", "held_stamp", "held_signals", "prior", "prior_stamp")
"""What has rows: tensors [rows, …], masks, or None; dicts of such."""
_WAITING = ("pending", "past")


def parts_of(system: System) -> Iterator[StackedParameters | BundledOutliers]:
    """Yield what stacks have of their members: parameters of agents and predictors, and bounds of outliers."""
    channels = system.channels.values()
    found: list[object] = [agent.learner for agent in system.agents.values()]
    found += [part for channel in channels for part in (channel.predictor, channel.input, channel.outliers)]
    yield from (part for part in found if isinstance(part, StackedParameters | BundledOutliers))


def split_rows(value: Any, count: int, batch: int) -> Sequence[Any]:
    """Return a value of a stack of `count` for each member: tensors [count * batch, …] by rows, others as they are."""
    if isinstance(value, Tensor):
        return torch.split(constant(value), batch)
    if isinstance(value, dict):
        each = {key: split_rows(item, count, batch) for key, item in value.items()}
        if any(len(items) < count for items in each.values()):  # written by hand
            raise RunError("the saved state has fewer rows than the system; load another checkpoint")
        return [{key: items[k] for key, items in each.items()} for k in range(count)]
    if isinstance(value, list):
        rows = [split_rows(item, count, batch) for item in value]
        return [[items[k] for items in rows] for k in range(count)]
    return (value,) * count


def join_rows(values: Sequence[Any], batch: int, device: torch.device) -> Any:
    """Return values of all members, in order, as one of their stack.

    Where one has a tensor, None stands for zeros and a bool for a mask of its rows.
    """
    if isinstance(values[0], dict):
        return {key: join_rows([value[key] for value in values], batch, device) for key in values[0]}
    if not any(isinstance(value, Tensor) for value in values) and len(set(values)) == 1:
        return values[0]
    mask = torch.zeros(batch, dtype=torch.bool, device=device)
    like = next((value for value in values if isinstance(value, Tensor)), mask)
    return torch.cat(
        [constant(v) if isinstance(v, Tensor) else torch.full_like(like, bool(v)) for v in values]
    )


def _anywhere(mask: Any) -> bool:
    return bool(mask.any()) if isinstance(mask, Tensor) else bool(mask)


def _units(saved: Tree, system: System) -> dict[LearningGroup, Tree]:
    """The saved windows of learning groups, by group."""
    return dict(zip(system.groups, saved["units"], strict=True))


def _groups(stacked: Stacked, group: LearningGroup) -> list[LearningGroup]:
    """The groups of single agents that a group of stacks is made of."""
    group_of, agents = stacked.base.group_of, stacked.system.agents
    members = (member.name for name in group.members for member in agents[name].members)
    return list(dict.fromkeys(group_of[name] for name in members))


# --- from stacks to single agents ------------------------------------------------------------------------


def split_state(saved: Tree, stacked: Stacked) -> Tree:
    """Return the messages and windows of stacks by agent and channel."""
    return _Split(stacked).tree(saved)


class _Split:
    def __init__(self, stacked: Stacked) -> None:
        self.stacked, self.system, self.base = stacked, stacked.system, stacked.base

    def tree(self, saved: Tree) -> Tree:
        units: dict[LearningGroup, Tree] = {group: {"pending": [], "past": []} for group in self.base.groups}
        for group, unit in zip(self.system.groups, saved["units"], strict=True):
            members = _groups(self.stacked, group)
            for key, tape in self._tapes(unit["tape"], members).items():
                units[key]["tape"] = tape
            for waiting in _WAITING:
                for whole in unit[waiting]:
                    for key, tape in self._tapes(whole, members).items():
                        units[key][waiting].append(tape)
        needed = _stamps(units.values())
        channels, agents = self.system.channels.values(), self.system.agents
        return {
            **saved,
            "ledgers": {
                name: own
                for channel in channels
                for name, own in self._ledgers(channel, saved["ledgers"][channel.name], needed)
            },
            "units": list(units.values()),
            "trails": {
                member.name: own
                for name, trail in saved["trails"].items()
                for member, own in zip(agents[name].members, self._rows(trail, agents[name]), strict=True)
            },
            "actions": {
                member.name: own
                for name, action in saved["actions"].items()
                for member, own in zip(agents[name].members, self._rows(action, agents[name]), strict=True)
            },
            "moments": [one for shared in saved["moments"] for one in _each(shared)],
        }

    def _rows(self, value: Any, stack: Agent | Channel) -> Sequence[Any]:
        return split_rows(value, len(stack.members), self.base.batch)

    def _signals_number(self, number: int, stack: Agent | Channel, k: int) -> int:
        """The number of a member's own signals, where those of all replicas have one."""
        if self.base.replicas == 1:
            return number
        return number * self.base.replicas + int(stack.replicas.index[k])

    def _ledgers(
        self, stack: Channel, saved: Tree, needed: dict[str, set[int]]
    ) -> Iterator[tuple[str, Tree]]:
        """The ledger and mailbox of each channel, with the records that a channel alone would have kept."""
        if len(stack.members) == 1:
            yield stack.members[0].name, saved
            return
        for k, (channel, own) in enumerate(zip(stack.members, self._rows(saved, stack), strict=True)):
            records = [*own["records"], *own["loose"]]
            for record in records:
                record["moment"] = self._signals_number(record["moment"], stack, k)
                if record["finished"] is not None and not _anywhere(record["counted"]):
                    record["counted"] = False  # as `GradientLedger.close` has it
            counted = {record["stamp"] for record in records if record["counted"] is not False}
            returned = [
                [step, [stamp for stamp in stamps if stamp in counted]] for step, stamps in own["returned"]
            ]
            kept = [record for record in own["records"] if not _forgotten(stack.ledger, record)]
            stamps = {record["stamp"] for record in kept}
            loose = needed.get(channel.name, set()) | {stamp for _, back in returned for stamp in back}
            yield (
                channel.name,
                {
                    **own,
                    "records": kept,
                    "loose": [record for record in records if record["stamp"] in loose - stamps],
                    "uses": [use for use in own["uses"] if _anywhere(use[4])],
                    "returned": [[step, back] for step, back in returned if back],
                },
            )

    def _tapes(self, tape: Tree, groups: Sequence[LearningGroup]) -> dict[LearningGroup, Tree]:
        """A window of a group of stacks, by group of single agents."""
        group_of, agents, channels = self.base.group_of, self.system.agents, self.system.channels
        found: dict[LearningGroup, Tree] = {
            key: {**tape, "start": {}, "ticks": [], "sent": [], "given_up": []} for key in groups
        }
        for name, buffers in tape["start"].items():
            for member, own in self._buffers(buffers, agents[name]):
                found[group_of[member]]["start"][member] = own
        for step, parts in tape["ticks"]:
            agent = agents[parts[0][0]]
            for each in [[part] for part in self._parts(parts[0], agent)] if agent.stacked else [parts]:
                found[group_of[each[0][0]]]["ticks"].append([step, each])
        for name, stamp in tape["sent"]:
            for channel in channels[name].members:
                own_tape = found[group_of[channel.sender]]
                own_tape["sent"].append([channel.name, stamp])
                if name in tape["given_up"] and channel.name not in own_tape["given_up"]:
                    own_tape["given_up"].append(channel.name)
        return found

    @staticmethod
    def _buffers(buffers: Tree, stack: Agent) -> Iterator[tuple[str, Tree]]:
        if not stack.stacked:
            yield stack.name, buffers
            return
        each = [rows.unbind() for rows in buffers.values()]
        for n, member in enumerate(stack.members):
            yield member.name, {key: own[n] for key, own in zip(member.learner.buffers, each, strict=True)}

    def _parts(self, part: list[Any], stack: Agent) -> Iterator[list[Any]]:
        _, number, inputs, participates, memory, ages, *policy = part
        read: dict[str, list[Any]] = {}
        for entry in inputs if memory is None else [*inputs, memory]:
            channels = self.system.channels[entry[0]]
            for channel, own in zip(channels.members, self._rows(entry, channels), strict=True):
                own[0] = channel.name
                if len(channels.members) > 1 and own[3] is not None and not _anywhere(own[3][1]):
                    own[3] = None
                read.setdefault(channel.name, []).append(own)
        action, outcomes = policy or (None, [])
        each = [self._rows(value, stack) for value in (participates, ages, action)]
        for k, (agent, mask, own_ages, own_action) in enumerate(zip(stack.members, *each, strict=True)):
            own_outcomes = [self._signals_number(outcome, stack, k) for outcome in outcomes]
            yield [
                agent.name,
                self._signals_number(number, stack, k),
                [entry for channel in agent.incoming for entry in read[channel.name]],
                bool(mask[0]) if isinstance(mask, Tensor) else mask,
                None if agent.memory is None else read[agent.memory.name][0],
                own_ages,
                *([own_action, own_outcomes] if policy else ()),
            ]


def _each(shared: StepSignals) -> Sequence[StepSignals]:
    return shared.each if isinstance(shared, ReplicaSignals) else (shared,)


def _stamps(units: Iterable[Tree]) -> dict[str, set[int]]:
    """The stamps of the messages that windows need, by channel."""
    found: dict[str, set[int]] = {}
    for unit in units:
        for tape in (unit["tape"], *unit["pending"], *unit["past"]):
            for name, stamp in tape["sent"]:
                found.setdefault(name, set()).add(stamp)
            for _, parts in tape["ticks"]:
                for part in parts:
                    for entry in _read(part):
                        if entry[3] is not None:
                            found.setdefault(entry[0], set()).add(entry[3][0])
    return found


def _read(part: list[Any]) -> list[Any]:
    """All that an agent read at a tick, its own state among it."""
    return part[2] if part[4] is None else [*part[2], part[4]]


def _forgotten(ledger: GradientLedger, record: Tree) -> bool:
    """Whether a channel alone would have dropped a void record that its stack still keeps for others."""
    if record["finished"] is None or record["counted"] is not False or record["pinned"]:
        return False
    sent = max(ledger.records)
    newest = ledger.sender.latest(sent - ledger.link.delay)
    if (ledger.link.drop or ledger.remembers) and record["stamp"] > ledger.read_up_to:
        return False
    return newest is not None and record["stamp"] < newest and record["finished"] < sent


# --- from single agents to stacks ------------------------------------------------------------------------


def merge_state(saved: Tree, stacked: Stacked) -> Tree:
    """Return the messages and windows of single agents and channels by stack."""
    return _Merge(stacked, saved).tree()


class _Merge:
    def __init__(self, stacked: Stacked, saved: Tree) -> None:
        self.stacked, self.system, self.saved = stacked, stacked.system, saved
        self.all_signals: list[StepSignals] = saved["moments"] if stacked.base.replicas == 1 else []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._leaves: dict[tuple[str, int, int, int], Tensor] = {}
        """Of the stacks' uses, by channel, window, stamp and tick."""

    def tree(self) -> Tree:
        saved, agents, channels = self.saved, self.system.agents, self.system.channels.values()
        ledgers = {c.name: self._ledger(c, [saved["ledgers"][name] for name in c.names]) for c in channels}
        units = _units(saved, self.stacked.base)
        trails = {
            name: [[own[0][0], self._rows([state for _, state in own])] for own in zip(*each, strict=True)]
            for name, agent in agents.items()
            if (each := [saved["trails"][member] for member in agent.names if member in saved["trails"]])
        }
        return {
            **saved,
            "ledgers": ledgers,
            "units": [
                self._unit(group, [units[key] for key in _groups(self.stacked, group)])
                for group in self.system.groups
            ],
            "trails": trails,
            "actions": {
                name: self._rows([saved["actions"][member] for member in agent.names])
                for name, agent in agents.items()
                if agent.names[0] in saved.get("actions", {})
            },
            "moments": self.all_signals,
        }

    def _rows(self, values: Sequence[Any]) -> Any:
        return join_rows(values, self.stacked.base.batch, self.stacked.base.device)

    def _signals_number(self, numbers: Sequence[int], replicas: Replicas) -> int:
        """The number of the signals of all replicas, where each member's own have one."""
        if replicas.count == 1:
            return numbers[0]
        each = dict(zip(replicas.index.tolist(), numbers, strict=True))
        key = tuple(each[replica] for replica in range(replicas.count))
        if key not in self._numbers:
            self._numbers[key] = len(self.all_signals)
            self.all_signals.append(joined([self.saved["moments"][number] for number in key]))
        return self._numbers[key]

    # --- ledgers ----------------------------------------------------------------------------------------

    def _ledger(self, stack: Channel, each: Sequence[Tree]) -> Tree:
        if len(each) == 1:
            return each[0]
        known = [{record["stamp"]: record for record in (*own["loose"], *own["records"])} for own in each]
        stamps = sorted({record["stamp"] for own in each for record in own["records"]})
        loose = dict.fromkeys(record["stamp"] for own in each for record in own["loose"])
        returned: dict[int, dict[int, None]] = {}
        for step, back in (entry for own in each for entry in own["returned"]):
            returned.setdefault(step, {}).update(dict.fromkeys(back))
        return {
            **each[0],
            "records": [self._record(stack, _filled(stamp, known)) for stamp in stamps],
            "loose": [self._record(stack, _filled(s, known)) for s in loose if s not in stamps],
            "uses": self._uses(stack, each, known),
            "returned": [[step, list(back)] for step, back in returned.items()],
            **{name: self._rows([own[name] for own in each]) for name in _MAILBOX},
        }

    def _record(self, stack: Channel, each: Sequence[Tree]) -> Tree:
        return {
            **each[0],
            **{name: self._rows([record[name] for record in each]) for name in _RECORD},
            "moment": self._signals_number([record["moment"] for record in each], stack.replicas),
            "waiting": sorted({window for record in each for window in record["waiting"]}),
            "pinned": any(record["pinned"] for record in each),
        }

    def _uses(
        self, stack: Channel, each: Sequence[Tree], known: Sequence[dict[int, Tree]]
    ) -> list[list[Any]]:
        """The uses of a stack's channels; where one has none, nothing counts."""
        by_key = [{(window, stamp, tick): rest for window, stamp, tick, *rest in own["uses"]} for own in each]
        keys = dict.fromkeys(key for own in by_key for key in own)
        by_tick = {key[:2] for key in keys if key[2] >= 0}
        uses = []
        for window, stamp, tick in keys:
            if tick < 0 and (window, stamp) in by_tick:
                continue
            found = [own.get((window, stamp, tick)) or own.get((window, stamp, -1)) for own in by_key]
            received = [record["received"] for record in _filled(stamp, known)]
            leaf = self._rows([r if use is None else use[0] for use, r in zip(found, received, strict=True)])
            self._leaves[stack.name, window, stamp, tick] = leaf
            counted = self._rows([False if use is None else use[1] for use in found])
            uses.append([window, stamp, tick, leaf, counted])
        return uses

    # --- windows ----------------------------------------------------------------------------------------

    def _unit(self, group: LearningGroup, each: Sequence[Tree]) -> Tree:
        found: Tree = {"tape": self._tape(group, [unit["tape"] for unit in each])}
        for key in _WAITING:
            found[key] = [self._tape(group, own) for own in zip(*(unit[key] for unit in each), strict=True)]
        return found

    def _tape(self, group: LearningGroup, tapes: Sequence[Tree]) -> Tree:
        window, agents = max(tape["window"] for tape in tapes), self.system.agents
        starts = {name: buffers for tape in tapes for name, buffers in tape["start"].items()}
        ticks = {(step, parts[0][0]): parts for tape in tapes for step, parts in tape["ticks"]}
        found: list[list[Any]] = []
        for step in sorted({step for step, _ in ticks}):
            for call in self.system.schedule.calls(step):
                agent = agents[call[0]]
                if (step, agent.names[0]) not in ticks:
                    continue
                if agent.stacked:
                    own = [ticks[step, name][0] for name in agent.names]
                    found.append([step, [self._part(agent, own, window, step)]])
                else:
                    found.append([step, ticks[step, call[0]]])
        sent = sorted((entry for tape in tapes for entry in tape["sent"]), key=lambda entry: entry[1])
        return {
            "window": window,
            "start": {name: self._start(agents[name], starts) for name in group.owners} if starts else {},
            "ticks": found,
            "sent": list(dict.fromkeys((self.stacked.channel_of(name)[0].name, s) for name, s in sent)),
            "given_up": [name for tape in tapes for name in tape.get("given_up", ())],  # by stacks of one
        }

    @staticmethod
    def _start(agent: Agent, starts: Tree) -> Tree:
        """A stack's statistics at the window's start; a member that has not ticked yet starts from its present ones."""
        each = [starts.get(member.name, member.learner.buffers) for member in agent.members]
        if not agent.stacked:
            return dict(each[0])
        values = zip(*(own.values() for own in each), strict=True)
        return {key: torch.stack(own) for key, own in zip(agent.learner.buffers, values, strict=True)}

    def _part(self, stack: Agent, each: Sequence[list[Any]], window: int, step: int) -> list[Any]:
        read = {part[0]: _read(part) for part in each}

        def merged(channels: Channel) -> list[list[Any]]:
            own = [[e for e in read[c.receiver] if e[0] == c.name] for c in channels.members]
            return [self._input(channels, entries, window, step) for entries in zip(*own, strict=True)]

        _, numbers, _, participates, _, ages, *policy = zip(*each, strict=True)
        only_policies: list[Any] = []
        if policy:
            steps = zip(*policy[1], strict=True)
            outcomes = [self._signals_number(own, stack.replicas) for own in steps]
            only_policies = [self._rows(policy[0]), outcomes]
        return [
            stack.name,
            self._signals_number(numbers, stack.replicas),
            [entry for channels in stack.incoming for entry in merged(channels)],
            self._rows(participates),
            None if stack.memory is None else merged(stack.memory)[0],
            self._rows(ages),
            *only_policies,
        ]

    def _input(self, stack: Channel, entries: Sequence[list[Any]], window: int, step: int) -> list[Any]:
        if len(entries) == 1:
            return [stack.name, *entries[0][1:]]
        values, uses, available = ([entry[i] for entry in entries] for i in (2, 3, 4))
        stamps = [use[0] for use in uses if use is not None]
        if not stamps:
            return [stack.name, entries[0][1], self._rows(values), None, self._rows(available)]
        place = stack.name, window, stamps[0]
        leaf = self._leaves.get((*place, step), self._leaves.get((*place, -1)))
        if leaf is None:  # the window has closed
            leaf = self._rows(values)
        for rows, value, use in zip(leaf.split(stack.batch), values, uses, strict=True):
            if use is None:  # what it read counts for nothing, but is read when the window is replayed
                rows.copy_(torch.zeros_like(rows) if value is None else constant(value))
        counted = self._rows([False if use is None else use[1] for use in uses])
        return [stack.name, None, leaf, [stamps[0], counted], self._rows(available)]


def _filled(stamp: int, known: Sequence[dict[int, Tree]]) -> list[Tree]:
    """A message's record by channel, where some have none any more: nothing counted for them."""
    like = next(own[stamp] for own in known if stamp in own)
    void = {**like, "counted": False, "delta": None, "loss": None}
    return [own.get(stamp, void) for own in known]
