"""Parameters and variants of a template: their types, and substitution of their values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import (
    Field,
    PlainValidator,
    model_validator,
)

from antiphon.base.errors import suggest
from antiphon.base.kinds import fitting
from antiphon.base.problems import (
    DocumentError,
    Path,
    show_refused,
    show_value,
    within,
)
from antiphon.base.spec import FrozenMap, Sequence, Spec, fail, frozen_data, in_words, read_name

REFERENCE = re.compile(r"\$([A-Za-z_][A-Za-z0-9_-]*)")


_Scalar = Annotated[str | bool | int | float | None, in_words("a word or number")]
Scalars = Annotated[tuple[_Scalar, ...], Field(min_length=1), Sequence]


class ParameterSpec(Spec):
    """One parameter of a template.

    Attributes:
        choices: The values that it may have; None: those that are accepted where it is used.
        default: Its value unless set.
        description: A description in one line.
    """

    choices: Scalars | None = None
    default: Annotated[Any, PlainValidator(frozen_data)]
    description: str = ""

    written: ClassVar[frozenset[str]] = frozenset({"default"})

    @model_validator(mode="after")
    def _sound(self) -> Self:
        with within(("default",)):
            self.read(self.default)
        return self

    def read(self, value: object) -> Any:
        """Return a value of the parameter as plain data; DocumentError where it cannot have it."""
        data = frozen_data(value)
        if self.choices is not None and data not in self.choices:
            fail(f"unknown value {show_value(data)}{suggest(str(data), map(str, self.choices))}")
        return data


def substitute(value: Any, values: Mapping[str, Any], path: Path = ()) -> Any:
    """Return a document with every `$name` replaced by the value of that parameter; a `$` is all of a value."""
    if isinstance(value, Mapping):
        for key in value:
            if "$" in key:
                raise DocumentError(
                    path, f"key {show_value(key)}: '$name' can replace a value, not a key; write the key out"
                )
        substituted = {
            key: item if (*path, key) == ("description",) else substitute(item, values, (*path, key))
            for key, item in value.items()
        }
        chosen = isinstance(value.get("kind"), str) and value["kind"].startswith("$")
        return fitting(str(path[-1]), substituted) if chosen and path else substituted
    if isinstance(value, list):
        return [substitute(item, values, (*path, index)) for index, item in enumerate(value)]
    if not isinstance(value, str) or "$" not in value:
        return value
    match = REFERENCE.fullmatch(value)
    if match is None:
        raise DocumentError(
            path, f"{show_value(value)}: '$name' must be the whole value; there is no arithmetic"
        )
    name = match.group(1)
    if name not in values:
        raise DocumentError(path, f"no parameter {name!r}{suggest(name, values)}")
    return values[name]


def section(path: Path, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DocumentError(path, f"must be a mapping of keys, not {show_refused(value)}")
    return value


def read_parameters(declared: Any) -> Mapping[str, ParameterSpec]:
    parameters: dict[str, ParameterSpec] = {}
    for name, value in section(("parameters",), {} if declared is None else declared).items():
        with within(("parameters", name)):
            parameters[read_name(name)] = ParameterSpec.model_validate(value)
    return FrozenMap(parameters)


def read_variants(declared: Any, parameters: Mapping[str, ParameterSpec]) -> Mapping[str, Mapping[str, Any]]:
    variants: dict[str, Mapping[str, Any]] = {}
    for variant, values in section(("variants",), {} if declared is None else declared).items():
        path: Path = ("variants", variant)
        for name, value in section(path, values).items():
            if name not in parameters:
                raise DocumentError((*path, name), f"no parameter {name!r}{suggest(name, parameters)}")
            with within((*path, name)):
                parameters[name].read(value)
        variants[variant] = frozen_data(values, path)
    return FrozenMap(variants)
