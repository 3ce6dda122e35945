"""The protocol between a whole simulation and what holds its parts: in this process, or in others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

__all__ = ["Parts", "Stop", "never"]

Stop = Callable[[], bool]
"""Whether the run loop is to end: a signal has come, or its time is over."""


def never() -> bool:
    """A limit that is never met."""
    return False


class Parts(Protocol):
    """All parts of a scenario, which exchange what crosses their cuts without the simulation that they belong to.

    Attributes:
        placement: The part of each agent.
        lookahead: Steps that parts may be apart.
        every: Steps between the exchanges of two parts.
    """

    placement: Mapping[str, int]
    lookahead: int
    every: int

    def advance(self, until: int, *, stop: Stop = never, row_at: int | None = None) -> int:
        """Have all parts take the steps up to `until`, at least one, and return the step that all of them have reached.

        Args:
            until: Steps taken in the end.
            stop: Looked at now and then; once it holds, all parts end at a step they can all reach soon.
            row_at: A step, the first one they take if any, after which their sums of losses begin anew
                (`Part.end_row`): the whole simulation has written a row of figures there.

        Raises:
            DivergenceError: A loss or gradient of a part was not finite.
            RunError: A part is gone and does not come back.
        """

    def gather(self) -> dict[str, Any]:
        """Return the state of the whole simulation (`BaseSimulation.state_dict`), everything delivered; raises as `advance`."""

    def scatter(self, state: Mapping[str, Any]) -> None:
        """Have all parts take over the state of the whole simulation; what was under way between them is dropped."""

    def close(self) -> None:
        """End all parts and what was started for them; a second call does nothing."""
