"""How a run is divided into parts, as it is asked for and as run.json has it. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

from antiphon.errors import ScenarioError, suggest

__all__ = ["MODES", "TRANSPORTS", "Mode", "PartsSettings"]

Mode = Literal["lockstep", "free"]
MODES = ("lockstep", "free")
TRANSPORTS = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    """The division of a run into parts; it changes no number of a run in lockstep.

    Raises:
        ScenarioError: A value that cannot be, or an address without a transport that connects.
    """

    count: int | None = None
    """Number of parts; None: that of `placement`."""
    placement: Mapping[str, int] | None = None
    """The part of each agent, from 0; None: by equal work and little traffic."""
    transport: str = "local"
    """`local`: all parts in this process, in turn. `ray`: each part a process of a Ray cluster."""
    mode: str = "lockstep"
    """`lockstep`: parts wait for one another, to the bits of one machine. `free`: parts never wait."""
    every: int | None = None
    """Steps between the exchanges of two parts; None: half the lookahead, so that they have as long to travel."""
    address: str | None = None
    """Of a Ray cluster; None: one of this machine alone, started for the run."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("transport", self.transport, TRANSPORTS),
            ("mode", self.mode, MODES),
        ):
            if value not in known:
                raise ScenarioError(f"parts: there is no {name} '{value}'{suggest(value, known)}")
        if self.address is not None and self.transport != "ray":
            raise ScenarioError(f"parts: address {self.address!r} is of a Ray cluster; add the transport ray")
        for name, number in (("count", self.count), ("every", self.every)):
            if number is not None and (isinstance(number, bool) or not hasattr(number, "__index__")):
                raise ScenarioError(f"parts: {name} is {number!r}; must be a whole number, at least 1")
            if number is not None and number < 1:
                raise ScenarioError(f"parts: {name} is {number}; must be at least 1")
        if self.placement is None and self.count is None:
            raise ScenarioError("parts: into how many? give their number, or a placement of the agents")

    @classmethod
    def of(cls, parts: int | Mapping[str, int] | PartsSettings | None) -> PartsSettings | None:
        """Return settings as `Simulation` takes them: a number of parts, a placement or settings; None: no parts."""
        if parts is None or isinstance(parts, PartsSettings):
            return parts
        return cls(placement=dict(parts)) if isinstance(parts, Mapping) else cls(count=parts)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """Return the settings of a run as its run.json has them; None: it was not divided.

        Raises:
            ScenarioError: They are damaged.
        """
        found = facts.get("parts")
        if found is None or "virtual" in facts:  # parts in virtual time are no division of a run
            return None
        try:
            return cls(**{key: value for key, value in found.items() if key in cls.__dataclass_fields__})
        except (AttributeError, TypeError):
            raise ScenarioError("run.json: 'parts' is damaged; give --parts anew") from None

    @property
    def one_process(self) -> bool:
        """Whether nothing is divided: one part, in this process."""
        alone = self.count == 1 if self.placement is None else set(self.placement.values()) == {0}
        return alone and self.transport == "local"

    def facts(self, placement: Mapping[str, int], every: int) -> dict[str, Any]:
        """Return what run.json says of them, with the placement and the steps between exchanges as chosen."""
        count = max(placement.values()) + 1
        chosen = asdict(replace(self, count=count, placement=dict(placement), every=every))
        return {key: value for key, value in chosen.items() if key != "address" or value is not None}
