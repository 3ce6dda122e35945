"""Checks of the form of plain data and tensors that come from a file: `check(value, place)` raises ValueError with the place,
what is there, and what it is in place of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = [
    "Check",
    "anything",
    "by_name",
    "each",
    "flag",
    "integer",
    "like",
    "mask",
    "need",
    "number",
    "optional",
    "row",
    "same_keys",
    "table",
    "tensor",
    "text",
    "whole",
]

_MOST = 2**53
"""Of whole numbers: steps and counts."""
_EMPTY = (0,)
"""Shape of a message that has been released."""

Check: TypeAlias = Callable[[Any, str], None]
"""Raises ValueError where a value (of a place) has another form."""


def need(right: bool, place: str, wanted: str, found: Any) -> None:
    """Raise ValueError unless it is `right`."""
    if not right:
        raise ValueError(f"{place}: {_described(found)} in place of {wanted}")


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor {list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping):
        return f"an object of {len(value)}"
    return f"a list of {len(value)}" if isinstance(value, list) else repr(value)[:40]


def anything(value: Any, place: str) -> None:
    """Accept any value."""
    del value, place


def text(value: Any, place: str) -> None:
    """Accept a text."""
    need(isinstance(value, str), place, "a text", value)


def flag(value: Any, place: str) -> None:
    """Accept true and false."""
    need(isinstance(value, bool), place, "true or false", value)


def integer(value: Any, place: str) -> None:
    """Accept a whole number of at most 64 bits."""
    need(isinstance(value, int) and not isinstance(value, bool), place, "a whole number", value)
    need(abs(value) <= 2**64, place, "a smaller number", value)


def whole(value: Any, place: str) -> None:
    """Accept a whole number from 0 to 2^53: a step or a count."""
    integer(value, place)
    need(0 <= value <= _MOST, place, "a whole number, 0 or more", value)


def number(value: Any, place: str) -> None:
    """Accept a number."""
    need(isinstance(value, int | float) and not isinstance(value, bool), place, "a number", value)


def tensor(
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
        need(isinstance(value, Tensor), place, wanted, value)
        sides = tuple(value.shape)
        if not (or_empty and sides == _EMPTY) and shape is not None:
            same = len(sides) == len(shape)
            same = same and all(b in (None, a) for a, b in zip(sides, shape, strict=True))
            need(same, place, wanted, value)
        same = value.is_floating_point() if dtype is float else dtype in (None, value.dtype)
        need(
            same,
            place,
            wanted if dtype is float else f"{wanted} of {str(dtype).removeprefix('torch.')}",
            value,
        )
        need(numbers is None or value.numel() == numbers, place, f"{numbers} number", value)
        if below is not None and value.numel():
            need(
                not value.is_floating_point() and int(value.max()) < below,
                place,
                f"classes below {below}",
                value,
            )

    return check


def mask(rows: int) -> Check:
    """Return a check of true, false, or one of them for each row."""
    each_row = tensor((rows,), torch.bool)

    def check(value: Any, place: str) -> None:
        if not isinstance(value, bool):
            each_row(value, place)

    return check


def optional(check: Check) -> Check:
    """Return a check that accepts null too."""

    def check_if_any(value: Any, place: str) -> None:
        if value is not None:
            check(value, place)

    return check_if_any


def each(check: Check) -> Check:
    """Return a check of the items of a list."""

    def check_each(value: Any, place: str) -> None:
        need(isinstance(value, list), place, "a list", value)
        for index, item in enumerate(value):
            check(item, f"{place}[{index}]")

    return check_each


def row(*checks: Check) -> Check:
    """Return a check of a list with these items."""

    def check_row(value: Any, place: str) -> None:
        need(isinstance(value, list) and len(value) == len(checks), place, f"{len(checks)} entries", value)
        for index, (check, item) in enumerate(zip(checks, value, strict=True)):
            check(item, f"{place}[{index}]")

    return check_row


def same_keys(checks: Mapping[str, Check]) -> Check:
    """Return a check of an object's values; which of its names are missing or too many is compared elsewhere."""

    def check_values(value: Any, place: str) -> None:
        need(isinstance(value, dict), place, "an object", value)
        for name, check in checks.items():
            if name in value:
                check(value[name], f"{place}.{name}")

    return check_values


def by_name(check: Check, names: Mapping[str, Any]) -> Check:
    """Return a check of an object's values, whose keys are among these names."""

    def check_values(value: Any, place: str) -> None:
        need(isinstance(value, dict), place, "an object", value)
        for name, item in value.items():
            need(name in names, place, "names of the scenario", name)
            check(item, f"{place}.{name}")

    return check_values


def table(checks: Mapping[str, Check], others: Mapping[str, Check] | None = None) -> Check:
    """Return a check of an object with these entries, and perhaps some of others."""

    def check_table(value: Any, place: str) -> None:
        need(isinstance(value, dict), place, "an object", value)
        for key, check in checks.items():
            need(key in value, place, f"an object with '{key}'", value)
            check(value[key], f"{place}.{key}")
        for key in value.keys() - checks.keys():
            need(key in (others or {}), place, "no other entries", key)
            (others or {})[key](value[key], f"{place}.{key}")

    return check_table


def like(own: Any) -> Check:
    """Return a check for the form of another value: its keys, lengths, shapes, types and kinds of numbers."""

    def check(value: Any, place: str) -> None:
        _compare_value(own, value, place)

    return check


def _compare_value(own: Any, value: Any, place: str) -> None:
    if isinstance(own, Tensor):
        same = isinstance(value, Tensor) and value.shape == own.shape and value.dtype == own.dtype
        need(same, place, _described(own), value)
    elif isinstance(own, Mapping):
        need(isinstance(value, dict) and value.keys() == own.keys(), place, "the same entries", value)
        for key, item in own.items():
            _compare_value(item, value[key], f"{place}.{key}")
    elif isinstance(own, list | tuple):
        need(isinstance(value, list) and len(value) == len(own), place, _described(list(own)), value)
        for index, item in enumerate(own):
            _compare_value(item, value[index], f"{place}[{index}]")
    elif isinstance(own, bool):
        flag(value, place)
    elif isinstance(own, int):
        integer(value, place)
    elif isinstance(own, float):
        number(value, place)
