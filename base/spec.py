"""Base of every part of a scenario: frozen, no unknown keys, own errors, plain data on demand; and the types of its
fields, stricter than Python and YAML: names of agents, ports and channels, sequences, maps.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar

import numpy as np
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from antiphon.base.errors import suggest
from antiphon.base.problems import DocumentError, Path, refuse, show_refused, show_value, translate

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def name_problem(name: object) -> str | None:
    """Return why `name` cannot name an agent, port, group or scenario; None where it can."""
    if not isinstance(name, str):
        return f"a name is a word, not {show_value(name)}; put it in quotes"
    if not _NAME.fullmatch(name):
        return f"{name!r} is not a name; use letters, digits, '_' and '-'"
    if "__" in name:
        return f"{name!r} is not a name; a double underscore is kept for tags"
    return None


def channel_name(sender: str, receiver: str, key: int | str) -> str:
    """Return `a->b`, or `a->b:key` for a parallel channel (any key but 0)."""
    return f"{sender}->{receiver}" if key == 0 else f"{sender}->{receiver}:{key}"


_MOST = 2**31 - 1
AUTO = "auto"
"""The value of a setting that is chosen by what else there is: delay and bits of a link in parts, passes of a sender."""
Value = TypeVar("Value")


class FrozenMap(dict[str, Value]):
    """An immutable dict."""

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("a scenario is immutable; make a new one")

    __setitem__ = __delitem__ = update = setdefault = pop = popitem = clear = __ior__ = _refuse

    def __reduce__(self) -> tuple[type, tuple[dict[str, Value]]]:
        return FrozenMap, (dict(self),)

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __deepcopy__(self, _: object) -> FrozenMap[Value]:
        return self


def fail(message: str) -> NoReturn:
    """Raise the problem `message` at the field that is being validated."""
    raise DocumentError((), message)


def read_name(value: object) -> str:
    problem = name_problem(value)
    if problem is not None:
        fail(problem)
    return str(value)


def _signal(value: object) -> str:
    if not isinstance(value, str) or not value:
        fail(f"must name a signal, not {show_value(value)}")
    return str(value)


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that are given twice."""
    if len(set(values)) < len(values):
        twice = next(value for value, count in Counter(values).items() if count > 1)
        fail(f"names {twice!r} twice; leave one out")
    return values


def frozen_data(value: object, path: Path = ()) -> Any:
    """Return plain data with lists as tuples and mappings as FrozenMap; DocumentError where something in it is none."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and "$" in value:
        raise DocumentError(
            path, f"{show_value(value)}: '$' is reserved for template parameters; leave it out"
        )
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple):
        return tuple(frozen_data(item, (*path, index)) for index, item in enumerate(value))
    if isinstance(value, Mapping):
        return FrozenMap({str(key): frozen_data(item, (*path, str(key))) for key, item in value.items()})
    if isinstance(value, np.generic):
        return frozen_data(value.item(), path)
    raise DocumentError(path, f"must be plain data (numbers, words, lists), not {show_value(value)}")


def in_words(words: str) -> WrapValidator:
    """Return what refuses a value that is of none of several types in one line."""

    def read(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            fail(f"must be {words}, not {show_refused(value)}")

    return WrapValidator(read)


Sequence = Field(strict=False)
"""Of a tuple: a list is one too."""
Count = Annotated[int, Field(ge=1, le=_MOST)]
"""A whole number from 1."""
Name = Annotated[str, PlainValidator(read_name)]
Names = Annotated[
    Annotated[tuple[Name, ...], Sequence] | None,
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    AfterValidator(lambda names: names and distinct(names)),
]
SignalName = Annotated[str, BeforeValidator(_signal)]
SignalNames = Annotated[tuple[SignalName, ...], Sequence, AfterValidator(distinct)]
Counts = Annotated[tuple[Count, ...], Field(max_length=256, strict=False)]
HeadModule = Annotated[
    Callable[..., Any] | None,
    in_words("a torch module or a factory, from Python; leave it out"),
]
"""A torch module, or a factory of one; from Python only."""


class Spec(BaseModel):
    """An immutable part of a scenario, whose fields are strict: `size: "32"` is refused.

    Raises:
        ScenarioError: At construction, for invalid fields; one line that names the place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    written: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written out even where they have their default."""
    refused: ClassVar[frozenset[str]] = frozenset()
    """Fields of its base that a document may not name here."""

    def __init__(self, /, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise translate(error) from None

    # Lets pydantic validate nested parts without calling this.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Construct from a mapping (or return an instance unchanged); ScenarioError where it is not accepted."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            raise translate(error) from None

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with some fields changed; what was computed of the fields is computed anew."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

    def __getstate__(self) -> dict[Any, Any]:
        """Return the fields, without what was computed of them."""
        state, fields = super().__getstate__(), type(self).model_fields
        values = state["__dict__"].items()
        return {**state, "__dict__": {name: value for name, value in values if name in fields}}

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Yield the keys that differ from their defaults, each with its value."""
        yield from _set_keys(self)

    def always_written(self) -> frozenset[str]:
        """Return the fields that are written out even where they have their default."""
        return self.written

    def as_written(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the plain data of its fields as a document has them."""
        return data

    @model_serializer
    def _document(self) -> dict[str, Any]:
        """What `model_dump` returns: the keys of a document, which `model_validate` takes, and not the names of fields."""
        return plain(self)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        accepted = accepted_keys(cls)
        if cls.model_config["extra"] == "forbid":
            near = "; leave it out: there are no keys"
            refuse(
                DocumentError((key,), f"unknown key {key!r}{suggest(key, accepted) or near}")
                for key in map(str, data)
                if key not in accepted
            )
        return {key: value.item() if isinstance(value, np.generic) else value for key, value in data.items()}


@cache
def written_key(spec: type[Spec], field: str) -> str:
    """Return the key of a field in documents: of a field `written_KEY`, whose value may have several forms, `KEY`."""
    return str(spec.model_fields[field].validation_alias or field)


@cache
def accepted_keys(spec: type[Spec]) -> frozenset[str]:
    return frozenset(written_key(spec, field) for field in spec.model_fields if field not in spec.refused)


@cache
def defaults(spec: type[Spec]) -> dict[str, Any]:
    """Return the default values of a part's fields, to be compared with only; what is required has none."""
    fields = spec.model_fields.items()
    return {
        name: info.get_default(call_default_factory=True) for name, info in fields if not info.is_required()
    }


def plain(spec: Spec) -> dict[str, Any]:
    """Return a part of a scenario as nested dicts and lists, without default values; Python objects stay as they are."""
    return spec.as_written({key: _plain_value(value) for key, value in _set_keys(spec)})


def _set_keys(spec: Spec) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a part that differ from their defaults, or are always written, with their values."""
    always_written, plain_values = spec.always_written(), defaults(type(spec))
    for field in type(spec).model_fields:
        value = getattr(spec, field)
        if field in type(spec).refused:
            continue
        if field in always_written or field not in plain_values or value != plain_values[field]:
            yield written_key(type(spec), field), value
    yield from (spec.model_extra or {}).items()


def _plain_value(value: object) -> Any:
    if isinstance(value, Spec):
        return plain(value)
    if isinstance(value, tuple):
        return [_plain_value(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain_value(item) for key, item in value.items()}
    return value


class OrObject:
    """Annotation of a field that holds a `spec` or, from Python only, an object that `accepts` keeps untouched."""

    def __init__(self, spec: type[Spec], accepts: Callable[[object], bool]) -> None:
        self.spec = spec
        self.accepts = accepts

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler(self.spec))

    def _validate(self, value: object, validate: core_schema.ValidatorFunctionWrapHandler) -> object:
        return value if self.accepts(value) else validate(value)
