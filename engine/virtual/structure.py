"""Structure of a saved state in virtual time: what the machines, their parts, and the exchanges on their way hold."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

from antiphon.engine.core.channel import Channel
from antiphon.engine.parts.free_boundary import FreeFigures
from antiphon.engine.parts.part import Part
from antiphon.engine.state import form
from antiphon.engine.state.form import Check
from antiphon.engine.state.structure import check_structure, signals_of

__all__ = ["check_virtual"]

_SECONDS = form.number
_EVENTS = 5
"""Kinds of them."""
_STAMP = {"stamp": form.integer, "example": form.optional(form.integer)}
_ORIGIN = {"stamp": form.integer, "incarnation": form.integer, "example": form.integer}


def check_virtual(parts: Sequence[Part], state: Mapping[str, Any]) -> None:
    """Compare the form of a saved state with the parts that are to load it; nothing is changed.

    Args:
        parts: Built from the scenario and the placement.
        state: `virtual` of a simulation's `state_dict`; it may hold anything.

    Raises:
        ValueError: They differ; the text names the first difference.
    """
    number = _below(len(parts))
    parcels = [form.row(number, _exchange(part)) for part in parts]
    own = [_own_state(part) for part in parts]

    def event(value: Any, place: str) -> None:
        form.row(_SECONDS, _below(_EVENTS), form.whole, number, form.whole, form.anything)(value, place)
        form.optional(parcels[value[3]])(value[5], f"{place}[5]")

    form.table(
        {
            "placement": form.anything,
            "before": _figures(),
            "cluster": form.table(
                {
                    "seconds": _SECONDS,
                    "number": form.whole,
                    "step_seconds": form.row(*[_SECONDS] * len(parts)),
                    "heap": form.each(event),
                    "machines": form.row(*[_machine(number, len(parts))] * len(parts)),
                    "links": form.each(form.row(number, number, form.whole, _SECONDS)),
                    "inbox": form.row(*[form.each(parcel) for parcel in parcels]),
                    "saved": form.row(*[form.optional(check) for check in own]),
                    "parts": form.row(*own),
                }
            ),
        }
    )(state, "state.virtual")


def _below(count: int) -> Check:
    def check(value: Any, place: str) -> None:
        form.whole(value, place)
        form.need(value < count, place, f"a whole number below {count}", value)

    return check


def _figures() -> Check:
    return form.table({field.name: form.whole for field in fields(FreeFigures)})


def _machine(number: Check, parts: int) -> Check:
    def status(value: Any, place: str) -> None:
        form.need(value in ("computing", "waiting", "away"), place, "what a machine does", value)

    totals = ("since", "computing", "repeated", "unsaved", "away", "failed_at")
    counts = ("steps_taken", "calls", "calls_lost", "bytes_sent", "bytes_received", "incarnation")
    return form.table(
        {
            "status": status,
            "waits_for": form.optional(number),
            "waiting": form.by_name(_SECONDS, {str(part): None for part in range(parts)}),
            **dict.fromkeys(totals, _SECONDS),
            **dict.fromkeys(counts, form.whole),
        }
    )


def _own_state(part: Part) -> Check:
    boundary = _boundary(part)

    def check(value: Any, place: str) -> None:
        form.need(isinstance(value, dict) and "boundary" in value, place, "an object with 'boundary'", value)
        boundary(value["boundary"], f"{place}.boundary")
        rest = {key: item for key, item in value.items() if key not in ("boundary", "part")}
        check_structure(part.backend.stacked.base, part.world, rest, place)

    return check


def _exchange(part: Part) -> Check:
    """Return a check of what has been sent to a part."""
    boundary, signals = part.boundary, signals_of(part.world)
    messages = {key: _message(channel, signals) for key, channel in boundary.receiving.items()}
    returns = {key: _return(channel) for key, channel in boundary.sending.items()}
    return form.table(
        {
            "sender": _one_of(boundary.neighbours),
            **dict.fromkeys(("incarnation", "first", "end"), form.integer),
            "messages": form.each(_by_channel(messages)),
            "returns": form.each(_by_channel(returns)),
        }
    )


def _by_channel(checks: Mapping[str, Check]) -> Check:
    known = _one_of(checks)

    def check(value: Any, place: str) -> None:
        form.need(isinstance(value, dict) and "channel" in value, place, "an object with 'channel'", value)
        known(value["channel"], f"{place}.channel")
        checks[value["channel"]]({key: item for key, item in value.items() if key != "channel"}, place)

    return check


def _message(channel: Channel, signals: Mapping[str, Check], origin: Mapping[str, Check] = _STAMP) -> Check:
    content = form.tensor(tuple(channel.zeros.shape), channel.zeros.dtype)
    return form.table({**origin, "content": content, "signals": form.table({}, signals)})


def _return(channel: Channel) -> Check:
    shape, dtype = tuple(channel.zeros.shape), channel.zeros.dtype
    return form.table(
        {
            **dict.fromkeys(("stamp", "finished", "incarnation"), form.integer),
            "counted": form.mask(shape[0]),
            "delta": form.optional(form.tensor(shape, dtype)),
            "loss": form.optional(form.tensor(shape[:1], float)),
        }
    )


def _boundary(part: Part) -> Check:
    boundary, signals = part.boundary, signals_of(part.world)
    arriving, leaving = _one_of(boundary.receiving), _one_of(boundary.sending)
    queues = {key: form.each(_message(c, signals, _ORIGIN)) for key, c in boundary.receiving.items()}
    steps = _of_each(boundary.neighbours)
    return form.table(
        {
            "queues": form.table(queues),
            "newest": form.by_name(form.row(form.integer, form.integer), boundary.receiving),
            "due": form.each(form.row(arriving, form.integer)),
            "origins": form.each(form.row(arriving, form.integer, form.integer, form.integer)),
            "sent": form.each(form.row(leaving, form.integer, form.integer)),
            "collected": steps,
            "covered": steps,
            "figures": _figures(),
        }
    )


def _one_of(values: Collection[Any]) -> Check:
    def check(value: Any, place: str) -> None:
        found = isinstance(value, str | int) and value in values
        form.need(found, place, f"one of {', '.join(map(str, values)) or 'none'}"[:80], value)

    return check


def _of_each(neighbours: Collection[int]) -> Check:
    rows = form.each(form.row(_one_of(neighbours), form.integer))

    def check(value: Any, place: str) -> None:
        rows(value, place)
        form.need({row[0] for row in value} == set(neighbours), place, "a step of each neighbour", value)

    return check
