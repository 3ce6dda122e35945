"""The whole state of a simulation as plain data: what a fork copies and a checkpoint writes.

A state is a tree of dicts, lists, numbers, strings and tensors. Moments are shared by many records and parts:
they are kept once, by step. Graphs are never stored; open windows are replayed from their tapes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from antiphon.comms.cut import as_leaf
from antiphon.comms.predictors import Predictor
from antiphon.engine.ledger import Ledger, Record, Use
from antiphon.engine.moment import Moment
from antiphon.engine.system import System
from antiphon.engine.tape import Input, Part, Tape, Tick
from antiphon.engine.ticking import Ticker

__all__ = ["restore", "running_statistics", "snapshot"]

Tree = dict[str, Any]


def snapshot(system: System) -> Tree:
    """Return the state of everything but the environment, without copying a tensor."""
    moments: dict[int, Moment] = {}
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
        "ledgers": ledgers,
        "units": units,
        "moments": {str(step): dict(moment.signals) for step, moment in moments.items()},
    }


def restore(system: System, state: Mapping[str, Any], ticker: Ticker) -> None:
    """Take over a state made by `snapshot` on a system built from the same scenario.

    The tensors of `state` are taken over as they are, so hand in copies.
    """
    moments = {int(step): Moment(int(step), signals) for step, signals in state["moments"].items()}
    for name, agent in system.owners().items():
        agent.learner.load_state_dict(state["learners"][name])
    for name, channel in system.channels.items():
        if channel.predictor is not None:
            _load_predictor(channel.predictor, state["predictors"][name])
        _load_ledger(channel.ledger, state["ledgers"][name], moments)
    for unit, saved in zip(system.units, state["units"], strict=True):
        unit.tape = _load_tape(saved["tape"], system, moments)
        unit.pending = [_load_tape(tape, system, moments) for tape in saved["pending"]]
        ticker.replay(unit.tape)


def running_statistics(system: System) -> Callable[[], None]:
    """Return how to put all running statistics back to what they are now; they are values, so nothing is copied."""
    learners = [(agent.learner, agent.learner.buffers) for agent in system.owners().values()]
    predictors = [(c.predictor, dict(c.predictor.buffers)) for c in system.channels.values() if c.predictor]

    def put_back() -> None:
        for learner, buffers in learners:
            learner.buffers = buffers
        for predictor, buffers in predictors:
            predictor.buffers = buffers

    return put_back


def _predictor(predictor: Predictor) -> Tree:
    return {
        "parameters": dict(predictor.parameters),
        "buffers": dict(predictor.buffers),
        "optimiser": {name: list(tensors) for name, tensors in predictor.optimiser.state.items()},
        "updates": predictor.updates,
    }


def _load_predictor(predictor: Predictor, saved: Mapping[str, Any]) -> None:
    for name, p in predictor.parameters.items():
        p.data.copy_(saved["parameters"][name])
    predictor.buffers = dict(saved["buffers"])
    for name, tensors in predictor.optimiser.state.items():
        for own, value in zip(tensors, saved["optimiser"][name], strict=True):
            own.copy_(value)
    predictor.updates = saved["updates"]


def _moment(moment: Moment, moments: dict[int, Moment]) -> int:
    moments[moment.step] = moment
    return moment.step


def _ledger(ledger: Ledger, moments: dict[int, Moment]) -> Tree:
    plain = (
        "stamp",
        "message",
        "first_use",
        "deadline",
        "returned",
        "lost",
        "dead",
        "silent",
        "counted",
        "delta",
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
    }


def _load_ledger(ledger: Ledger, saved: Mapping[str, Any], moments: Mapping[int, Moment]) -> None:
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
    ledger.held, ledger.held_stamp, ledger.arrived = saved["held"], saved["held_stamp"], saved["arrived"]


def _tape(tape: Tape, moments: dict[int, Moment]) -> Tree:
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


def _load_tape(saved: Mapping[str, Any], system: System, moments: Mapping[int, Moment]) -> Tape:
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
            loaded.append(Part(agent, moments[moment], entries))
        tape.ticks.append(Tick(step, loaded))
    tape.sent = [(name, system.channels[name].ledger.records[stamp]) for name, stamp in saved["sent"]]
    return tape
