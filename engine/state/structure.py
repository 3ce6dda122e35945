"""Structure of a saved state: the shapes and types of its tensors, and the kinds and ranges of its numbers.

A state that comes from a file is compared with what its scenario builds before any of it is loaded. Which messages and
windows refer to which is found out while they are loaded; what an environment keeps is its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.system import System

__all__ = ["check_structure"]

_MOST = 2**53
"""Of whole numbers: steps and counts."""
_EMPTY = (0,)
"""Shape of a message that has been released."""

Check = Callable[[Any, str], None]
"""Raises ValueError where a value (of a place) has another form."""


def check_structure(system: System, world: EnvironmentRunner, state: Mapping[str, Any]) -> None:
    """Compare the form of a saved state with that of a system and an environment of its scenario; nothing is changed.

    Args:
        system: Built from the scenario.
        world: Of its environment.
        state: As of a simulation's `state_dict`; it may hold anything.

    Raises:
        ValueError: They differ; the text names the first difference.
    """
    present = world.step_signals.signals
    signals = _signals(world)
    learners = {name: agent.learner.state_dict() for name, agent in system.owners().items()}
    _table(
        {
            "now": _whole,
            "seed": _integer,
            "diverged": _optional(_text),
            "present": _same_keys({name: _signal(signals, name) for name in present}),
            "elapsed": _whole,
            "tally": _by_name(_mean, system.agents),
            "system": _system(system, learners, signals),
            "env": _anything,
        },
        {
            "episodes": _like(None if world.episodes is None else world.episodes.state_dict()),
            "changes": _each(_row(_whole, _text, _anything)),
            "virtual": _anything,
        },
    )(state, "state")


def _signals(world: EnvironmentRunner) -> dict[str, Check]:
    """Return a check for each signal of the environment, and one for each of their masks."""
    batch, found, dtype = world.env.num_envs, {}, world.env.dtype
    for name, signal in world.env.description.all_signals.items():
        classes = signal.classes
        found[name] = _tensor((batch, *signal.shape), None if classes else dtype, below=classes)
        found[f"_{name}"] = _tensor((batch,), torch.bool)
    return found


def _signal(signals: Mapping[str, Check], name: str) -> Check:
    return signals.get(name, _tensor(None))


def _system(system: System, learners: Mapping[str, Any], signals: Mapping[str, Check]) -> Check:
    agents, channels = system.agents, system.channels
    names = _each(_text)
    models = [(name, c.predictor, c.input) for name, c in channels.items()]
    trained = {
        "learners": {name: _trained(own) for name, own in learners.items()},
        "predictors": {name: _trained(own.state_dict()) for name, own, _ in models if own is not None},
        "inputs": {name: _trained(own.state_dict()) for name, _, own in models if own is not None},
        "outliers": {
            name: _table({"median": _optional(_number), "seen": _whole, "bites": _whole})
            for name, c in channels.items()
            if c.outliers is not None
        },
        "ledgers": {name: _ledger(c, signals) for name, c in channels.items()},
    }
    tape = _tape(system, signals)
    unit = _table({"tape": tape, "pending": _each(tape), "past": _each(tape)})
    return _table(
        {
            **{key: _same_keys(checks) for key, checks in trained.items()},
            "quarantine": _table(
                {
                    "silenced": names,
                    "muted": names,
                    "deaf": names,
                    "events": _each(_row(_integer, _text)),
                }
            ),
            "units": _each(unit),
            "episode": _optional(_row(_integer, _optional(_whole), _optional(_integer))),
            "trails": _by_name(_each(_row(_integer, _tensor(None, float))), agents),
            "moments": _each(_row(_integer, lambda value, place: _moment(value, place, signals))),
        },
        {"actions": _by_name(_tensor(None), agents)},
    )


def _moment(value: Any, place: str, signals: Mapping[str, Check]) -> None:
    _need(isinstance(value, dict), place, "an object", value)
    for name, tensor in value.items():
        _need(name in signals, place, "no other signals than the environment's", name)
        signals[name](tensor, f"{place}.{name}")


def _ledger(channel: Channel, signals: Mapping[str, Check]) -> Check:
    shape, dtype = tuple(channel.zeros.shape), channel.zeros.dtype
    rows = shape[0]
    message, released, mask = _tensor(shape, dtype), _tensor(shape, dtype, or_empty=True), _mask(rows)
    stamps = _optional(_tensor((rows,), torch.int64))
    fields = _table(
        {
            "stamp": _integer,
            "message": released,
            "received": released,
            "first_use": _optional(_integer),
            "deadline": _integer,
            "returned": _optional(message),
            "states": lambda value, place: _rows_by_name(value, place, rows),
            "began": _integer,
            "lost": _optional(_tensor((rows,), torch.bool)),
            "dead": mask,
            "silent": mask,
            "counted": mask,
            "delta": _optional(message),
            "loss": _optional(_tensor((rows,), float)),
            "finished": _optional(_integer),
            "pinned": _flag,
            "waiting": _each(_integer),
            "moment": _whole,
        }
    )

    def record(value: Any, place: str) -> None:
        fields(value, place)
        both = value["message"].shape == value["received"].shape
        _need(both, f"{place}.received", "a message as it was sent", value["received"])

    return _table(
        {
            "records": _each(record),
            "loose": _each(record),
            "uses": _each(_row(_integer, _integer, _integer, released, mask)),
            "returned": _each(_row(_integer, _each(_integer))),
            "newest": _optional(message),
            "held": _optional(message),
            "held_stamp": stamps,
            "arrived": _integer,
            "held_signals": lambda value, place: _moment(value, place, signals),
            "prior": _optional(message),
            "prior_stamp": stamps,
        }
    )


def _tape(system: System, signals: Mapping[str, Check]) -> Check:
    channels = system.channels
    values = {
        name: _optional(_tensor(tuple(c.zeros.shape), c.zeros.dtype, or_empty=True))
        for name, c in channels.items()
    }
    masks = {name: _mask(c.zeros.shape[0]) for name, c in channels.items()}

    def read(value: Any, place: str) -> None:
        _need(isinstance(value, list) and len(value) == 5, place, "five entries", value)
        name = value[0]
        _need(isinstance(name, str) and name in channels, place, "a channel", name)
        used = _optional(_row(_integer, masks[name]))
        _row(_text, _optional(_integer), values[name], used, masks[name])(value, place)

    def part(value: Any, place: str) -> None:
        _need(isinstance(value, list) and len(value) in (6, 8), place, "six or eight entries", value)
        name = value[0]
        _need(isinstance(name, str) and name in system.agents, place, "an agent", name)
        rows = system.agents[name].batch
        own = [
            _text,
            _whole,
            _each(read),
            _mask(rows),
            _optional(read),
            _optional(_tensor((rows, None), None)),
        ]
        policy = [_optional(_tensor(None)), _each(_whole)] if len(value) == 8 else []
        _row(*own, *policy)(value, place)

    def start(value: Any, place: str) -> None:
        _need(isinstance(value, dict), place, "an object", value)
        for name, buffers in value.items():
            _need(name in system.agents, place, "an agent", name)
            _like(dict(system.agents[name].learner.buffers))(buffers, f"{place}.{name}")

    def sent(value: Any, place: str) -> None:
        _row(_text, _integer)(value, place)
        _need(value[0] in channels, place, "a channel", value[0])

    return _table(
        {
            "window": _integer,
            "start": start,
            "ticks": _each(_row(_integer, _each(part))),
            "sent": _each(sent),
        },
        {"given_up": _each(_text)},
    )


def _trained(own: Mapping[str, Any]) -> Check:
    """Return a check of parameters, running statistics and an optimiser; its lengths are compared elsewhere."""

    def optimiser(value: Any, place: str) -> None:
        _same_keys(dict.fromkeys(own["optimiser"], _anything))(value, place)
        for name, tensors in own["optimiser"].items():
            if len(tensors) == len(value[name]) and all(isinstance(tensor, Tensor) for tensor in tensors):
                _like(list(tensors))(value[name], f"{place}.{name}")
            else:
                _each(_anything)(value[name], f"{place}.{name}")

    sections = {"parameters": _like(dict(own["parameters"])), "buffers": _like(dict(own["buffers"]))}
    return _table({**sections, "optimiser": optimiser, "updates": _whole})


# --- parts of checks ----------------------------------------------------------------------------------------


def _need(right: bool, place: str, wanted: str, found: Any) -> None:
    if not right:
        raise ValueError(f"{place}: {_described(found)} in place of {wanted}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)[:40]


def _anything(value: Any, place: str) -> None:
    del value, place


def _text(value: Any, place: str) -> None:
    _need(isinstance(value, str), place, "a text", value)


def _flag(value: Any, place: str) -> None:
    _need(isinstance(value, bool), place, "true or false", value)


def _integer(value: Any, place: str) -> None:
    _need(isinstance(value, int) and not isinstance(value, bool), place, "a whole number", value)
    _need(abs(value) <= 2**64, place, "a smaller number", value)


def _whole(value: Any, place: str) -> None:
    _integer(value, place)
    _need(0 <= value <= _MOST, place, "a whole number, 0 or more", value)


def _number(value: Any, place: str) -> None:
    _need(isinstance(value, int | float) and not isinstance(value, bool), place, "a number", value)


def _mean(value: Any, place: str) -> None:
    """Accept sums of loss and metric, their count, and a policy's figures."""
    _need(isinstance(value, list) and len(value) in (3, 4), place, "three or four entries", value)
    single = _tensor(None, float, numbers=1)
    _row(single, single, _count, *([_anything] if len(value) == 4 else []))(value, place)


def _count(value: Any, place: str) -> None:
    if isinstance(value, Tensor):  # of older checkpoints, where a signal marks targets
        _tensor(None, numbers=1)(value, place)
        _need(math.isfinite(float(value)), place, "a finite number", value)
    else:
        _whole(value, place)


def _tensor(
    shape: tuple[int | None, ...] | None,
    dtype: torch.dtype | type[float] | None = None,
    *,
    or_empty: bool = False,
    numbers: int | None = None,
    below: int | None = None,
) -> Check:
    """Return a check of a tensor.

    Args:
        shape: None: any; None for a side: any length.
        dtype: float: any with fractions; None: any.
        or_empty: Whether it may have no element at all.
        numbers: How many elements it has; None: any number.
        below: Values are whole numbers from 0 to below this, those of missing targets negative.
    """

    def check(value: Any, place: str) -> None:
        wanted = "a tensor" if shape is None else f"a tensor {list(shape)}"
        _need(isinstance(value, Tensor), place, wanted, value)
        sides = tuple(value.shape)
        if not (or_empty and sides == _EMPTY) and shape is not None:
            same = len(sides) == len(shape)
            same = same and all(b in (None, a) for a, b in zip(sides, shape, strict=True))
            _need(same, place, wanted, value)
        same = value.is_floating_point() if dtype is float else dtype in (None, value.dtype)
        _need(
            same,
            place,
            wanted if dtype is float else f"{wanted} of {str(dtype).removeprefix('torch.')}",
            value,
        )
        _need(numbers is None or value.numel() == numbers, place, f"{numbers} number", value)
        if below is not None and value.numel():
            _need(
                not value.is_floating_point() and int(value.max()) < below,
                place,
                f"classes below {below}",
                value,
            )

    return check


def _mask(rows: int) -> Check:
    tensor = _tensor((rows,), torch.bool)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, bool):
            tensor(value, place)

    return check


def _rows_by_name(value: Any, place: str, rows: int) -> None:
    _need(isinstance(value, dict), place, "an object", value)
    for name, tensor in value.items():
        _tensor((rows, None), float)(tensor, f"{place}.{name}")


def _optional(check: Check) -> Check:
    def check_if_any(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return check_if_any


def _each(check: Check) -> Check:
    def check_each(value: Any, place: str) -> None:
        _need(isinstance(value, list), place, "a list", value)
        for index, item in enumerate(value):
            check(item, f"{place}[{index}]")

    return check_each


def _row(*checks: Check) -> Check:
    def check_row(value: Any, place: str) -> None:
        _need(isinstance(value, list) and len(value) == len(checks), place, f"{len(checks)} entries", value)
        for index, (check, item) in enumerate(zip(checks, value, strict=True)):
            check(item, f"{place}[{index}]")

    return check_row


def _same_keys(checks: Mapping[str, Check]) -> Check:
    """Return a check of an object's values; which of its names are missing or too many is compared elsewhere."""

    def check_values(value: Any, place: str) -> None:
        _need(isinstance(value, dict), place, "an object", value)
        for name, check in checks.items():
            if name in value:
                check(value[name], f"{place}.{name}")

    return check_values


def _by_name(check: Check, names: Mapping[str, Any]) -> Check:
    def check_values(value: Any, place: str) -> None:
        _need(isinstance(value, dict), place, "an object", value)
        for name, item in value.items():
            _need(name in names, place, "names of the scenario", name)
            check(item, f"{place}.{name}")

    return check_values


def _table(checks: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    """Return a check of an object with these entries, and perhaps some of others."""

    def check_table(value: Any, place: str) -> None:
        _need(isinstance(value, dict), place, "an object", value)
        for key, check in checks.items():
            _need(key in value, place, f"an object with '{key}'", value)
            check(value[key], f"{place}.{key}")
        for key in value.keys() - checks.keys():
            _need(key in (others or {}), place, "no other entries", key)
            (others or {})[key](value[key], f"{place}.{key}")

    return check_table


def _like(own: Any) -> Check:
    """Return a check for the form of another value: its keys, lengths, shapes, types and kinds of numbers."""

    def check(value: Any, place: str) -> None:
        _compare_value(own, value, place)

    return check


def _compare_value(own: Any, value: Any, place: str) -> None:
    if isinstance(own, Tensor):
        same = isinstance(value, Tensor) and value.shape == own.shape and value.dtype == own.dtype
        _need(same, place, _described(own), value)
    elif isinstance(own, Mapping):
        _need(isinstance(value, dict) and value.keys() == own.keys(), place, "the same entries", value)
        for key, item in own.items():
            _compare_value(item, value[key], f"{place}.{key}")
    elif isinstance(own, list | tuple):
        _need(isinstance(value, list) and len(value) == len(own), place, _described(list(own)), value)
        for index, item in enumerate(own):
            _compare_value(item, value[index], f"{place}[{index}]")
    elif isinstance(own, bool):
        _flag(value, place)
    elif isinstance(own, int):
        _integer(value, place)
    elif isinstance(own, float):
        _number(value, place)
