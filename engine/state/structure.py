"""Structure of a saved state: the shapes and types of its tensors, and the kinds and ranges of its numbers.

A state that comes from a file is compared with what its scenario builds before any of it is loaded. Which messages and
windows refer to which is found out while they are loaded; what an environment keeps is its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.system import System
from antiphon.engine.state import form
from antiphon.engine.state.form import Check

__all__ = ["check_structure", "signals_of"]


def check_structure(
    system: System, world: EnvironmentRunner, state: Mapping[str, Any], place: str = "state"
) -> None:
    """Compare the form of a saved state with that of a system and an environment of its scenario; nothing is changed.

    Args:
        system: Built from the scenario.
        world: Of its environment.
        state: As of a simulation's `state_dict`; it may hold anything.
        place: Of the state in its file.

    Raises:
        ValueError: They differ; the text names the first difference.
    """
    present = world.step_signals.signals
    signals = signals_of(world)
    learners = {name: agent.learner.state_dict() for name, agent in system.owners().items()}
    form.table(
        {
            "now": form.whole,
            "seed": form.integer,
            "diverged": form.optional(form.text),
            "present": form.same_keys({name: _signal(signals, name) for name in present}),
            "elapsed": form.whole,
            "tally": form.by_name(_mean, system.agents),
            "system": _system(system, learners, signals),
            "env": form.anything,
        },
        {
            "episodes": form.like(None if world.episodes is None else world.episodes.state_dict()),
            "changes": form.each(form.row(form.whole, form.text, form.anything)),
            "virtual": form.anything,
        },
    )(state, place)


def signals_of(world: EnvironmentRunner) -> dict[str, Check]:
    """Return a check for each signal of the environment, and one for each of their masks."""
    batch, found, dtype = world.env.num_envs, {}, world.env.dtype
    for name, signal in world.env.description.all_signals.items():
        classes = signal.classes
        found[name] = form.tensor((batch, *signal.shape), None if classes else dtype, below=classes)
        found[f"_{name}"] = form.tensor((batch,), torch.bool)
    return found


def _signal(signals: Mapping[str, Check], name: str) -> Check:
    return signals.get(name, form.tensor(None))


def _system(system: System, learners: Mapping[str, Any], signals: Mapping[str, Check]) -> Check:
    agents, channels = system.agents, system.channels
    names = form.each(form.text)
    models = [(name, c.predictor, c.input) for name, c in channels.items()]
    trained = {
        "learners": {name: _trained(own) for name, own in learners.items()},
        "predictors": {name: _trained(own.state_dict()) for name, own, _ in models if own is not None},
        "inputs": {name: _trained(own.state_dict()) for name, _, own in models if own is not None},
        "outliers": {
            name: form.table({"median": form.optional(form.number), "seen": form.whole, "bites": form.whole})
            for name, c in channels.items()
            if c.outliers is not None
        },
        "ledgers": {name: _ledger(c, signals) for name, c in channels.items()},
    }
    tape = _tape(system, signals)
    unit = form.table({"tape": tape, "pending": form.each(tape), "past": form.each(tape)})
    return form.table(
        {
            **{key: form.same_keys(checks) for key, checks in trained.items()},
            "quarantine": form.table(
                {
                    "silenced": names,
                    "muted": names,
                    "deaf": names,
                    "events": form.each(form.row(form.integer, form.text)),
                }
            ),
            "units": form.each(unit),
            "episode": form.optional(
                form.row(form.integer, form.optional(form.whole), form.optional(form.integer))
            ),
            "trails": form.by_name(form.each(form.row(form.integer, form.tensor(None, float))), agents),
            "moments": form.each(form.row(form.integer, form.table({}, signals))),
        },
        {"actions": form.by_name(form.tensor(None), agents)},
    )


def _ledger(channel: Channel, signals: Mapping[str, Check]) -> Check:
    shape, dtype = tuple(channel.zeros.shape), channel.zeros.dtype
    rows = shape[0]
    message, released, mask = (
        form.tensor(shape, dtype),
        form.tensor(shape, dtype, or_empty=True),
        form.mask(rows),
    )
    stamps = form.optional(form.tensor((rows,), torch.int64))
    fields = form.table(
        {
            "stamp": form.integer,
            "message": released,
            "received": released,
            "first_use": form.optional(form.integer),
            "deadline": form.integer,
            "returned": form.optional(message),
            "states": lambda value, place: _rows_by_name(value, place, rows),
            "began": form.integer,
            "lost": form.optional(form.tensor((rows,), torch.bool)),
            "dead": mask,
            "silent": mask,
            "counted": mask,
            "delta": form.optional(message),
            "loss": form.optional(form.tensor((rows,), float)),
            "finished": form.optional(form.integer),
            "pinned": form.flag,
            "waiting": form.each(form.integer),
            "moment": form.whole,
        }
    )

    def record(value: Any, place: str) -> None:
        fields(value, place)
        both = value["message"].shape == value["received"].shape
        form.need(both, f"{place}.received", "a message as it was sent", value["received"])

    return form.table(
        {
            "records": form.each(record),
            "loose": form.each(record),
            "uses": form.each(form.row(form.integer, form.integer, form.integer, released, mask)),
            "returned": form.each(form.row(form.integer, form.each(form.integer))),
            "newest": form.optional(message),
            "held": form.optional(message),
            "held_stamp": stamps,
            "arrived": form.integer,
            "held_signals": form.table({}, signals),
            "prior": form.optional(message),
            "prior_stamp": stamps,
        }
    )


def _tape(system: System, signals: Mapping[str, Check]) -> Check:
    channels = system.channels
    values = {
        name: form.optional(form.tensor(tuple(c.zeros.shape), c.zeros.dtype, or_empty=True))
        for name, c in channels.items()
    }
    masks = {name: form.mask(c.zeros.shape[0]) for name, c in channels.items()}

    def read(value: Any, place: str) -> None:
        form.need(isinstance(value, list) and len(value) == 5, place, "five entries", value)
        name = value[0]
        form.need(isinstance(name, str) and name in channels, place, "a channel", name)
        used = form.optional(form.row(form.integer, masks[name]))
        form.row(form.text, form.optional(form.integer), values[name], used, masks[name])(value, place)

    def part(value: Any, place: str) -> None:
        form.need(isinstance(value, list) and len(value) in (6, 8), place, "six or eight entries", value)
        name = value[0]
        form.need(isinstance(name, str) and name in system.agents, place, "an agent", name)
        rows = system.agents[name].batch
        own = [
            form.text,
            form.whole,
            form.each(read),
            form.mask(rows),
            form.optional(read),
            form.optional(form.tensor((rows, None), None)),
        ]
        policy = [form.optional(form.tensor(None)), form.each(form.whole)] if len(value) == 8 else []
        form.row(*own, *policy)(value, place)

    def start(value: Any, place: str) -> None:
        form.need(isinstance(value, dict), place, "an object", value)
        for name, buffers in value.items():
            form.need(name in system.agents, place, "an agent", name)
            form.like(dict(system.agents[name].learner.buffers))(buffers, f"{place}.{name}")

    def sent(value: Any, place: str) -> None:
        form.row(form.text, form.integer)(value, place)
        form.need(value[0] in channels, place, "a channel", value[0])

    return form.table(
        {
            "window": form.integer,
            "start": start,
            "ticks": form.each(form.row(form.integer, form.each(part))),
            "sent": form.each(sent),
        },
        {"given_up": form.each(form.text)},
    )


def _trained(own: Mapping[str, Any]) -> Check:
    """Return a check of parameters, running statistics and an optimiser; its lengths are compared elsewhere."""

    def optimiser(value: Any, place: str) -> None:
        form.same_keys(dict.fromkeys(own["optimiser"], form.anything))(value, place)
        for name, tensors in own["optimiser"].items():
            if len(tensors) == len(value[name]) and all(isinstance(tensor, Tensor) for tensor in tensors):
                form.like(list(tensors))(value[name], f"{place}.{name}")
            else:
                form.each(form.anything)(value[name], f"{place}.{name}")

    sections = {"parameters": form.like(dict(own["parameters"])), "buffers": form.like(dict(own["buffers"]))}
    return form.table({**sections, "optimiser": optimiser, "updates": form.whole})


def _mean(value: Any, place: str) -> None:
    """Accept sums of loss and metric, their count, and a policy's figures."""
    form.need(isinstance(value, list) and len(value) in (3, 4), place, "three or four entries", value)
    single = form.tensor(None, float, numbers=1)
    form.row(single, single, _count, *([form.anything] if len(value) == 4 else []))(value, place)


def _count(value: Any, place: str) -> None:
    if isinstance(value, Tensor):  # of older checkpoints, where a signal marks targets
        form.tensor(None, numbers=1)(value, place)
        form.need(math.isfinite(float(value)), place, "a finite number", value)
    else:
        form.whole(value, place)


def _rows_by_name(value: Any, place: str, rows: int) -> None:
    form.need(isinstance(value, dict), place, "an object", value)
    for name, tensor in value.items():
        form.tensor((rows, None), float)(tensor, f"{place}.{name}")
