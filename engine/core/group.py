"""Learning groups: agents that learn as one network (semantics 14, 16, 27a)."""

from __future__ import annotations

from dataclasses import dataclass, field

from antiphon.engine.core.clock import Windows
from antiphon.engine.core.tape import Tape

__all__ = ["LearningGroup"]


@dataclass(slots=True, eq=False)
class LearningGroup:
    """A maximal set of agents joined by locked channels or by tied parameters, or a stack of such sets.

    Attributes:
        members: Names, in canonical order.
        windows: Its windows.
        owners: The first agent of each learner, with how many agents share it.
        late: Whether a delayed channel leaves it, so that its windows wait for the returned gradient.
        staleness: How many windows a tape may wait: as long as the longest of its delayed channels.
        tape: The open window.
        pending: Windows that have ended and wait, oldest first.
        past: The newest windows learned from, oldest first, where returns reach over several.
    """

    members: tuple[str, ...]
    windows: Windows
    owners: dict[str, int] = field(default_factory=dict)
    late: bool = False
    staleness: int = 0
    tape: Tape = field(default_factory=Tape)
    pending: list[Tape] = field(default_factory=list)
    past: list[Tape] = field(default_factory=list)
