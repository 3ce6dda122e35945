"""Settings of a scenario, one by one: where each stands, and the other values that it may be given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from antiphon.base.extensions import Catalogue
from antiphon.base.kinds import KindSpec
from antiphon.base.spec import Spec, written_key
from antiphon.scenarios import Scenario

Place = tuple[str | int, ...]
"""Keys and numbers that lead from the top of a document to a value."""
_NOT_SEARCHED = ("scenario", "agents", "channels", "env")
"""Keys of a scenario that hold other sections, or names."""


@dataclass(frozen=True, order=True)
class Setting:
    """A key of a section, or of one kind of a section (`gradient mlp.hidden`).

    Attributes:
        section: The section's name, with the kind if the key is the kind's alone.
        key: As a document writes it.
    """

    section: str
    key: str

    def __str__(self) -> str:
        return f"{self.section}.{self.key}"


def settings_of(scenario: Scenario) -> Iterator[tuple[Setting, Place, type[Spec], Any]]:
    """Yield every setting of a scenario: its place, the class of its section and its present value.

    Settings that have their default are among them; environments' options are not.
    """
    yield from _settings_below(scenario, ())


def _settings_below(spec: Spec, place: Place) -> Iterator[tuple[Setting, Place, type[Spec], Any]]:
    name = spec.point if isinstance(spec, KindSpec) else type(spec).__name__.removesuffix("Spec").lower()
    yield from _settings_in(name, spec, place)
    if isinstance(spec, KindSpec):
        of_kind = f"{name} {spec.kind}" if isinstance(spec.kind, str) else name
        yield from _settings_in(of_kind, spec.own, place)


def _settings_in(section: str, spec: Spec, place: Place) -> Iterator[tuple[Setting, Place, type[Spec], Any]]:
    for field in [field for field in type(spec).model_fields if field not in spec.refused]:
        setting = Setting(section, written_key(type(spec), field))
        value, where = getattr(spec, field), (*place, setting.key)
        if not (isinstance(spec, Scenario) and setting.key in _NOT_SEARCHED):
            yield setting, where, type(spec), value
        if setting.key != "env":
            for below, part in _parts(value):
                yield from _settings_below(part, (*where, *below))


def _parts(value: object) -> Iterator[tuple[Place, Spec]]:
    if isinstance(value, Spec):
        yield (), value
    elif isinstance(value, Mapping):
        yield from (((key,), part) for key, part in value.items() if isinstance(part, Spec))
    elif isinstance(value, tuple):
        yield from (((number,), part) for number, part in enumerate(value) if isinstance(part, Spec))


def changed(document: Mapping[str, Any], place: Place, value: object) -> dict[str, Any]:
    """Return a document with another value at a place; sections on the way there are written out where they are missing."""
    new = deepcopy(dict(document))
    section: Any = new
    for key in place[:-1]:
        section = section[key] if isinstance(key, int) else section.setdefault(key, {})
    section[place[-1]] = value
    return new


def values_for(spec: type[Spec], key: str, value: object) -> list[Any]:
    """Return other values of a setting, from the types and bounds that its section declares for it."""
    kinds = (
        [spec.entry_of(kind).options for kind in Catalogue(spec.point)] if issubclass(spec, KindSpec) else []
    )
    for schema in map(_schema_of, (spec, *kinds)):
        if key in schema.get("properties", {}):
            return [one for one in _values(schema["properties"][key], schema, value) if one != value]
    return []


class _Schema(GenerateJsonSchema):
    """Of what no JSON has, such as a Python object, nothing is said."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> dict[str, Any]:
        return {}


@cache
def _schema_of(spec: type[Spec]) -> dict[str, Any]:
    return spec.model_json_schema(schema_generator=_Schema)


def _values(schema: Mapping[str, Any], whole: Mapping[str, Any], value: Any) -> Iterator[Any]:
    if "$ref" in schema:
        schema = whole["$defs"][schema["$ref"].rpartition("/")[2]]
    for part in schema.get("anyOf", ()):
        yield from _values(part, whole, value)
    yield from schema.get("enum", ())
    if "const" in schema:
        yield schema["const"]
    kind = schema.get("type")
    if kind == "boolean":
        yield not value
    elif kind in ("integer", "number"):
        yield from _numbers(schema, value, whole=kind == "integer")
    elif kind == "array" and "prefixItems" not in schema:
        yield from _sequences(schema, whole, value)


def _numbers(schema: Mapping[str, Any], value: Any, *, whole: bool) -> Iterator[float]:
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 1
    others = (number + 1, 2 * number + 1, 3, 2, 1) if whole else (number / 2, number * 2, 0.01, 0.5)
    low, high = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
    above, below = schema.get("exclusiveMinimum", -1e9), schema.get("exclusiveMaximum", 1e9)
    yield from (one for one in dict.fromkeys(others) if low <= one <= high and above < one < below)


def _sequences(schema: Mapping[str, Any], whole: Mapping[str, Any], value: Any) -> Iterator[list[Any]]:
    first = value[0] if isinstance(value, tuple) and value else None
    for item in _values(schema.get("items", {}), whole, first):
        yield [item] * max(1, len(value) if isinstance(value, tuple) else 1)
