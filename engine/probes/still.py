"""A backend in which everything is computed as ever, and nothing moves: for what is measured on frozen networks."""

from __future__ import annotations

from torch import Tensor

from antiphon.engine.reference import Reference, Update
from antiphon.engine.system import System
from antiphon.engine.teaching import Lesson, Teacher

__all__ = ["Still"]


class _Idle(Teacher):
    """Prepares lessons that nobody learns."""

    def teach(self, lessons: dict[str, Lesson], step: int) -> None:
        """Teach nothing."""

    def teach_inputs(self, step: int) -> dict[str, Tensor]:
        """Forget what synthetic inputs would learn from."""
        for channel in self.system.channels.values():
            channel.heard = []
        return {}


class Still(Reference):
    """The reference backend without updates; running statistics alone move.

    Args:
        system: What runs.
    """

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.teacher = _Idle(system)

    def _apply(self, updates: list[Update], step: int) -> None:
        """Leave all parameters as they are."""
