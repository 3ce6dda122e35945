"""The whole state of a simulation as plain data: what a fork copies and a checkpoint writes.

A state is a tree of dicts, lists, numbers, strings and tensors. Step signals are shared by many records and parts:
they are kept once, by step. Graphs are never stored; open windows are replayed from their tapes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from antiphon.comms.backward_requests import as_leaf
from antiphon.engine.heart.mailbox import Mailbox
from antiphon.engine.heart.message import AgentTick, Consumption, Read, Record, StepSignals, Tape, Tick
from antiphon.engine.heart.rows import Members
from antiphon.engine.heart.system import System
from antiphon.nets.trained_parameters import TrainedParameters

__all__ = [
    "Tree",
    "load_messages",
    "messages",
    "restore",
    "restore_parameters",
    "snapshot",
    "with_optimisers_of",
]

Tree = dict[str, Any]
NumberedSignals = dict[StepSignals, int]
"""Signals and their numbers, in order."""


def snapshot(system: System) -> Tree:
    """Return the state of single agents and channels, without copying a tensor."""
    episode, channels, found = system.episode, system.channels, messages(system)
    outliers = {name: c.outliers for name, c in channels.items() if c.outliers is not None}
    return {
        "learners": {name: agent.learner.state_dict() for name, agent in system.owners().items()},
        "predictors": {n: p.state_dict() for n, c in channels.items() if (p := c.predictor) is not None},
        "inputs": {n: model.state_dict() for n, c in channels.items() if (model := c.input) is not None},
        "quarantine": found["quarantine"],
        "ledgers": found["ledgers"],
        "units": found["units"],
        "episode": None if episode is None else [episode.start, episode.length, episode.current],
        "trails": found["trails"],
        **({"actions": found["actions"]} if found["actions"] else {}),
        "outliers": {name: own.state_dict() for name, own in outliers.items()},
        "moments": [[shared.step, dict(shared.signals)] for shared in found["moments"]],
    }


def restore(system: System, state: Mapping[str, Any]) -> None:
    """Load a state made by `snapshot` into single agents and channels; graphs are not made again.

    The tensors of `state` are used as they are, so hand in copies.
    """
    load_messages(system, restore_parameters(system, state))


def restore_parameters(system: System, state: Mapping[str, Any]) -> Tree:
    """Load all of a state but the messages and windows, and return these as `messages` does."""
    if system.episode is not None:
        system.episode.begin(*state["episode"])
    for name, agent in system.owners().items():
        agent.learner.load_state_dict(state["learners"][name])
    for name, channel in system.channels.items():
        if channel.predictor is not None:
            channel.predictor.load_state_dict(state["predictors"][name])
        if channel.input is not None:
            channel.input.load_state_dict(state["inputs"][name])
        if channel.outliers is not None:
            channel.outliers.load_state_dict(state["outliers"][name])
    all_signals = [StepSignals(step, signals) for step, signals in state["moments"]]
    return {**state, "moments": all_signals}


def with_optimisers_of(system: System, state: Mapping[str, Any]) -> Tree:
    """Return a state for a system in which other agents or predictors learn: these begin with new optimisers."""
    channels = system.channels
    owners: dict[str, dict[str, TrainedParameters]] = {
        "learners": {name: agent.learner for name, agent in system.owners().items()},
        "predictors": {name: c.predictor for name, c in channels.items() if c.predictor is not None},
        "inputs": {name: c.input for name, c in channels.items() if c.input is not None},
    }
    found = dict(state)
    for key, each in owners.items():
        found[key] = dict(state[key])
        for name, own in each.items():
            new, saved = own.state_dict()["optimiser"], state[key][name]
            if any(len(new[moment]) != len(tensors) for moment, tensors in saved["optimiser"].items()):
                found[key][name] = {**saved, "optimiser": new}
    return found


def messages(system: System) -> Tree:
    """Return what is on the way and in open windows, and what has diverged, of single agents or of stacks.

    `moments` are the signals themselves, which records and ticks have by number.
    """
    all_signals: NumberedSignals = {}
    tapes = [tape for group in system.groups for tape in (group.tape, *group.pending, *group.past)]
    held: dict[str, list[Record]] = {}
    for tape in tapes:
        for name, record in _records(tape):
            held.setdefault(name, []).append(record)
    channels = system.channels
    ledgers = {name: _ledger(c.mailbox, held.get(name, []), all_signals) for name, c in channels.items()}
    groups = [
        {
            "tape": _tape(group.tape, all_signals),
            "pending": [_tape(tape, all_signals) for tape in group.pending],
            "past": [_tape(tape, all_signals) for tape in group.past],
        }
        for group in system.groups
    ]
    agents = system.agents.values()
    return {
        "quarantine": {
            "silenced": _among((agent.names, agent.disabled()) for agent in agents),
            "muted": _among((c.names, c.predictors_disabled) for c in channels.values()),
            "deaf": _among((c.names, c.input_models_disabled) for c in channels.values()),
            "events": [list(event) for event in system.divergence.events],
        },
        "ledgers": ledgers,
        "units": groups,
        "trails": {
            agent.name: [[step, state] for step, state in agent.trail.items()]
            for agent in agents
            if agent.trail is not None
        },
        "actions": {agent.name: agent.action for agent in agents if agent.action is not None},
        "moments": list(all_signals),
    }


def load_messages(system: System, state: Mapping[str, Any]) -> None:
    """Load what `messages` returned of single agents, or of the same stacks."""
    all_signals = state["moments"]
    silenced, muted, deaf = (frozenset(state["quarantine"][key]) for key in ("silenced", "muted", "deaf"))
    for name, trail in state["trails"].items():
        system.agents[name].trail = dict(trail)
    for name, agent in system.agents.items():  # older checkpoints have no actions
        agent.action = state.get("actions", {}).get(name)
    records: dict[str, dict[int, Record]] = {}
    for name, channel in system.channels.items():
        channel.input_examples, channel.input_example_members = [], []
        channel.predictors_disabled = _members(channel.names, muted)
        channel.input_models_disabled = _members(channel.names, deaf)
        records[name] = _load_ledger(channel.mailbox, state["ledgers"][name], all_signals)
    for agent in system.agents.values():
        agent.agent_disabled = False
        if (members := _members(agent.names, silenced)) is not None:
            agent.disable(members)
    system.divergence.events = [(step, line) for step, line in state["quarantine"]["events"]]
    for group, saved in zip(system.groups, state["units"], strict=True):
        group.tape = _load_tape(saved["tape"], system, all_signals, records)
        group.pending = [_load_tape(tape, system, all_signals, records) for tape in saved["pending"]]
        group.past = [_load_tape(tape, system, all_signals, records) for tape in saved["past"]]


def _among(stacks: Iterable[tuple[Sequence[str], Members]]) -> list[str]:
    """The names of the members of stacks that a mask, [N] bool, holds for; None: of none."""
    found = (zip(names, mask.tolist(), strict=True) for names, mask in stacks if mask is not None)
    return [name for stack in found for name, disabled in stack if disabled]


def _members(names: Sequence[str], among: Collection[str]) -> Members:
    """Which of a stack's members are among those named, [N] bool; None: none of them."""
    found = [name in among for name in names]
    return torch.tensor(found) if any(found) else None


def _signals(step_signals: StepSignals, all_signals: NumberedSignals) -> int:
    return all_signals.setdefault(step_signals, len(all_signals))


def _records(tape: Tape) -> Iterator[tuple[str, Record]]:
    """The records that a tape holds, by channel: some a ledger may have no more use for."""
    yield from tape.sent
    for tick in tape.ticks:
        for part in tick.parts:
            yield from ((entry.channel, entry.use.record) for entry in part.consumed if entry.use is not None)


_PLAIN = {
    "stamp": "stamp",
    "message": "message",
    "received": "received",
    "first_use": "first_use",
    "deadline": "deadline",
    "returned": "returned",
    "states": "states",
    "began": "began",
    "lost": "lost",
    "dead": "void",
    "silent": "no_injection",
    "counted": "counted",
    "delta": "delta",
    "loss": "loss",
    "finished": "finished",
    "pinned": "held_by_sender",
}
"""What a checkpoint calls the fields of a record."""


def _ledger(mailbox: Mailbox, held: Sequence[Record], all_signals: NumberedSignals) -> Tree:
    ledger = mailbox.ledger

    def saved(record: Record) -> Tree:
        entry: Tree = {key: getattr(record, name) for key, name in _PLAIN.items()}
        return {
            **entry,
            "waiting": sorted(record.waiting),
            "moment": _signals(record.step_signals, all_signals),
        }

    returned = [record for found in ledger.completed.values() for record in found]
    loose = {record.stamp: record for record in (*held, *returned) if record.stamp not in ledger.records}
    uses = [
        [window, stamp, tick, use.leaf, use.counted]
        for window, found in ledger.uses.items()
        for (stamp, tick), use in found.items()
    ]
    return {
        "records": [saved(record) for record in ledger.records.values()],
        "loose": [saved(record) for record in loose.values()],
        "uses": uses,
        "returned": [[step, [record.stamp for record in found]] for step, found in ledger.completed.items()],
        "newest": ledger.newest,
        "held": mailbox.held,
        "held_stamp": mailbox.held_stamp,
        "arrived": ledger.read_up_to,
        "held_signals": mailbox.held_signals,
        "prior": mailbox.prior,
        "prior_stamp": mailbox.prior_stamp,
    }


def _load_ledger(
    mailbox: Mailbox, saved: Mapping[str, Any], all_signals: Sequence[StepSignals]
) -> dict[int, Record]:
    """Fill a mailbox and its ledger, and return the records by stamp, those that only tapes hold among them."""
    ledger = mailbox.ledger

    def loaded(entry: Tree) -> Record:
        plain = {name: entry[key] for key, name in _PLAIN.items()}
        return Record(**plain, waiting=set(entry["waiting"]), step_signals=all_signals[entry["moment"]])

    ledger.records = {entry["stamp"]: loaded(entry) for entry in saved["records"]}
    known = {entry["stamp"]: loaded(entry) for entry in saved["loose"]} | ledger.records
    ledger.uses = {}
    for window, stamp, tick, leaf, counted in saved["uses"]:
        leaf = as_leaf(leaf) if ledger.wants_deltas else leaf
        ledger.uses.setdefault(window, {})[stamp, tick] = Consumption(known[stamp], leaf, counted)
    ledger.completed = {step: [known[stamp] for stamp in stamps] for step, stamps in saved["returned"]}
    ledger.newest, ledger.read_up_to = saved["newest"], saved["arrived"]
    for name in ("held", "held_stamp", "held_signals", "prior", "prior_stamp"):
        setattr(mailbox, name, saved[name])
    return known


def _tape(tape: Tape, all_signals: NumberedSignals) -> Tree:
    ticks = [
        [
            tick.step,
            [
                [
                    part.agent,
                    _signals(part.step_signals, all_signals),
                    [_read(entry) for entry in part.reads],
                    part.participates,
                    None if part.memory is None else _read(part.memory),
                    part.ages,
                    *_policy(part, all_signals),
                ]
                for part in tick.parts
            ],
        ]
        for tick in tape.ticks
    ]
    return {
        "window": tape.window,
        "start": {name: dict(buffers) for name, buffers in tape.start.items()},
        "ticks": ticks,
        "sent": [[name, record.stamp] for name, record in tape.sent],
        "given_up": sorted(tape.given_up),
    }


def _policy(part: AgentTick, all_signals: NumberedSignals) -> list[Any]:
    """What only ticks of policies have."""
    if not part.outcomes:
        return []
    return [part.action, [_signals(outcome, all_signals) for outcome in part.outcomes]]


def _read(entry: Read) -> list[Any]:
    use = entry.use
    used = None if use is None else [use.record.stamp, use.counted]
    return [entry.channel, entry.stamp, entry.value, used, entry.available]


def _load_tape(
    saved: Mapping[str, Any],
    system: System,
    all_signals: Sequence[StepSignals],
    records: Mapping[str, Mapping[int, Record]],
) -> Tape:
    tape = Tape(saved["window"], {name: dict(buffers) for name, buffers in saved["start"].items()})

    def loaded(entry: list[Any], step: int) -> Read:
        channel, stamp, value, used, available = entry
        use = None
        if used is not None:
            ledger = system.channels[channel].ledger
            open_uses = ledger.uses.get(tape.window, {})
            use = open_uses.get((used[0], step)) or open_uses.get((used[0], -1))
            if use is None:  # the window has closed: only this tape still asks for it
                leaf = as_leaf(value) if ledger.wants_deltas else value
                use = Consumption(records[channel][used[0]], leaf, used[1])
            value = use.leaf
        return Read(channel, stamp, value, use, available)

    for step, parts in saved["ticks"]:
        found = []
        for agent, step_signals, inputs, participates, memory, ages, *policy in parts:
            entries = [loaded(entry, step) for entry in inputs]
            own = None if memory is None else loaded(memory, step)
            part = AgentTick(agent, all_signals[step_signals], entries, participates, own, ages)
            if policy:
                part.action, part.outcomes = policy[0], [all_signals[number] for number in policy[1]]
            found.append(part)
        tape.ticks.append(Tick(step, found))
    tape.sent = [(name, records[name][stamp]) for name, stamp in saved["sent"]]
    tape.given_up = set(saved.get("given_up", ()))  # older checkpoints have none
    return tape
