"""Base of every part of a scenario: frozen, no unknown keys, own errors, plain data on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import core_schema

from antiphon.errors import suggest
from antiphon.scenarios.problems import DocumentError, translate

__all__ = ["OrObject", "Spec", "plain"]


class Spec(BaseModel):
    """An immutable part of a scenario.

    Raises:
        ScenarioError: At construction, for invalid fields; one line that names the place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    bare: ClassVar[str | None] = None
    """The field that a bare word sets: `gradient: linear` is `gradient: {kind: linear}`."""
    written: ClassVar[frozenset[str]] = frozenset()
    """Fields that are written out even where they have their default."""

    def __init__(self, /, **data: Any) -> None:
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

    def always_written(self) -> frozenset[str]:
        """Return the fields that are written out even where they have their default."""
        return self.written

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, data: Any) -> Any:
        if cls.bare is not None and isinstance(data, str):
            return {cls.bare: data}
        if isinstance(data, Mapping) and cls.model_config["extra"] == "forbid":
            accepted = {name for field in cls.model_fields for name in _spellings(cls, field)}
            for key in data:
                if key not in accepted:
                    known = [_spellings(cls, field)[0] for field in cls.model_fields]
                    raise DocumentError((str(key),), f"unknown key {str(key)!r}{suggest(str(key), known)}")
        return data


def _spellings(spec: type[Spec], field: str) -> list[str]:
    """Accepted names of a field, that of documents first."""
    alias = spec.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [field]


def plain(spec: Spec) -> dict[str, Any]:
    """Return a part of a scenario as nested dicts and lists, without default values.

    Python objects (callables, environments) stay as they are.
    """
    data: dict[str, Any] = {}
    always_written = spec.always_written()
    for field, info in type(spec).model_fields.items():
        value = getattr(spec, field)
        if field in always_written or info.is_required() or value != info.default:
            data[_spellings(type(spec), field)[0]] = _plain_value(value)
    for key, value in (spec.model_extra or {}).items():
        data[key] = _plain_value(value)
    return data


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
        spec: The part of the document that the field otherwise is.
        accepts: Whether a value is such an object, to be kept untouched.
    """

    def __init__(self, spec: type[Spec], accepts: Callable[[object], bool]) -> None:
        self.spec = spec
        self.accepts = accepts

    def __get_pydantic_core_schema__(self, _: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._validate, handler(self.spec))

    def _validate(self, value: object, validate: core_schema.ValidatorFunctionWrapHandler) -> object:
        return value if self.accepts(value) else validate(value)
