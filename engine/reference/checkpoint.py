"""The engine's state as plain data, in the form that every backend's checkpoint has. It decides nothing that is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import as_leaf
from antiphon.engine.reference.records import AgentTick, Consumption, MessageRecord, Read, StepSignals, Tape
from antiphon.engine.reference.state import Optimizer, State
from antiphon.nets.torch_optimisers import TorchOptimiser
from antiphon.nets.torch_optimisers import load as load_optimiser
from antiphon.nets.torch_optimisers import saved as saved_optimiser

__all__ = ["load_state_dict", "state_dict"]

Tree = dict[str, Any]
Numbering = dict[int, tuple[StepSignals, int]]
"""Signals are shared by many records and ticks: they are kept once, numbered, by identity."""

_RECORD = {
    "stamp": "stamp",
    "message": "message",
    "received": "received",
    "first_use": "first_use",
    "deadline": "deadline",
    "returned": "returned",
    "states": "states",
    "began": "episode_start",
    "lost": "lost",
    "dead": "void",
    "silent": "no_injection",
    "counted": "counts",
    "delta": "delta",
    "loss": "loss",
    "finished": "finished",
    "pinned": "held_by_sender",
}
"""Fields of a record, by their name in a checkpoint."""
_MASKS = ("lost", "dead", "silent", "counted")
_MAILBOX = ("held", "held_stamp", "arrived", "held_signals", "prior", "prior_stamp")
_OPTIMIZERS = ("learners", "predictors", "inputs")
"""Fields of a mailbox and of the state that have the same name there."""
_DISABLED = {"silenced": "agent_disabled", "muted": "predictor_disabled", "deaf": "input_disabled"}
"""Fields of the state, by their name in a checkpoint."""


def state_dict(state: State) -> Tree:
    """Return the whole state as plain data, without copying a tensor."""
    signals: Numbering = {}
    ledgers = {name: _saved_ledger(state, name, signals) for name in state.ledgers}
    groups = [
        {
            "tape": _saved_tape(group.tape, signals),
            "pending": [_saved_tape(tape, signals) for tape in group.pending],
            "past": [_saved_tape(tape, signals) for tape in group.past],
        }
        for group in state.groups
    ]
    episode, channels = state.system.episode, state.channels
    names = [*state.agents, *channels]
    disabled = {ours: [n for n in names if n in getattr(state, field)] for ours, field in _DISABLED.items()}
    return {
        **{key: {n: _saved_optimizer(one) for n, one in getattr(state, key).items()} for key in _OPTIMIZERS},
        "quarantine": {**disabled, "events": [list(event) for event in state.events]},
        "ledgers": ledgers,
        "units": groups,
        "episode": None if episode is None else [episode.start, episode.length, episode.current],
        "trails": {name: [[s, value] for s, value in trail.items()] for name, trail in state.trails.items()},
        **({"actions": dict(state.actions)} if state.actions else {}),
        "outliers": {n: c.outliers.state_dict() for n, c in channels.items() if c.outliers is not None},
        "moments": [[shared.step, dict(shared.values)] for shared, _ in signals.values()],
    }


def load_state_dict(state: State, saved: Mapping[str, Any]) -> None:
    """Take over a state of the same scenario, tensors as they are; graphs of open windows are not made again."""
    signals = [StepSignals(step, values) for step, values in saved["moments"]]
    if state.system.episode is not None:
        state.system.episode.begin(*saved["episode"])
    for key in _OPTIMIZERS:
        for name, optimizer in getattr(state, key).items():
            _load_optimizer(optimizer, saved[key][name])
    for ours, field in _DISABLED.items():
        setattr(state, field, set(saved["quarantine"][ours]))
    state.events = [(step, line) for step, line in saved["quarantine"]["events"]]
    state.trails = {name: dict(trail) for name, trail in saved["trails"].items()}
    state.actions = dict(saved.get("actions", {}))  # older checkpoints have none
    for name, channel in state.channels.items():
        if channel.outliers is not None:
            channel.outliers.load_state_dict(saved["outliers"][name])
    state.input_examples.clear()
    records = {name: _load_ledger(state, name, saved["ledgers"][name], signals) for name in state.ledgers}
    for group, own in zip(state.groups, saved["units"], strict=True):
        group.tape = _loaded_tape(state, own["tape"], signals, records)
        group.pending = [_loaded_tape(state, tape, signals, records) for tape in own["pending"]]
        group.past = [_loaded_tape(state, tape, signals, records) for tape in own["past"]]


# --- networks and predictors -----------------------------------------------------------------------------


def _saved_optimizer(optimizer: Optimizer) -> Tree:
    """Parameters, running statistics, the optimiser's state and its count of steps."""
    kept: Any = {} if optimizer.torch is None else optimizer.torch.state
    parameters, buffers = dict(optimizer.owner.parameters), dict(optimizer.owner.buffers)
    if isinstance(optimizer.owner.optimiser, TorchOptimiser):
        state = {"torch": [] if optimizer.torch is None else [saved_optimiser(optimizer.torch)]}
        return {
            "parameters": parameters,
            "buffers": buffers,
            "optimiser": state,
            "updates": optimizer.updates,
        }
    found: Tree = {}
    for ours, theirs in _moments(optimizer).items():  # zeros before the first step
        found[ours] = [kept.get(p, {}).get(theirs, torch.zeros_like(p)) for p in optimizer.parameters]
    if optimizer.kind != "sgd":
        first = kept.get(optimizer.parameters[0], {}) if optimizer.parameters else {}
        found["steps"] = [first.get("step", torch.zeros((), dtype=torch.float32))]
    return {"parameters": parameters, "buffers": buffers, "optimiser": found, "updates": optimizer.updates}


def _moments(optimizer: Optimizer) -> dict[str, str]:
    """torch's names of an optimiser's state, by those of a checkpoint."""
    if optimizer.kind == "sgd":
        return {"momentum": "momentum_buffer"} if optimizer.owner.optimiser.settings()["momentum"] else {}
    return {"mean": "exp_avg", "square": "exp_avg_sq"}


@torch.no_grad()
def _load_optimizer(optimizer: Optimizer, saved: Tree) -> None:
    for name, p in optimizer.owner.parameters.items():
        p.copy_(saved["parameters"][name])
    optimizer.owner.buffers = {name: value.clone() for name, value in saved["buffers"].items()}
    optimizer.updates = saved["updates"]
    if isinstance(optimizer.owner.optimiser, TorchOptimiser):
        if optimizer.torch is not None:
            load_optimiser(optimizer.torch, saved["optimiser"]["torch"][0])
        return
    for i, p in enumerate(optimizer.parameters):
        assert optimizer.torch is not None
        moments = _moments(optimizer).items()
        kept = {theirs: saved["optimiser"][ours][i].clone() for ours, theirs in moments}
        if optimizer.kind != "sgd":
            kept["step"] = saved["optimiser"]["steps"][0].clone()
        optimizer.torch.state[p] = kept


# --- ledgers and mailboxes -------------------------------------------------------------------------------


def _saved_ledger(state: State, name: str, signals: Numbering) -> Tree:
    ledger, mailbox = state.ledgers[name], state.mailboxes[name]
    tapes = [tape for group in state.groups for tape in (group.tape, *group.pending, *group.past)]
    held = [record for tape in tapes for owner, record in _records(tape) if owner == name]
    returned = [record for found in ledger.returned.values() for record in found]
    loose = {r.stamp: r for r in (*held, *returned) if r.stamp not in ledger.records}

    def saved(record: MessageRecord) -> Tree:
        entry: Tree = {ours: getattr(record, field) for ours, field in _RECORD.items()}
        entry |= {ours: _simplified(entry[ours]) for ours in _MASKS}
        entry["lost"] = record.lost if ledger.link.drop else None
        return {**entry, "waiting": sorted(record.open_windows), "moment": _number(record.signals, signals)}

    return {
        "records": [saved(record) for record in ledger.records.values()],
        "loose": [saved(record) for record in loose.values()],
        "uses": [
            [window, stamp, tick, use.leaf, _simplified(use.counts)]
            for window, found in ledger.uses.items()
            for (stamp, tick), use in found.items()
        ],
        "returned": [[step, [record.stamp for record in found]] for step, found in ledger.returned.items()],
        "newest": ledger.newest,
        **{key: getattr(mailbox, key) for key in _MAILBOX},
    }


def _load_ledger(
    state: State, name: str, saved: Tree, signals: Sequence[StepSignals]
) -> dict[int, MessageRecord]:
    """Fill a ledger and its mailbox, and return the records by stamp, those that only tapes hold among them."""
    ledger, mailbox = state.ledgers[name], state.mailboxes[name]

    def loaded(entry: Tree) -> MessageRecord:
        fields = {field: entry[ours] for ours, field in _RECORD.items()}
        fields |= {_RECORD[ours]: _mask(state, entry[ours]) for ours in _MASKS}
        return MessageRecord(**fields, open_windows=set(entry["waiting"]), signals=signals[entry["moment"]])

    ledger.records = {entry["stamp"]: loaded(entry) for entry in saved["records"]}
    known = {entry["stamp"]: loaded(entry) for entry in saved["loose"]} | ledger.records
    ledger.uses = {}
    for window, stamp, tick, leaf, counts in saved["uses"]:
        leaf = as_leaf(leaf) if ledger.wants_gradient else leaf
        use = Consumption(known[stamp], leaf, _mask(state, counts))
        ledger.uses.setdefault(window, {})[stamp, tick] = use
    ledger.returned = {step: [known[stamp] for stamp in stamps] for step, stamps in saved["returned"]}
    ledger.newest = saved["newest"]
    for key in _MAILBOX:
        setattr(mailbox, key, saved[key])
    return known


def _mask(state: State, value: bool | Tensor | None) -> Tensor:
    """A mask [B], where a checkpoint may have one bool for all environments."""
    if isinstance(value, Tensor):
        return value
    return torch.full((state.batch,), bool(value), device=state.system.device)


def _simplified(mask: Tensor) -> bool | Tensor:
    """A mask as a checkpoint has it: one bool where all environments agree."""
    return True if mask.all() else mask if mask.any() else False


def _number(shared: StepSignals, signals: Numbering) -> int:
    return signals.setdefault(id(shared), (shared, len(signals)))[1]


# --- tapes -----------------------------------------------------------------------------------------------


def _records(tape: Tape) -> Iterator[tuple[str, MessageRecord]]:
    """The records that a tape holds, by channel: some may have left their ledger."""
    yield from tape.sent
    for _, tick in tape.ticks():
        yield from ((entry.channel, entry.use.record) for entry in tick.consumed if entry.use is not None)


def _saved_tape(tape: Tape, signals: Numbering) -> Tree:
    return {
        "window": tape.window,
        "start": {name: dict(buffers) for name, buffers in tape.start.items()},
        "ticks": [[step, [_saved_tick(tick, signals) for tick in ticks]] for step, ticks in tape.evaluations],
        "sent": [[name, record.stamp] for name, record in tape.sent],
        "given_up": sorted(tape.given_up),
    }


def _saved_tick(tick: AgentTick, numbered: Numbering) -> list[Any]:
    number, inputs = _number(tick.signals, numbered), [_saved_read(entry) for entry in tick.reads]
    state = None if tick.state is None else _saved_read(tick.state)
    policy = [tick.action, [_number(signals, numbered) for signals in tick.outcomes]] if tick.outcomes else []
    return [tick.agent, number, inputs, tick.participates, state, tick.ages, *policy]


def _saved_read(entry: Read) -> list[Any]:
    used = None if entry.use is None else [entry.use.record.stamp, _simplified(entry.use.counts)]
    return [entry.channel, entry.stamp, entry.value, used, _simplified(entry.present)]


def _loaded_tape(
    state: State,
    saved: Tree,
    signals: Sequence[StepSignals],
    records: Mapping[str, Mapping[int, MessageRecord]],
) -> Tape:
    tape = Tape(saved["window"], {name: dict(buffers) for name, buffers in saved["start"].items()})

    def loaded(entry: Sequence[Any], step: int) -> Read:
        name, stamp, value, used, present = entry
        use = None
        if used is not None:
            ledger = state.ledgers[name]
            uses = ledger.uses.get(tape.window, {})
            use = uses.get((used[0], step)) or uses.get((used[0], -1))
            if use is None:  # the window has closed: only this tape still needs it
                leaf = as_leaf(value) if ledger.wants_gradient else value
                use = Consumption(records[name][used[0]], leaf, _mask(state, used[1]))
            value = use.leaf
        elif value is None and stamp is None:
            value = state.mailboxes[name].zeros
        return Read(name, stamp, value, _mask(state, present), use)

    for step, agents in saved["ticks"]:
        ticks = []
        for agent, number, inputs, learns, taken_up, ages, *policy in agents:
            read = [loaded(entry, step) for entry in inputs]
            own = None if taken_up is None else loaded(taken_up, step)
            action, outcomes = policy or (None, ())
            known = [signals[outcome] for outcome in outcomes]
            ticks.append(AgentTick(agent, signals[number], read, bool(learns), own, ages, action, known))
        tape.evaluations.append((step, ticks))
    tape.sent = [(name, records[name][stamp]) for name, stamp in saved["sent"]]
    tape.given_up = set(saved.get("given_up", ()))  # older checkpoints have none
    return tape
