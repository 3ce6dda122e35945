"""The division of a run into parts, as requested and as in run.json. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.files import fitting

_MODES = ("lockstep", "free")
LOCAL = "local"
"""`ray`: a cluster of this machine alone, started for the run."""


@dataclass(frozen=True)
class FreeSettings:
    """Bounds of the exchange in free mode.

    Attributes:
        queue: Messages of a channel that wait for an aligned receiver, at most; then the oldest are dropped. Other receivers
            read only the newest.
        staleness: Steps after which a sender gives up waiting for the gradient of a message.
    """

    queue: int = 8
    staleness: int = 1024


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    """The division of a run into parts. In lockstep, the run is bit-identical to an undivided one.

    Raises:
        ScenarioError: A value is invalid.
    """

    count: int | None = None
    """Number of parts; None: as in `placement`."""
    placement: Mapping[str, int] | None = None
    """The part of each agent, from 0; None: chosen for equal work and little traffic."""
    mode: str = "lockstep"
    """`lockstep`: parts wait for one another, and the run is bit-identical to an undivided one. `free`: parts never wait."""
    delay: int | None = None
    """Steps of a delay that is `auto`, from one part to the next; None: the fewest that hide the network between them."""
    ray: str | None = None
    """Runs each part in a process of a Ray cluster: `local`, or HOST:PORT of a cluster to join; None: all in this process."""

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise ScenarioError(f"parts: no mode '{self.mode}'{suggest(self.mode, _MODES)}")
        for name, number in (("count", self.count), ("delay", self.delay)):
            if number is None:
                continue
            if not hasattr(number, "__index__") or isinstance(number, bool) or number < 1:
                raise ScenarioError(f"parts: {name} is {number!r}; must be a whole number, at least 1")
            object.__setattr__(self, name, int(number))
        if self.placement is None and self.count is None:
            raise ScenarioError("parts: count is missing; give it, or a placement of the agents")

    @classmethod
    def of(cls, parts: int | Mapping[str, Any] | PartsSettings | None) -> PartsSettings | None:
        """Return settings as `Simulation` takes them; None: no parts.

        Args:
            parts: The number of parts; or a placement, the part of each agent; or settings by name, as in run.json, with
                `count` or `placement`.
        """
        if parts is None or isinstance(parts, PartsSettings):
            return parts
        if not isinstance(parts, Mapping):
            return cls(count=parts)
        if not parts.keys() & {"count", "placement"}:
            return cls(placement=dict(parts))
        known = cls.__dataclass_fields__
        for name in parts:
            if name not in known:
                raise ScenarioError(f"parts: no setting '{name}'{suggest(name, known)}")
        return cls(**parts)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """Return the settings of a run as its run.json has them; None: it was not divided.

        Raises:
            RunError: They are not settings.
        """
        found = facts.get("parts")
        if found is None or "virtual" in facts:  # parts in virtual time are no division of a run
            return None
        with fitting("run.json"):
            return cls(**{key: value for key, value in found.items() if key in cls.__dataclass_fields__})

    @property
    def one_process(self) -> bool:
        """Whether nothing is divided: one part, in this process."""
        alone = self.count == 1 if self.placement is None else set(self.placement.values()) == {0}
        return alone and self.ray is None

    def facts(self, placement: Mapping[str, int]) -> dict[str, Any]:
        """Return what run.json says of them, with the placement as chosen."""
        chosen = asdict(replace(self, count=max(placement.values()) + 1, placement=dict(placement)))
        return {key: value for key, value in chosen.items() if value is not None}
