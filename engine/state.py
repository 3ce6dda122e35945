"""The whole state of a simulation as plain data: what a fork copies and a checkpoint writes.

A state is a tree of dicts, lists, numbers, strings and tensors. Moments are shared by many records and parts:
they are kept once, by step. Graphs are never stored; open windows are replayed from their tapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from antiphon.comms.cut import as_leaf
from antiphon.comms.model import Model
from antiphon.engine.ledger import Ledger, Record, Use
from antiphon.engine.moment import Moment
from antiphon.engine.system import System
from antiphon.engine.tape import Input, Part, Tape, Tick
from antiphon.engine.ticking import Ticker

__all__ = ["restore", "running_statistics", "snapshot"]

Tree = dict[str, Any]
Moments = dict[int, tuple[Moment, int]]
"""By identity: the moment and its number."""


def snapshot(system: System) -> Tree:
    """Return the state of everything but the environment, without copying a tensor."""
    moments: Moments = {}
    ledgers = {name: _ledger(channel.ledger, moments) for name, channel in system.channels.items()}
    units = [
        {"tape": _tape(unit.tape, moments), "pending": [_tape(tape, moments) for tape in unit.pending]}
        for unit in system.units
    ]
    return {
        "learners": {name: agent.learner.state_dict() for name, agent in system.owners().items()},
        "predictors": {
            name: _predictor(channel.predictor)
            for name, channel in system.channels.items()
            if channel.predictor is not None
        },
        "inputs": {
            name: _predictor(channel.input)
            for name, channel in system.channels.items()
            if channel.input is not None
        },
        "quarantine": {
            "silenced": [name for name, agent in system.agents.items() if agent.silenced],
            "muted": [name for name, channel in system.channels.items() if channel.muted],
            "deaf": [name for name, channel in system.channels.items() if channel.deaf],
            "events": [list(event) for event in system.divergence.events],
        },
        "ledgers": ledgers,
        "units": units,
        "moments": [[moment.step, dict(moment.signals)] for moment, _ in moments.values()],
    }


def restore(system: System, state: Mapping[str, Any], ticker: Ticker) -> None:
    """Take over a state made by `snapshot` on a system built from the same scenario.

    The tensors of `state` are taken over as they are, so hand in copies.
    """
    moments = [Moment(step, signals) for step, signals in state["moments"]]
    for name, agent in system.owners().items():
        agent.learner.load_state_dict(state["learners"][name])
    for name, channel in system.channels.items():
        if channel.predictor is not None:
            _load_predictor(channel.predictor, state["predictors"][name])
        if channel.input is not None:
            _load_predictor(channel.input, state["inputs"][name])
        channel.muted = name in state["quarantine"]["muted"]
        channel.deaf = name in state["quarantine"]["deaf"]
        _load_ledger(channel.ledger, state["ledgers"][name], moments)
    for name, agent in system.agents.items():
        agent.silenced = name in state["quarantine"]["silenced"]
    system.divergence.events = [(step, line) for step, line in state["quarantine"]["events"]]
    for unit, saved in zip(system.units, state["units"], strict=True):
        unit.tape = _load_tape(saved["tape"], system, moments)
        unit.pending = [_load_tape(tape, system, moments) for tape in saved["pending"]]
        ticker.replay(unit.tape)


def running_statistics(system: System) -> Callable[[], None]:
    """Return how to put all running statistics back to what they are now; they are values, so nothing is copied."""
    learners = [(agent.learner, agent.learner.buffers) for agent in system.owners().values()]
    models = [
        model for c in system.channels.values() for model in (c.predictor, c.input) if model is not None
    ]
    predictors = [(model, dict(model.buffers)) for model in models]

    def put_back() -> None:
        for learner, buffers in learners:
            learner.buffers = buffers
        for predictor, buffers in predictors:
            predictor.buffers = buffers

    return put_back


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
    for name, tensors in predictor.optimiser.state.items():
        for own, value in zip(tensors, saved["optimiser"][name], strict=True):
            own.copy_(value)
    predictor.updates = saved["updates"]


def _moment(moment: Moment, moments: Moments) -> int:
    return moments.setdefault(id(moment), (moment, len(moments)))[1]


def _ledger(ledger: Ledger, moments: Moments) -> Tree:
    plain = (
        "stamp",
        "message",
        "received",
        "first_use",
        "deadline",
        "returned",
        "lost",
        "dead",
        "silent",
        "counted",
        "delta",
        "loss",
        "finished",
        "pinned",
    )
    records = []
    for record in ledger.records.values():
        entry: Tree = {name: getattr(record, name) for name in plain}
        entry["waiting"] = sorted(record.waiting)
        entry["moment"] = _moment(record.moment, moments)
        records.append(entry)
    uses = [
        [window, stamp, tick, use.leaf, use.counted]
        for window, found in ledger.uses.items()
        for (stamp, tick), use in found.items()
    ]
    return {
        "records": records,
        "uses": uses,
        "returned": [[step, [record.stamp for record in found]] for step, found in ledger.returned.items()],
        "newest": ledger.newest,
        "held": ledger.held,
        "held_stamp": ledger.held_stamp,
        "arrived": ledger.arrived,
        "held_signals": ledger.held_signals,
        "prior": ledger.prior,
        "prior_stamp": ledger.prior_stamp,
    }


def _load_ledger(ledger: Ledger, saved: Mapping[str, Any], moments: Sequence[Moment]) -> None:
    ledger.records = {}
    for entry in saved["records"]:
        fields = {**entry, "waiting": set(entry["waiting"]), "moment": moments[entry["moment"]]}
        ledger.records[entry["stamp"]] = Record(**fields)
    ledger.uses = {}
    for window, stamp, tick, leaf, counted in saved["uses"]:
        leaf = as_leaf(leaf) if ledger.returns else leaf
        ledger.uses.setdefault(window, {})[stamp, tick] = Use(ledger.records[stamp], leaf, counted)
    ledger.returned = {
        step: [ledger.records[stamp] for stamp in stamps] for step, stamps in saved["returned"]
    }
    ledger.newest = saved["newest"]
    for name in ("held", "held_stamp", "arrived", "held_signals", "prior", "prior_stamp"):
        setattr(ledger, name, saved[name])


def _tape(tape: Tape, moments: Moments) -> Tree:
    ticks = []
    for tick in tape.ticks:
        parts = []
        for part in tick.parts:
            inputs = [
                [
                    entry.channel,
                    entry.stamp,
                    None if entry.use is not None else entry.value,
                    None if entry.use is None else entry.use.record.stamp,
                    entry.alive,
                ]
                for entry in part.inputs
            ]
            parts.append([part.agent, _moment(part.moment, moments), inputs])
        ticks.append([tick.step, parts])
    return {
        "window": tape.window,
        "start": {name: dict(buffers) for name, buffers in tape.start.items()},
        "ticks": ticks,
        "sent": [[name, record.stamp] for name, record in tape.sent],
    }


def _load_tape(saved: Mapping[str, Any], system: System, moments: Sequence[Moment]) -> Tape:
    tape = Tape(saved["window"], {name: dict(buffers) for name, buffers in saved["start"].items()})
    for step, parts in saved["ticks"]:
        loaded = []
        for agent, moment, inputs in parts:
            entries = []
            for channel, stamp, value, used, alive in inputs:
                use = None
                if used is not None:
                    ledger = system.channels[channel].ledger
                    window = ledger.uses[tape.window]
                    use = window[used, step] if (used, step) in window else window[used, -1]
                    value = use.leaf
                entries.append(Input(channel, stamp, value, use, alive))
            drawn = system.agents[agent].drawn(tape.window)
            loaded.append(Part(agent, moments[moment], entries, drawn))
        tape.ticks.append(Tick(step, loaded))
    tape.sent = [(name, system.channels[name].ledger.records[stamp]) for name, stamp in saved["sent"]]
    return tape
