"""Base of every part of a scenario: frozen, no unknown keys, own errors, plain data on demand; and the types of its
fields, stricter than Python and YAML: names of agents, ports and channels, sequences, maps.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import Parameter, Signature
from types import UnionType
from typing import Annotated, Any, ClassVar, NoReturn, Self, TypeVar, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainValidator,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import core_schema

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import (
    DocumentError,
    Path,
    Problems,
    as_whole,
    show_refused,
    show_value,
    translate,
)

_NAME = re.compile(r"[A-Za-z0-9_-]+")


SPELLINGS: Mapping[str, str] = {
    "color": "colour",
    "every": "period",
    "learning_rate": "lr",
    "neighbors": "neighbours",
    "normalize": "normalise",
    "optimizer": "optimiser",
}
"""Keys that files may spell otherwise, with the spelling that antiphon writes."""


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


def channel_slug(sender: str, receiver: str, key: int | str) -> str:
    """Return the name of a channel for tags and file names: `a__to__b` or `a__to__b__key`."""
    return f"{sender}__to__{receiver}" if key == 0 else f"{sender}__to__{receiver}__{key}"


_RESERVED = "'$' is reserved for template parameters; declare one under parameters, or leave '$' out"
_LARGEST = 2**53
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


def in_one_spelling(keys: Mapping[str, Any], accepted: Collection[str]) -> dict[str, Any]:
    """Return a mapping with the keys that are accepted in place of their other spellings (`SPELLINGS`).

    Raises:
        DocumentError: Both spellings of a key are given.
    """
    renamed = {
        key: SPELLINGS[key]
        for key in keys
        if key in SPELLINGS and key not in accepted and SPELLINGS[key] in accepted
    }
    for key, name in renamed.items():
        if name in keys:
            raise DocumentError((key,), f"is another spelling of {name!r}, which is given too; keep one")
    return {renamed.get(key, key): value for key, value in keys.items()}


def in_python(value: Any) -> Any:
    """Return plain data with the numbers and arrays of numpy, in lists and mappings too, as Python's."""
    if isinstance(value, Mapping):
        return {name: in_python(item) for name, item in value.items()}
    if hasattr(value, "tolist"):
        return value.tolist()
    return [in_python(item) for item in value] if isinstance(value, list | tuple | range) else value


def _is_numpy_number(value: object) -> bool:
    """Whether a value is one number of numpy's, which is imported by others alone."""
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == ()


def read_count(value: object) -> int:
    """Read a whole number whose bounds are its field's."""
    number = as_whole(value)
    if number is None:
        mend = f"; write {int(value)}" if isinstance(value, float) and value.is_integer() else ""
        fail(f"must be a whole number, not {show_refused(value)}{mend}")
    return number


def whole(value: object) -> int:
    number = read_count(value)
    if abs(number) > _LARGEST:
        fail(f"is too large: {show_value(number)}; write at most {_LARGEST:,}")
    return number


def _real(value: object) -> float:
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        fail(f"must be a number, not {show_refused(value)}")
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        fail(f"must be a number, not {show_value(value)}")
    if not math.isfinite(number):
        fail(f"must be a finite number, not {number}")
    return number


def _flag(value: object) -> bool:
    value = in_python(value) if _is_numpy_number(value) else value
    if not isinstance(value, bool):
        fail(f"must be true or false, not {show_refused(value)}")
    return value


def read_name(value: object) -> str:
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
        fail(f"{show_value(value)}: {_RESERVED}")
    return str(value)


_EXAMPLES = 3
"""Keys of a part in the line about a value that is no mapping of them."""


def _sequence(value: object) -> tuple[object, ...]:
    value = in_python(value) if type(value).__module__ == "numpy" else value
    if not isinstance(value, list | tuple):
        mend = f"; write [{value}]" if isinstance(value, str | int) and not isinstance(value, bool) else ""
        mend = "; begin each item with -" if isinstance(value, Mapping) else mend
        fail(f"must be a list, not {show_refused(value)}{mend}")
    return tuple(value)


def _numbers(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        fail(f"must be a list of whole numbers, not {show_refused(value)}")
    if isinstance(value, Mapping):
        fail(f"must be a list of whole numbers, not {show_refused(value)}; write them as [64, 64]")
    return _sequence(value)


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse names that are given twice."""
    if len(set(values)) < len(values):
        twice = next(value for value, count in Counter(values).items() if count > 1)
        fail(f"names {twice!r} twice; leave one out")
    return values


def _names(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = (value,) if isinstance(value, str) else _sequence(value)
    if not names:
        fail("is an empty list; leave it out, or name an agent")
    return distinct(tuple(read_name(name) for name in names))


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
            raise DocumentError(path, "must be a finite number, not nan")
        return float(value)
    if isinstance(value, str):
        if "$" in value:
            raise DocumentError(path, f"{show_value(value)}: {_RESERVED}")
        return str(value)
    if isinstance(value, list | tuple):
        return tuple(frozen_data(item, (*path, index)) for index, item in enumerate(value))
    if isinstance(value, Mapping):
        return FrozenMap(_frozen_items(value, path))
    if _is_numpy_number(value):
        return frozen_data(in_python(value), path)
    raise DocumentError(path, f"must be plain data (numbers, words, lists), not {show_value(value)}")


def _frozen_items(mapping: Mapping[Any, Any], path: Path) -> Iterator[tuple[str, Any]]:
    for key, item in mapping.items():
        if not isinstance(key, str) or "$" in key:
            raise DocumentError(path, f"{show_value(key)} is not a key; keys are words")
        yield str(key), frozen_data(item, (*path, str(key)))


_STRICT: Mapping[type, Callable[[object], object]] = {
    int: whole,
    float: _real,
    bool: _flag,
    str: _text,
    tuple: _sequence,
}
"""By plain type what reads a value of it: `width: "32"` is refused."""


def read_by(check: Callable[[object], object]) -> WrapValidator:
    """Return what reads a value by a function alone; the annotation is of its result, and for the JSON Schema."""
    return WrapValidator(lambda value, _: check(value))


def in_words(words: str) -> WrapValidator:
    """Return what refuses a value that is of none of several types in one line."""

    def read(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            fail(f"must be {words}, not {show_refused(value)}")

    return WrapValidator(read)


_NAME_SCHEMA = {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"}
_NAMES_SCHEMA = {"anyOf": [_NAME_SCHEMA, {"type": "array", "items": _NAME_SCHEMA}, {"type": "null"}]}
Sequence = BeforeValidator(_sequence)
Count = Annotated[int, Field(ge=1, le=_MOST), BeforeValidator(read_count)]
"""A whole number from 1. One with other bounds is an `int` with these alone, since a refusal names the first that is not held."""
Real = Annotated[float, BeforeValidator(_real)]
Name = Annotated[str, PlainValidator(read_name), WithJsonSchema(_NAME_SCHEMA)]
Names = Annotated[tuple[Name, ...] | None, read_by(_names), WithJsonSchema(_NAMES_SCHEMA)]
SignalName = Annotated[str, BeforeValidator(_signal)]
SignalNames = Annotated[tuple[SignalName, ...], Sequence, AfterValidator(distinct)]
Counts = Annotated[tuple[Count, ...], Field(max_length=256), BeforeValidator(_numbers)]
HeadModule = Annotated[
    Callable[..., Any] | None,
    WithJsonSchema({"type": "null"}),
    in_words("a torch module or a factory, from Python; leave it out"),
]
"""A torch module, or a factory of one; from Python only."""


class Spec(BaseModel):
    """An immutable part of a scenario. Fields of plain types (`int`, `float`, `bool`, `str`, tuples) are strict.

    Raises:
        ScenarioError: At construction, for invalid fields; one line that names the place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bare: ClassVar[str | None] = None
    """The field that a bare word sets: `gradient: linear` is `gradient: {kind: linear}`."""
    written: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written out even where they have their default."""
    refused: ClassVar[frozenset[str]] = frozenset()
    """Fields of its base that a document may not name here."""

    fix_of_unnamed: ClassVar[str] = "name them"
    """The fix where it is called with a value without its key."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.__signature__ = _readable_signature(cls)

    def __init__(self, /, *unnamed: Any, **data: Any) -> None:
        if unnamed:
            called = f"{type(self).__name__}({show_value(unnamed[0])})"
            raise ScenarioError(f"{called}: takes keys by name; {self.fix_of_unnamed}")
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise translate(error) from None

    # Lets pydantic validate nested parts without calling this.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """Construct from a mapping (or return an instance unchanged).

        Raises:
            ScenarioError: The mapping is not accepted.
        """
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

    def __dir__(self) -> list[str]:
        """Return the keys, and what a section adds to them: neither pydantic's names, nor those that all sections have."""
        common = {name for name in dir(Spec) if not name.startswith("__")}
        return sorted({*super().__dir__()} - common)

    def __getstate__(self) -> dict[Any, Any]:
        """Return the fields, without what was computed of them."""
        state, fields = super().__getstate__(), type(self).model_fields
        values = state["__dict__"].items()
        return {**state, "__dict__": {name: value for name, value in values if name in fields}}

    @cached_property
    def given_keys(self) -> frozenset[str]:
        """The keys of the part, and of the parts in it, that are given and not their defaults: `link`, `link.delay`."""
        spec = type(self)
        keys, plain_values = set(), defaults(spec)
        for field in self.model_fields_set & spec.model_fields.keys():
            value, key = getattr(self, field), written_key(spec, field)
            if field not in plain_values or value != plain_values[field]:
                keys.add(key)
                if isinstance(value, Spec):
                    keys |= {f"{key}.{inner_key}" for inner_key in value.given_keys}
        return frozenset(keys)

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        """Yield the keys that differ from their defaults, each with its value: a long object, such as a module, by its type.

        Where none does, these are the keys that have a number or word.
        """
        set_keys = [*_set_keys(self)]
        values = ((written_key(type(self), field), getattr(self, field)) for field in type(self).model_fields)
        for key, value in set_keys or (
            (key, value) for key, value in values if isinstance(value, int | float | str)
        ):
            one_line = len(repr(value).splitlines()) < 2
            yield key, value if one_line else _Shortened(f"<{type(value).__name__}>")

    def always_written(self) -> frozenset[str]:
        """Return the fields that are written out even where they have their default."""
        return self.written

    def as_written(self, data: dict[str, Any]) -> dict[str, Any]:
        """Return the plain data of its fields as a document has them."""
        return data

    @model_serializer
    def _document(self, info: SerializationInfo) -> dict[str, Any]:
        """What `model_dump` returns: the keys of a document, which `model_validate` takes, and not the names of fields."""
        for option in ("include", "exclude"):
            if getattr(info, option) is not None:
                raise ValueError(f"{option}: is not for documents; choose from the keys of the result")
        return plain(self)

    @field_validator("*", mode="before")
    @classmethod
    def _strictly(cls, value: Any, info: ValidationInfo) -> Any:
        check, optional = _checks_of_plain_fields(cls).get(str(info.field_name), (None, False))
        return value if check is None or (optional and value is None) else check(value)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if cls.bare is not None and (isinstance(data, str) or callable(data)):
            return {cls.bare: data}
        first = next(iter(cls.model_fields), "")
        if isinstance(data, str) and first in ("id", "kind"):
            fail(f"must be a mapping of keys, not {show_refused(data)}; write {{{first}: {data}}}")
        if data is None or isinstance(data, str | int | float | list):
            fields = [name for name in cls.model_fields if name not in cls.refused][:_EXAMPLES]
            example = ", ".join(f"{written_key(cls, name)}: …" for name in fields)
            fail(f"must be a mapping of keys, not {show_refused(data)}; such as {{{example}}}")
        if not isinstance(data, Mapping):
            return data
        accepted = accepted_keys(cls)
        if not data.keys() <= accepted:
            data = in_one_spelling(data, accepted)
        if cls.model_config["extra"] == "forbid":
            unknown = [str(key) for key in data if key not in accepted]
            if unknown:
                Problems(DocumentError((key,), cls.unknown_key(key, data)) for key in unknown).raise_any()
        return data

    @classmethod
    def unknown_key(cls, key: str, data: Mapping[str, Any]) -> str:
        """Return the line about a key that the part does not have, among `data`."""
        return f"unknown key {key!r}{suggest(key, accepted_keys(cls)) or '; leave it out: there are no keys'}"


@dataclass(frozen=True)
class _Shortened:
    """What stands in place of a value that is too long."""

    text: str = "…"

    def __repr__(self) -> str:
        return self.text


def _readable_signature(spec: type[Spec]) -> Signature:
    """Return the keys with plain default values, for `help` and editors; pydantic's has validators for types.

    Keys that are no names of Python's, such as `from`, are among `data`.
    """
    parameters, catch_all = [], []
    for name, field in spec.model_fields.items():
        if written_key(spec, name) != name:
            catch_all = [Parameter("data", Parameter.VAR_KEYWORD)]
            continue
        default = (
            field.default if isinstance(field.default, bool | int | float | str | None) else _Shortened()
        )
        shown_default = Parameter.empty if field.is_required() else default
        parameters.append(Parameter(name, Parameter.KEYWORD_ONLY, default=shown_default))
    return Signature(
        [*sorted(parameters, key=lambda parameter: parameter.default is not Parameter.empty), *catch_all]
    )


@cache
def _checks_of_plain_fields(spec: type[Spec]) -> dict[str, tuple[Callable[[object], object], bool]]:
    """Return what reads the fields that have a plain type and no validator of their own, each with whether it may be None."""
    checks = {}
    for name, field in spec.model_fields.items():
        alternatives = [
            alternative for alternative in get_args(field.annotation) if alternative is not type(None)
        ]
        optional = get_origin(field.annotation) in (Union, UnionType) and len(alternatives) == 1
        annotation = alternatives[0] if optional else field.annotation
        metadata = [*field.metadata, *getattr(annotation, "__metadata__", ())]
        plain: Any = getattr(annotation, "__origin__", None) or annotation
        if (
            not any(hasattr(constraint, "__get_pydantic_core_schema__") for constraint in metadata)
            and plain in _STRICT
        ):
            bounds = [
                bound for constraint in metadata for bound in getattr(constraint, "metadata", (constraint,))
            ]
            bounded = plain is int and any(hasattr(constraint, "le") for constraint in bounds)
            checks[name] = read_count if bounded else _STRICT[plain], optional
    return checks


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
    """Return a part of a scenario as nested dicts and lists, without default values.

    Python objects (callables, environments) stay as they are.
    """
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
    """Annotation of a field that holds a Spec or, from Python only, a user's object.

    Args:
        spec: The spec that the field otherwise holds.
        accepts: Whether a value is such an object, to be kept untouched.
    """

    def __init__(self, spec: type[Spec], accepts: Callable[[object], bool]) -> None:
        self.spec = spec
        self.accepts = accepts

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler(self.spec))

    def _validate(self, value: object, validate: core_schema.ValidatorFunctionWrapHandler) -> object:
        return value if self.accepts(value) else validate(value)
