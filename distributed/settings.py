"""The division of a run into parts, as requested and as in run.json. Loads without torch."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.files import fitting
from antiphon.base.nearest_names import suggest
from antiphon.base.spec import in_python, plain
from antiphon.distributed.parts.free_settings import FreeSettings, at_least_one
from antiphon.distributed.virtual.profile import ClusterProfile, find_profile

FLOATS = 32
"""Bits of a component that is not quantised."""
_MODES = ("lockstep", "free")
_OF_CLUSTER = {"cluster": "profile", "free": "free", "step_seconds": "step_seconds"}
"""What run.json has of a cluster in a place of its own, and as what."""


@dataclass(frozen=True, kw_only=True)
class PartsSettings:
    """The division of a run into parts. In lockstep, the run is bit-identical to an undivided one.

    Raises:
        ScenarioError: A value is invalid, or has no effect beside the others.
    """

    count: int | None = None
    """Number of parts; None: as in `placement`; on a cluster one for every set of agents that cannot be separated, or for every
    machine."""
    placement: Mapping[str, int] | None = None
    """The part of each agent, from 0; None: chosen for equal work and little traffic."""
    mode: str | None = None
    """`lockstep`: parts wait for one another, and the run is bit-identical to an undivided one. `free`: parts never wait. None:
    lockstep, but on a cluster free."""
    delay: int | None = None
    """Steps of a delay that is `auto`, from one part to the next; None: the fewest that hide the network between them."""
    bits: int | None = None
    """Bits per component where those of a link are `auto`, 1 to 16, or 32: as floats; None: the most that the network carries
    while a step is computed."""
    ray: str | None = None
    """Runs each part in a process of a Ray cluster: `local`, or HOST:PORT of a cluster to join; None: all in this process."""
    cluster: ClusterProfile | None = None
    """Runs in virtual time: part i on machine i of this simulated cluster; or the name of a profile, or a YAML file."""
    free: FreeSettings | None = None
    """Bounds of parts that never wait; None: the defaults."""
    step_seconds: Sequence[float] | None = None
    """On a cluster, seconds per step of each part, without chance; None: from the profile. With `measure` it is timed, once."""

    def __post_init__(self) -> None:
        if isinstance(self.cluster, str | Path):
            object.__setattr__(self, "cluster", find_profile(self.cluster))
        if isinstance(self.free, Mapping):
            object.__setattr__(self, "free", FreeSettings.of(self.free))
        for name in ("placement", "step_seconds"):  # run.json has no numbers of numpy
            object.__setattr__(self, name, in_python(getattr(self, name)))
        for name, kind in (("cluster", ClusterProfile), ("free", FreeSettings)):
            if not isinstance(value := getattr(self, name), kind | None):
                raise ScenarioError(f"parts: {name} is {value!r}; must be a {kind.__name__}")
        for name, expected, fix in (
            ("placement", Mapping, "give the part of each agent by its name"),
            ("ray", str, "write 'local', or HOST:PORT of a cluster"),
            ("step_seconds", Sequence, "list the seconds per step of each part"),
        ):
            value = getattr(self, name)
            if not isinstance(value, expected | None) or (expected is Sequence and isinstance(value, str)):
                raise ScenarioError(f"parts: {name} is {value!r}; {fix}")
        seconds = self.step_seconds or ()
        if not all(isinstance(each, numbers.Real) and 0 < each < math.inf for each in seconds):
            raise ScenarioError(
                f"parts: step_seconds is {self.step_seconds!r}; every part's must be a number above 0"
            )
        if self.cluster is not None:
            refused = {
                "delay": self.delay,
                "bits": self.bits,
                "ray": self.ray,
                "mode": self.mode if self.mode != "free" else None,
            }
            for name in (name for name, value in refused.items() if value is not None):
                raise ScenarioError(f"parts: {name} has no effect in virtual time; leave it out")
        elif self.step_seconds is not None:
            raise ScenarioError("parts: step_seconds has no effect without a cluster; leave it out")
        mode = self.mode or ("lockstep" if self.cluster is None else "free")
        object.__setattr__(self, "mode", mode)
        if mode not in _MODES:
            raise ScenarioError(f"parts: no mode '{mode}'{suggest(mode, _MODES)}")
        if self.free is not None and mode != "free":
            raise ScenarioError("parts: free has no effect in lockstep; leave it out, or add mode: free")
        for name, number in (("count", self.count), ("delay", self.delay), ("bits", self.bits)):
            if number is not None:
                object.__setattr__(self, name, at_least_one(name, number))
        if self.bits is not None and self.bits > 16 and self.bits != FLOATS:
            raise ScenarioError(f"parts: bits is {self.bits}; must be at most 16, or {FLOATS}: as floats")
        if self.placement is None and self.count is None and self.cluster is None:
            raise ScenarioError("parts: count is missing; give it, or a placement of the agents")
        if mode == "free" and self.one_process:
            raise ScenarioError(
                "parts: mode 'free' has no effect on one part; leave it out, or give more parts"
            )

    @classmethod
    def of(cls, parts: int | Mapping[str, Any] | PartsSettings | None) -> PartsSettings | None:
        """Return settings as `Simulation` takes them; None: no parts.

        Args:
            parts: The number of parts; or a placement, the part of each agent; or settings by name, as in run.json, with
                `count`, `placement` or `cluster`.
        """
        if parts is None or isinstance(parts, PartsSettings):
            return parts
        if not isinstance(parts, Mapping):
            return cls(count=parts)
        if not parts.keys() & {"count", "placement", "cluster"}:
            return cls(placement=dict(parts))
        names = cls.__dataclass_fields__
        for name in parts:
            if name not in names:
                raise ScenarioError(f"parts: no setting '{name}'{suggest(name, names)}")
        return cls(**parts)

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Self | None:
        """Return the settings of a run as its run.json has them; None: it was not divided."""
        facts_of_parts = facts.get("parts")
        if facts_of_parts is None:
            return None
        with fitting("run.json"):
            settings = {
                key: value for key, value in facts_of_parts.items() if key in cls.__dataclass_fields__
            }
            if "virtual" in facts:
                settings |= {name: facts["virtual"][key] for name, key in _OF_CLUSTER.items()}
                settings["cluster"] = ClusterProfile(**settings["cluster"])
            return cls(**settings)

    @property
    def one_process(self) -> bool:
        """Whether nothing is divided: one part, in this process."""
        alone = self.count == 1 if self.placement is None else set(self.placement.values()) == {0}
        return alone and self.ray is None and self.cluster is None

    def check_kept(self, asked: PartsSettings, path: Path) -> None:
        """Raise RunError where other settings are asked for than a run in virtual time has, which keeps its own."""
        if asked.cluster is None:
            raise RunError(f"{path}: a run in virtual time keeps its parts; leave the parts out")
        for name in (field.name for field in fields(self)):
            if (value := getattr(asked, name)) is not None and value != getattr(self, name):
                raise RunError(
                    f"{path}: a run in virtual time keeps its parts, and {name} differs; leave it out"
                )

    def with_links_of(self, before: PartsSettings | None, path: Path) -> Self:
        """Return the settings with the links that a run has; RunError where others are asked for than were chosen when it began."""
        links = {name: None if before is None else getattr(before, name) for name in ("delay", "bits")}
        for name, chosen in links.items():
            if (value := getattr(self, name)) not in (None, chosen):
                raise RunError(
                    f"{path}: the links of a run stay, and {name} differs: {value}, not {chosen}; leave it out"
                )
        return replace(self, **links)

    def facts(self, placement: Mapping[str, int]) -> dict[str, Any]:
        """Return what run.json has of them, with the placement as chosen: `parts`, and of a cluster `virtual`."""
        settings = {field.name: getattr(self, field.name) for field in fields(self)}
        settings |= {"count": max(placement.values()) + 1, "placement": dict(placement)}
        virtual: dict[str, Any] = {}
        if self.cluster is not None:
            settings |= {"cluster": plain(self.cluster), "free": self.free or FreeSettings()}
        if settings["free"] is not None:
            settings["free"] = asdict(settings["free"])
        if self.cluster is not None:
            virtual = {"virtual": {key: settings.pop(name) for name, key in _OF_CLUSTER.items()}}
        return {"parts": {key: value for key, value in settings.items() if value is not None}, **virtual}
