"""Parameters and variants of a template: their types, and substitution of their values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from antiphon.base.kinds import fitting
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import (
    DocumentError,
    Path,
    show_bound,
    show_refused,
    show_value,
    translate,
    within,
)
from antiphon.base.spec import FrozenMap, Sequence, Spec, frozen_data, in_words, name_problem

_REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")
_FREE_TEXT = ("description",)
_TYPES: Mapping[str, type] = {"int": int, "float": float, "str": str, "bool": bool, "list": tuple}
"""Types of values, by the names that `accepts` has for them."""


def _data(value: object) -> Any:
    return frozen_data(value)


Data = Annotated[Any, PlainValidator(_data)]
_Scalar = Annotated[str | bool | int | float | None, in_words("a word or number")]
Scalars = Annotated[tuple[_Scalar, ...], Field(min_length=1), Sequence]


class ParameterSpec(Spec):
    """One parameter of a template. Its values have the type of its default, or are one of its choices.

    Attributes:
        choices: The values it may have; words next to a numeric or list default are accepted in addition to its type.
        min: The smallest value.
        above: A number that all values are greater than.
        max: The largest value.
        default: Its value unless set; a whole-number default accepts whole numbers only; write 1.0 to accept any number.
        description: A description in one line.
    """

    choices: Scalars | None = None
    min: float | None = None
    above: float | None = None
    max: float | None = None
    default: Data
    description: str = ""

    written: ClassVar[frozenset[str]] = frozenset({"default"})

    @model_validator(mode="after")
    def _sound(self) -> Self:
        for bound in ("min", "above", "max"):
            if getattr(self, bound) is not None and self.type not in ("int", "float"):
                raise DocumentError((bound,), "only numbers have bounds; leave it out")
        problem = self.problem(self.default)
        if problem is not None:
            raise DocumentError(("default",), problem)
        return self

    @cached_property
    def type(self) -> str | None:
        """The type of values that are not choices; None: all values are choices."""
        if any(isinstance(choice, type(self.default)) for choice in self.choices or ()):
            return None
        return next((name for name, type_ in _TYPES.items() if type(self.default) is type_), None)

    @property
    def accepts(self) -> str:
        """The values that it may have, in words: `int >= 1`, `locked | decoupled`."""
        limits = {">=": self.min, ">": self.above, "<=": self.max}
        bounds = [f"{sign} {show_bound(limit)}" for sign, limit in limits.items() if limit is not None]
        values = [] if self.type is None else [" ".join([self.type, *bounds])]
        return " | ".join([*values, *map(str, self.choices or ())])

    @cached_property
    def _listed(self) -> frozenset[tuple[bool, Any]]:
        """The choices, each with whether it is a bool: True equals 1."""
        return frozenset((isinstance(value, bool), value) for value in self.choices or ())

    def problem(self, value: object) -> str | None:
        """Return why the parameter cannot have this value; None where it can."""
        if isinstance(value, str | int | float | None) and (isinstance(value, bool), value) in self._listed:
            return None
        choices = suggest(str(value), map(str, self.choices or ()))
        if self.type is None and self.choices is None:
            return f"must be a number, a word, true, false or a list, not {show_value(value)}; or name the choices"
        if self.type is None:
            return f"unknown value {show_value(value)}{choices}"
        try:
            self._adapter.validate_python(tuple(value) if isinstance(value, list) else value)
        except ValidationError as error:
            return translate(error).message + choices
        return None

    @cached_property
    def _adapter(self) -> TypeAdapter[Any]:
        """What reads a value that is no choice."""
        bounds: dict[str, Any] = {"ge": self.min, "gt": self.above, "le": self.max}
        annotated: Any = Annotated[_TYPES[self.type or "str"], Field(strict=True, **bounds)]
        return TypeAdapter(annotated)


def substitute(value: Any, values: Mapping[str, Any], path: Path = ()) -> Any:
    """Return a document with every `$name` replaced by the value of that parameter.

    Raises:
        DocumentError: No such parameter, or a `$` that is not a whole value.
    """
    if isinstance(value, Mapping):
        for key in value:
            if "$" in key:
                raise DocumentError(
                    path, f"key {show_value(key)}: '$name' can replace a value, not a key; write the key out"
                )
        free = _FREE_TEXT if not path else ()
        substituted = {
            key: item if key in free else substitute(item, values, (*path, key))
            for key, item in value.items()
        }
        chosen = isinstance(value.get("kind"), str) and value["kind"].startswith("$")
        return fitting(str(path[-1]), substituted) if chosen and path else substituted
    if isinstance(value, list):
        return [substitute(item, values, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    match = _REFERENCE.fullmatch(value)
    if match is None:
        raise DocumentError(
            path, f"{show_value(value)}: '$name' must be the whole value; there is no arithmetic"
        )
    name = match.group(1)
    if name not in values:
        raise DocumentError(path, f"no parameter {name!r}{suggest(name, values)}")
    return values[name]


def unused_parameters(body: Mapping[str, Any], parameters: Collection[str]) -> Iterator[DocumentError]:
    """Yield a problem for each parameter that nothing refers to: scenarios that differ in its value are the same.

    Where something refers to no parameter, perhaps to a misspelled one, there is none: `substitute` reports it.
    """
    if not parameters:
        return
    used = set(_references([item for key, item in body.items() if key not in _FREE_TEXT]))
    for name in parameters:
        if name not in used and used <= {*parameters}:
            fix = f"write ${name} in place of a value, or leave it out"
            yield DocumentError(("parameters", name), f"is used nowhere; {fix}")


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
    elif isinstance(value, str):
        yield from _REFERENCE.findall(value)


def section(path: Path, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DocumentError(path, f"must be a mapping of keys, not {show_refused(value)}")
    return value


def read_parameters(declared: Any) -> Mapping[str, ParameterSpec]:
    if declared is None:
        return FrozenMap()
    parameters: dict[str, ParameterSpec] = {}
    for name, value in section(("parameters",), declared).items():
        path = ("parameters", name)
        problem = name_problem(name) or ("begins with a digit or '-'" if name[0] in "0123456789-" else None)
        if problem is None and not isinstance(value, Mapping | ParameterSpec):
            problem = f"must be a mapping of keys, not {show_refused(value)}; write {{default: {show_value(value)}}}"
        if problem is not None:
            raise DocumentError(path, problem)
        with within(path):
            parameters[name] = ParameterSpec.model_validate(value)
    return FrozenMap(parameters)


def read_variants(declared: Any, parameters: Mapping[str, ParameterSpec]) -> Mapping[str, Mapping[str, Any]]:
    if declared is None:
        return FrozenMap()
    variants: dict[str, Mapping[str, Any]] = {}
    for variant, values in section(("variants",), declared).items():
        path: Path = ("variants", variant)
        for name, value in section(path, values).items():
            if name not in parameters:
                raise DocumentError((*path, name), f"no parameter {name!r}{suggest(name, parameters)}")
            if (problem := parameters[name].problem(value)) is not None:
                raise DocumentError((*path, name), problem)
        variants[variant] = frozen_data(values, path)
    return FrozenMap(variants)
