"""The division of a run into parts, as requested and as in run.json. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from antiphon.base.errors import RunError
from antiphon.base.problems import DocumentError
from antiphon.base.spec import Spec, plain
from antiphon.distributed.virtual.profile import ClusterProfile, find_profile

FLOATS = 32
Number = Annotated[int, Field(ge=1)]


class PartsSettings(Spec):
    """The division of a run into parts. Without a cluster the run is bit-identical to an undivided one.

    Raises:
        ScenarioError: A value is invalid, or has no effect beside the others.
    """

    count: Number | None = None
    """Number of parts; None: as in `placement`; on a cluster one for every set of agents that cannot be separated, or for every
    machine."""
    placement: dict[str, Annotated[int, Field(ge=0)]] | None = None
    """The part of each agent, from 0; None: chosen for about equal work."""
    delay: Number | None = None
    """Steps of a delay that is `auto`, from one part to the next; None: the fewest that hide the network between them."""
    bits: Number | None = None
    """Bits per component where those of a link are `auto`, 1 to 16, or 32: as floats; None: the most that the network carries
    while a step is computed."""
    ray: str | None = None
    """Runs each part in a process of a Ray cluster: `local`, or HOST:PORT of a cluster to join; None: all in this process."""
    cluster: ClusterProfile | None = None
    """Runs in virtual time, where parts never wait: part i on machine i of this simulated cluster; or the name of a profile, or a
    YAML file."""

    def __init__(self, **settings: Any) -> None:
        if isinstance(settings.get("cluster"), str | Path):
            settings["cluster"] = find_profile(settings["cluster"])
        try:
            super().__init__(**settings)
        except DocumentError as error:
            raise error.under(("parts",)) from None

    @model_validator(mode="after")
    def _all_has_an_effect(self) -> Self:
        if self.bits is not None and self.bits > 16 and self.bits != FLOATS:
            raise DocumentError(("bits",), f"must be at most 16, or {FLOATS}: as floats")
        if self.placement is None and self.count is None and self.cluster is None:
            raise DocumentError((), "count is missing; give it, or a placement of the agents")
        for name in ("delay", "bits", "ray") if self.cluster is not None else ():
            if getattr(self, name) is not None:
                raise DocumentError((name,), "has no effect in virtual time; leave it out")
        return self

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
        return cls(**parts)

    @property
    def one_process(self) -> bool:
        """Whether nothing is divided: one part, in this process."""
        alone = self.count == 1 if self.placement is None else set(self.placement.values()) == {0}
        return alone and self.ray is None and self.cluster is None

    @classmethod
    def resumed(
        cls, recorded: PartsSettings | None, asked: PartsSettings | None, path: Path
    ) -> PartsSettings | None:
        """Return the settings with which a run goes on that had `recorded`.

        A run keeps the links that were chosen when it began.

        Raises:
            RunError: Others are asked for, or it is in virtual time.
        """
        if any(settings is not None and settings.cluster is not None for settings in (recorded, asked)):
            raise RunError(f"{path}: no run in virtual time can be resumed; start a new one")
        if asked is None:
            return recorded
        of_run = {name: None if recorded is None else getattr(recorded, name) for name in ("delay", "bits")}
        for name, value in of_run.items():
            if getattr(asked, name) not in (None, value):
                raise RunError(
                    f"{path}: {name} of its parts stays as it was when the run began; leave it out"
                )
        return cls(**dict(asked) | of_run)

    def facts(self, placement: Mapping[str, int]) -> dict[str, Any]:
        """Return what run.json has of them, with the placement as chosen."""
        chosen = {"count": max(placement.values()) + 1, "placement": dict(placement)}
        return {"parts": plain(self) | chosen}
