"""Bounds of the exchange of parts that never wait. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest


def at_least_one(name: str, number: Any) -> int:
    """Return a whole number, at least 1, as Python's: run.json has no numbers of numpy. ScenarioError where it is none."""
    if not hasattr(number, "__index__") or isinstance(number, bool) or number < 1:
        raise ScenarioError(f"parts: {name} is {number!r}; must be a whole number, at least 1")
    return int(number)


@dataclass(frozen=True)
class FreeSettings:
    """Bounds of the exchange in free mode.

    Attributes:
        queue: Messages of a channel that wait for an aligned receiver, at most; then the oldest are dropped. Other receivers
            read only the newest.
        staleness: Steps after which a sender gives up waiting for the gradient of a message.

    Raises:
        ScenarioError: A bound is no whole number, at least 1.
    """

    queue: int = 8
    staleness: int = 1024

    def __post_init__(self) -> None:
        for name, bound in list(vars(self).items()):
            object.__setattr__(self, name, at_least_one(f"free.{name}", bound))

    @classmethod
    def of(cls, free: Mapping[str, Any]) -> Self:
        """Return bounds by name.

        Raises:
            ScenarioError: A name is unknown, or see above.
        """
        settings = cls.__dataclass_fields__
        for name in free:
            if name not in settings:
                raise ScenarioError(f"parts: no setting 'free.{name}'{suggest(name, settings)}")
        return cls(**free)
