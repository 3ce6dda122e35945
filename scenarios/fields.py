"""Types of fields: stricter than Python and YAML, with errors in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema

from antiphon.scenarios.names import name_problem
from antiphon.scenarios.problems import DocumentError, Path, kind_of, show_value

__all__ = [
    "Align",
    "Count",
    "Counts",
    "Flag",
    "FrozenMap",
    "Index",
    "IsReal",
    "Key",
    "Name",
    "Names",
    "Real",
    "Reals",
    "Sequence",
    "Signal",
    "Signals",
    "Size",
    "Text",
    "Unroll",
    "Whole",
    "frozen_data",
]

_LARGEST = 2**53
_MOST = 2**31 - 1
Value = TypeVar("Value")


class FrozenMap(dict[str, Value]):
    """An immutable dict."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a scenario does not change; make another one")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[str, Value]]]:
        return FrozenMap, (dict(self),)

    def __deepcopy__(self, _: object) -> FrozenMap[Value]:
        return self


def fail(message: str) -> NoReturn:
    """Raise the problem `message` at the field that is being validated."""
    raise DocumentError((), message)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        fail(f"must be a whole number, not {kind_of(value)}")
    number = int(value.__index__())
    if abs(number) > _LARGEST:
        fail(f"is too large: {show_value(number)}")
    return number


def _real(value: object) -> float:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        fail(f"must be a number, not {kind_of(value)}")
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        fail(f"must be a number, not {show_value(value)}")
    if not math.isfinite(number):
        fail(f"must be a finite number, not {number}")
    return number


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        fail(f"must be true or false, not {kind_of(value)}")
    return value


def _name(value: object) -> str:
    problem = name_problem(value)
    if problem is not None:
        fail(problem)
    return str(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        fail(f"must be text, not {show_value(value)}")
    return str(value)


def _signal(value: object) -> str:
    if not isinstance(value, str) or not value:
        fail(f"must name a signal, not {show_value(value)}")
    if "$" in value:
        fail(f"'$' begins a template's parameter, which {show_value(value)} is not")
    return str(value)


def _sequence(value: object) -> tuple[object, ...]:
    if not isinstance(value, list | tuple):
        mend = f"; write [{value}]" if isinstance(value, str | int) and not isinstance(value, bool) else ""
        fail(f"must be a list, not {kind_of(value)}{mend}")
    return tuple(value)


def _distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            fail(f"names {value!r} twice")
    return values


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else _sequence(value)
    if not names:
        fail("is an empty list; leave it out, or name an agent")
    return _distinct(tuple(_name(name) for name in names))


def _unroll(value: object) -> int | str:
    if value == "episode" and isinstance(value, str):
        return "episode"
    if isinstance(value, str):
        fail(f"must be a whole number of ticks or 'episode', not {show_value(value)}")
    number = _whole(value)
    if number < 1:
        fail(f"must be at least 1, not {number}")
    return number


def _size(value: object) -> int | tuple[int, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        if len(value) != 3:
            fail(f"must be a whole number or [channels, height, width], not {show_value(value)}")
        sizes = tuple(_whole(item) for item in value)
    else:
        sizes = (_whole(value),)
    if min(sizes) < 1:
        fail(f"must be at least 1, not {show_value(value)}")
    if max(sizes) > _MOST:
        fail(f"must be at most {_MOST}, not {show_value(value)}")
    return sizes if len(sizes) == 3 else sizes[0]


def _key(value: object) -> int | str:
    if isinstance(value, str):
        name = _name(value)
        return int(name) if name.isdecimal() and str(int(name[:16])) == name else name
    number = _whole(value)
    if number < 0:
        fail(f"must be at least 0, not {number}")
    return number


def _align(value: object) -> str | bool | None:
    if value is None or isinstance(value, bool):
        return value or None
    if isinstance(value, str):
        return str(value)
    fail(f"must be true or a channel such as 'a->b', not {show_value(value)}")


def frozen_data(value: object, path: Path = ()) -> Any:
    """Return a value of plain data with lists as tuples and mappings as FrozenMap.

    Raises:
        DocumentError: Something in it is no plain data (a number, word, list or mapping).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            raise DocumentError(path, "must be a number, not nan")
        return float(value)
    if isinstance(value, str):
        if "$" in value:
            raise DocumentError(path, f"'$' begins a template's parameter, which {show_value(value)} is not")
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(frozen_data(item, (*path, index)) for index, item in enumerate(value))
    if isinstance(value, Mapping):
        return FrozenMap(_frozen_items(value, path))
    raise DocumentError(path, f"must be plain data (numbers, words, lists), not {show_value(value)}")


def _frozen_items(mapping: Mapping[Any, Any], path: Path) -> Iterator[tuple[str, Any]]:
    for key, item in mapping.items():
        if not isinstance(key, str) or "$" in key:
            raise DocumentError(path, f"{show_value(key)} is not a key; keys are words")
        yield str(key), frozen_data(item, (*path, str(key)))


_UNROLL_SCHEMA = {"anyOf": [{"type": "integer", "minimum": 1}, {"const": "episode"}]}
_SIZE_SCHEMA = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 3, "maxItems": 3},
        {"type": "null"},
    ]
}
_KEY_SCHEMA = {"type": ["integer", "string"]}
_ALIGN_SCHEMA = {"type": ["string", "boolean", "null"]}
_NAME_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
_NAMES_SCHEMA = {"anyOf": [_NAME_SCHEMA, {"type": "array", "items": _NAME_SCHEMA}, {"type": "null"}]}

Sequence = BeforeValidator(_sequence)
Whole = Annotated[int, BeforeValidator(_whole)]
Index = Annotated[int, Field(ge=0), BeforeValidator(_whole)]
Count = Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(_whole)]
IsReal = BeforeValidator(_real)
Real = Annotated[float, IsReal]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_text)]
Name = Annotated[str, PlainValidator(_name), WithJsonSchema(_NAME_SCHEMA)]
Names = Annotated[tuple[str, ...] | None, PlainValidator(_names), WithJsonSchema(_NAMES_SCHEMA)]
Signal = Annotated[str, BeforeValidator(_signal)]
Signals = Annotated[tuple[Signal, ...], Sequence, AfterValidator(_distinct)]
Counts = Annotated[tuple[Count, ...], Sequence]
Reals = Annotated[tuple[Real, ...], Sequence]
Unroll = Annotated[int | Literal["episode"], PlainValidator(_unroll), WithJsonSchema(_UNROLL_SCHEMA)]
Size = Annotated[int | tuple[int, int, int] | None, PlainValidator(_size), WithJsonSchema(_SIZE_SCHEMA)]
Key = Annotated[int | str, PlainValidator(_key), WithJsonSchema(_KEY_SCHEMA)]
Align = Annotated[str | bool | None, PlainValidator(_align), WithJsonSchema(_ALIGN_SCHEMA)]
