"""Options of environments: the keys of a document's `env` beside its id, each checked."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from antiphon.errors import ScenarioError, suggest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["EnvOptions", "Episode", "Split"]

Split = Literal["train", "validation", "test"]
"""The part of a data set that is streamed."""
_WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
Episode = Literal["stream", "example"]
"""`stream`: never ends; `example`: each example is an episode of `hold` steps."""


class EnvOptions(BaseModel):
    """Options of an environment: a subclass has a field for each key, with its type, bounds and default.

    The docstring below a field is its meaning, which `antiphon show ID` lists. What several fields have to keep together is
    checked by a `pydantic.model_validator` that raises a ScenarioError.

    Raises:
        ScenarioError: An unknown or missing key, or a value that cannot be; the line names key, value and fix.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            found = error.errors(include_url=False)
            first = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
            raise _refusal(type(self), first) from None

    @classmethod
    def rows(cls) -> list[tuple[str, str, str]]:
        """Return name, meaning and default of each key, as text."""
        found = []
        for key, field in cls.model_fields.items():
            default = "none" if field.default is None else str(field.default).lower()
            found.append((key, cls.meaning(key), "required" if field.is_required() else default))
        return found

    @classmethod
    def meaning(cls, key: str) -> str:
        """Return the meaning of a key, as the end of a sentence."""
        text = " ".join((cls.model_fields[key].description or "").split()).removesuffix(".")
        return text[:1].lower() + text[1:]


def _refusal(model: type[EnvOptions], detail: ErrorDetails) -> ScenarioError:
    """Return the error of one line for a problem that pydantic found."""
    context = detail.get("ctx", {})
    if isinstance(cause := context.get("error"), ScenarioError):
        return cause
    key, value, kind = str(detail["loc"][0]), detail["input"], detail["type"]
    if kind == "extra_forbidden":
        return ScenarioError(f"env.{key}: unknown key{suggest(key, model.model_fields)}")
    if kind == "missing":
        return ScenarioError(f"env.{key}: is missing; give it as a key of env")
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return ScenarioError(f"env.{key}: no {key} '{value}'{suggest(str(value), known)}")
    field = model.model_fields[key]
    types = set(get_args(field.annotation) or [field.annotation]) - {type(None)}
    wanted = " or ".join(word for kind, word in _WORDS.items() if kind in types)
    if types & {int, float}:
        least, most = (
            next((getattr(one, side) for one in field.metadata if hasattr(one, side)), None)
            for side in ("ge", "le")
        )
        wanted += (
            "" if least is None else f" of at least {least}" if most is None else f" from {least} to {most}"
        )
    if not wanted or len(types) > 1:
        wanted += (": " if wanted else "") + model.meaning(key)
    return ScenarioError(f"env.{key}: {value!r}; must be {wanted}")
