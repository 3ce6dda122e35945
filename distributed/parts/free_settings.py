"""Bounds of the exchange of parts that never wait. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest


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
            if not hasattr(bound, "__index__") or isinstance(bound, bool) or bound < 1:
                raise ScenarioError(f"parts: free.{name} is {bound!r}; must be a whole number, at least 1")
            object.__setattr__(self, name, int(bound))  # run.json has no numbers of numpy

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
