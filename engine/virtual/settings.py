"""Where a run takes place in virtual time, as it is asked for. Loads without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from antiphon.engine.virtual.profile import ClusterProfile

__all__ = ["VirtualSettings"]


@dataclass(frozen=True)
class VirtualSettings:
    """A cluster, and who is where on it."""

    profile: ClusterProfile
    placement: Mapping[str, int] | int | None = None
    """The part of each agent, or the number of parts; None: as of `VirtualSimulation`."""
