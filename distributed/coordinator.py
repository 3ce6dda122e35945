"""The coordinator of parts in lockstep: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole takes the others itself, from the state that is
gathered before them, with its observers and recorders, and the parts take them as well.
"""

from __future__ import annotations

from typing import NoReturn

from antiphon.base.errors import DivergenceError
from antiphon.base.mask import NONE, Mask
from antiphon.distributed.opening import PartsExecutor
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.live_system import LiveSystem, Reader


class Coordinator(PartsExecutor):
    """Takes steps by parts in lockstep."""

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask | None:
        """Take a step by the parts, of which no episode's end is known, unless something observes it: the whole takes that one."""
        if reader is None or reader.observes(running.now):
            running.synchronize()
            self.whole_at = running.now + 1
            if reader is None or not reader.observed_at:
                self.parts_at = None  # by hand: what is done to it between two steps, the parts do not have
            return None
        if self.parts_at is None or self.parts_at <= running.now:
            self.prepare_parts(running)
            try:
                self.advance_parts(running.now, reader.log_steps, reader.observes, reader)
            except DivergenceError as error:
                self._diverge(running, error, self.until)
        running.count()
        return NONE

    def release(self, running: LiveSystem) -> None:
        """Note that anything may be done to the whole: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself.
        """
        if self.parts_at is not None and self.parts_at > self.whole_at:
            running.go_back(self.whole_at)
        self.parts_at = None

    def gather(self, running: LiveSystem) -> None:
        """Load the state that the parts have reached, unless the whole holds it itself."""
        if (ahead := self.to_gather(running)) is None:
            return
        parts, reached = ahead
        try:
            state = parts.gather()
        except DivergenceError as error:
            self._diverge(running, error, reached)
        running.load_own_state(state)
        self.whole_at = reached

    def _diverge(self, running: LiveSystem, error: DivergenceError, until: int) -> NoReturn:
        """Bring the whole to the step at which a part diverged, by taking the steps since the state it holds itself."""
        self.parts_at = None
        running.go_back(self.whole_at)
        while running.now < until:
            running.own_step(watch=False, keep_messages=True)
            self.whole_at = running.now
            if self.log_steps.due(running.now - 1):
                running.train_means.end_row()
        running.synchronize()
        raise error
