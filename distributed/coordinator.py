"""The coordinator of parts in lockstep: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole takes the others itself, from the state that is
gathered before them, with its observers and recorders, and the parts take them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from antiphon.base.errors import DivergenceError
from antiphon.distributed.opening import OpenParts
from antiphon.distributed.parts.transport import Parts
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.metrics.report_by_agent import RowSteps
from antiphon.engine.metrics.step_metrics import Row
from antiphon.engine.running import Executor, Reader, Running
from antiphon.telemetry.parts.part_figures import PartFigures


class Coordinator(Executor):
    """Takes steps by parts in lockstep.

    Args:
        opened: The parts.
    """

    def __init__(self, opened: OpenParts) -> None:
        self._opened = opened
        self._held_at = 0
        """Steps of the state that the whole holds itself."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: their state is not that of the whole."""
        self._rows = RowSteps(0, 0)
        """The steps at which metrics are recorded."""

    def attach(self, running: Running) -> None:
        """Open the parts of a running scenario, which is the whole.

        Raises:
            ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
            RunError: A part cannot be started.
        """
        self._held_at = running.now
        self._opened.of(running)

    @property
    def parts(self) -> Parts | None:
        """The parts; None: they are closed."""
        return self._opened.parts

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of it: the division, with the placement of agents."""
        return self._opened.facts

    @property
    def reached(self) -> int:
        """Steps that the parts have taken."""
        return self._parts_at or 0

    def advance(self, running: Running, reader: Reader | None, *, watch: Watch, keep: bool) -> RowMask:
        """Take a step: the whole one that something observes, the parts any other, and no episode's end is known of those.

        Raises:
            DivergenceError: A loss or gradient was not finite: the whole is at the step that diverged.
            RunError: A part is gone and does not come back.
        """
        if reader is None or reader.observes(running.now):
            running.synchronize()
            ended = running.take_step(watch=watch, keep=keep)
            self._held_at = running.now
            if reader is None or not reader.observed_at:
                self._parts_at = None  # by hand: what is done to it between two steps, the parts do not have
            return ended
        if running.diverged is not None:
            raise DivergenceError(running.diverged)
        if self._parts_at is None:
            self._held_at = running.now
        if self._parts_at is None or self._parts_at <= running.now:
            self._advance_parts(running, reader)
        running.count()
        return False

    def _advance_parts(self, running: Running, reader: Reader) -> None:
        """Have the parts take a step that nothing observes, and those after it up to one with a row or before an observed one."""
        step, before = running.now, self._opened.parts
        parts = self._opened.of(running)
        if parts is not before or self._parts_at is None or self._parts_at < step - 1:
            parts.scatter(running.state_dict())
            self._parts_at = step
        self._rows = rows = reader.row_steps
        until = self._opened.until(step, rows, reader.observes)
        try:
            self._parts_at = self._opened.advance(step, until, rows, reader)
        except DivergenceError as error:
            self._diverge(running, error, until)

    def release(self, running: Running) -> None:
        """Note that anything may be done to the whole: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself.
        """
        if self._parts_at is not None and self._parts_at > self._held_at:
            running.now = self._held_at
        self._parts_at = None

    def recorded(self, running: Running) -> tuple[Row | None, Sequence[PartFigures]]:
        """Return what the parts record of the step just taken, where it was theirs, and their metrics."""
        return self._opened.recorded(running, self.reached)

    def gather(self, running: Running) -> None:
        """Load the state that the parts have reached, unless the whole holds it itself.

        Raises:
            DivergenceError: See `advance`.
            RunError: A part is gone and does not come back.
        """
        parts, reached = self._opened.parts, self._parts_at
        if running.diverged is not None or parts is None or reached is None or reached <= self._held_at:
            return
        try:
            state = parts.gather()
        except DivergenceError as error:
            self._diverge(running, error, reached)
        running.load_own_state(state)
        self._held_at = reached

    def _diverge(self, running: Running, error: DivergenceError, until: int) -> NoReturn:
        """Bring the whole to the step at which a part diverged, by taking the steps since the state it holds itself."""
        self._parts_at, running.now = None, self._held_at
        while running.now < until:
            running.take_step()
            self._held_at = running.now
            if self._rows.due(running.now - 1):
                running.train_means.end_row()
        running.synchronize()
        running.diverged = str(error)
        raise error

    def close(self) -> None:
        """Close the parts; a second call does nothing."""
        self._parts_at = None
        self._opened.close()
