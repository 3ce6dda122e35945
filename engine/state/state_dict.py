"""The whole state of a simulation as plain data: what a fork copies and a checkpoint writes.

A state is a tree of dicts, lists, numbers, strings and tensors. Step signals are shared by many records and parts:
they are kept once, by step. Graphs are never stored; open windows are replayed from their tapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from antiphon.comms.credit import as_leaf
from antiphon.comms.model import Model
from antiphon.engine.core.mailbox import Mailbox
from antiphon.engine.core.records import AgentTick, Consumption, Read, Record, StepSignals, Tape, Tick
from antiphon.engine.core.system import System

__all__ = ["restore", "snapshot"]

Tree = dict[str, Any]
NumberedSignals = dict[int, tuple[StepSignals, int]]
"""By identity: the moment and its number."""


def snapshot(system: System) -> Tree:
    """Return the state of single agents and channels, without copying a tensor."""
    all_signals: NumberedSignals = {}
    tapes = [tape for group in system.groups for tape in (group.tape, *group.pending, *group.past)]
    held: dict[str, list[Record]] = {}
    for tape in tapes:
        for name, record in _records(tape):
            held.setdefault(name, []).append(record)
    ledgers = {
        name: _ledger(channel.mailbox, held.get(name, []), all_signals)
        for name, channel in system.channels.items()
    }
    groups = [
        {
            "tape": _tape(group.tape, all_signals),
            "pending": [_tape(tape, all_signals) for tape in group.pending],
            "past": [_tape(tape, all_signals) for tape in group.past],
        }
        for group in system.groups
    ]
    episode, channels = system.episode, system.channels
    return {
        "learners": {name: agent.learner.state_dict() for name, agent in system.owners().items()},
        "predictors": {n: _predictor(p) for n, c in channels.items() if (p := c.predictor) is not None},
        "inputs": {n: _predictor(model) for n, c in channels.items() if (model := c.input) is not None},
        "quarantine": {
            "silenced": [name for name, agent in system.agents.items() if agent.agent_disabled],
            "muted": [name for name, channel in system.channels.items() if channel.predictor_disabled],
            "deaf": [name for name, channel in system.channels.items() if channel.input_model_disabled],
            "events": [list(event) for event in system.divergence.events],
        },
        "ledgers": ledgers,
        "units": groups,
        "episode": None if episode is None else [episode.start, episode.length, episode.current],
        "trails": {
            name: [[step, state] for step, state in agent.trail.items()]
            for name, agent in system.agents.items()
            if agent.trail is not None
        },
        "outliers": {
            name: channel.outliers.state_dict()
            for name, channel in system.channels.items()
            if channel.outliers is not None
        },
        "moments": [
            [step_signals.step, dict(step_signals.signals)] for step_signals, _ in all_signals.values()
        ],
    }


def restore(system: System, state: Mapping[str, Any]) -> None:
    """Load a state made by `snapshot` into single agents and channels; graphs are not made again.

    The tensors of `state` are used as they are, so hand in copies.
    """
    all_signals = [StepSignals(step, signals) for step, signals in state["moments"]]
    if system.episode is not None:
        system.episode.begin(*state["episode"])
    for name, trail in state["trails"].items():
        system.agents[name].trail = dict(trail)
    for name, agent in system.owners().items():
        agent.learner.load_state_dict(state["learners"][name])
    records: dict[str, dict[int, Record]] = {}
    for name, channel in system.channels.items():
        if channel.predictor is not None:
            _load_predictor(channel.predictor, state["predictors"][name])
        if channel.input is not None:
            _load_predictor(channel.input, state["inputs"][name])
        if channel.outliers is not None:
            channel.outliers.load_state_dict(state["outliers"][name])
        channel.input_examples, channel.input_example_members = [], []
        channel.predictors_disabled = channel.input_models_disabled = None
        channel.disable_predictors([0] if name in state["quarantine"]["muted"] else [])
        channel.disable_input_models([0] if name in state["quarantine"]["deaf"] else [])
        records[name] = _load_ledger(channel.mailbox, state["ledgers"][name], all_signals)
    for name, agent in system.agents.items():
        agent.agent_disabled = name in state["quarantine"]["silenced"]
    system.divergence.events = [(step, line) for step, line in state["quarantine"]["events"]]
    for group, saved in zip(system.groups, state["units"], strict=True):
        group.tape = _load_tape(saved["tape"], system, all_signals, records)
        group.pending = [_load_tape(tape, system, all_signals, records) for tape in saved["pending"]]
        group.past = [_load_tape(tape, system, all_signals, records) for tape in saved["past"]]


def _predictor(predictor: Model) -> Tree:
    return {
        "parameters": dict(predictor.parameters),
        "buffers": dict(predictor.buffers),
        "optimiser": {name: list(tensors) for name, tensors in predictor.optimiser.state.items()},
        "updates": predictor.updates,
    }


def _load_predictor(predictor: Model, saved: Mapping[str, Any]) -> None:
    for name, p in predictor.parameters.items():
        p.data.copy_(saved["parameters"][name])
    predictor.buffers = dict(saved["buffers"])
    predictor.optimiser.allocate()
    for name, tensors in predictor.optimiser.state.items():
        for own, value in zip(tensors, saved["optimiser"][name], strict=True):
            own.copy_(value)
    predictor.updates = saved["updates"]


def _signals(step_signals: StepSignals, all_signals: NumberedSignals) -> int:
    return all_signals.setdefault(id(step_signals), (step_signals, len(all_signals)))[1]


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
        for agent, step_signals, inputs, participates, memory, ages in parts:
            entries = [loaded(entry, step) for entry in inputs]
            own = None if memory is None else loaded(memory, step)
            found.append(AgentTick(agent, all_signals[step_signals], entries, participates, own, ages))
        tape.ticks.append(Tick(step, found))
    tape.sent = [(name, records[name][stamp]) for name, stamp in saved["sent"]]
    tape.given_up = set(saved.get("given_up", ()))  # older checkpoints have none
    return tape
