"""The coordinator of parts that never wait: they take all steps, and the whole has what they have learned.

What is under way between them is no state of a whole, which takes over parameters and means of losses only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.base.mask import NONE, Mask
from antiphon.distributed.opening import PartsExecutor
from antiphon.distributed.parts.part import LEARNED
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.live_system import LiveSystem, Reader
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.checkpoint import copy_tree


class FreeCoordinator(PartsExecutor):
    """Takes all steps by parts that never wait."""

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask:
        """Take a step by the parts, of which no episode's end is known, and have what they learned where something observes it.

        Raises:
            DivergenceError: A loss or gradient was not finite.
            RunError: A part is gone and does not come back, or parameters were changed in place.
        """
        step = running.now
        self._check_unchanged(running)
        observed: Callable[[int], bool] = (lambda step: True) if reader is None else reader.observes
        if self.parts_at is None or self.parts_at <= step:
            rows = LogSteps(0, 0) if reader is None else reader.log_steps
            self.prepare_parts(running)
            try:
                self.advance_parts(step, rows, lambda n: observed(n - 1), reader)
            except DivergenceError as error:
                self._diverge(running, error)
            except BaseException as error:
                if self.settings.ray is None:  # else the parts are elsewhere, and where they were
                    running.break_off(error)
                raise
        running.count()
        if observed(step):
            self.gather(running)
        return NONE

    def gather(self, running: LiveSystem) -> None:
        """Take parameters, optimisers and statistics, and the sums of losses since the newest row."""
        if (ahead := self.to_gather(running)) is None:
            return
        parts, reached = ahead
        self._check_unchanged(running)  # what the parts have learned takes the place of a change
        try:
            state = copy_tree(parts.gather())
        except DivergenceError as error:
            self._diverge(running, error)
        running.load_learned(state, LEARNED)
        self.whole_at = reached

    def _check_unchanged(self, running: LiveSystem) -> None:
        if running.backend.in_place.taken() and self.parts_at is not None:
            raise RunError(
                f"step {running.now}: parameters were changed in place, which parts in free mode, having started, do not see; "
                "change them before the first step, or use parts in lockstep"
            )

    def _diverge(self, running: LiveSystem, error: DivergenceError) -> NoReturn:
        """Leave the whole at the parameters that it has: nothing can repeat the steps since."""
        self.parts_at = None
        running.go_back(self.whole_at)
        raise error

    def check_record(self, running: LiveSystem, name: str) -> None:
        """Raise ScenarioError where the parts hold the messages of a channel."""
        if name not in running.scenario.agents:
            raise ScenarioError(
                f"record: parts that do not wait hold the messages of '{name}'; record parameters, or use parts in lockstep"
            )

    def no_resume(self, running: LiveSystem) -> str | None:
        """Return why no other process can go on."""
        return "its parts do not wait for one another, and no checkpoint holds the messages between them"

    def check_load_weights(self) -> None:
        """Raise ScenarioError where the parts have started."""
        if self.parts_at is not None:
            raise ScenarioError(
                "load_weights: parts in free mode have started and hold the parameters; call it before the first run, or "
                "use parts in lockstep"
            )
