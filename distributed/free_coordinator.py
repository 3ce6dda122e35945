"""The coordinator of parts that never wait: they take all steps, and the whole has what they have learned.

What is under way between them is no state of a whole, which takes over parameters and means of losses only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from antiphon.base.errors import DivergenceError, RunError, ScenarioError
from antiphon.distributed.opening import OpenParts
from antiphon.distributed.parts.part import LEARNED
from antiphon.distributed.parts.transport import Parts
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.metrics.report_by_agent import RowSteps
from antiphon.engine.metrics.step_metrics import Row
from antiphon.engine.running import Executor, Reader, Running
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.telemetry.parts.part_figures import PartFigures


class FreeCoordinator(Executor):
    """Takes all steps by parts that never wait.

    Args:
        opened: The parts.
    """

    def __init__(self, opened: OpenParts) -> None:
        self._opened = opened
        self._taken_at = 0
        """Steps of the parameters that the whole has."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: they have not started."""

    def attach(self, running: Running) -> None:
        """Open the parts of a running scenario, which is the whole.

        Raises:
            ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
            RunError: A part cannot be started.
        """
        self._taken_at = running.now
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
        """Take a step by the parts, of which no episode's end is known, and have what they learned where something observes it.

        Raises:
            DivergenceError: A loss or gradient was not finite.
            RunError: A part is gone and does not come back, or parameters were changed in place.
        """
        del watch, keep
        if running.diverged is not None:
            raise DivergenceError(running.diverged)
        step = running.now
        if running.backend.in_place.taken() and self._parts_at is not None:
            raise RunError(
                f"step {step}: parameters were changed in place, which parts in free mode, having started, do not see; change "
                "them before the first step, or use parts in lockstep"
            )
        observed: Callable[[int], bool] = (lambda step: True) if reader is None else reader.observes
        if self._parts_at is None or self._parts_at <= step:
            before, parts = self._opened.parts, self._opened.of(running)
            if parts is not before or self._parts_at is None or self._parts_at < step - 1:
                self._taken_at = step
                parts.scatter(running.state_dict())
            rows = RowSteps(0, 0) if reader is None else reader.row_steps
            until = self._opened.until(step, rows, lambda n: observed(n - 1))
            try:
                self._parts_at = self._opened.advance(step, until, rows, reader)
            except DivergenceError as error:
                self._diverge(running, error)
        running.count()
        if observed(step):
            self.gather(running)
        return False

    def recorded(self, running: Running) -> tuple[Row | None, Sequence[PartFigures]]:
        """Return what the parts record of the step just taken, and their metrics."""
        return self._opened.recorded(running, self.reached)

    def gather(self, running: Running) -> None:
        """Take parameters, optimisers and statistics, and the sums of losses since the newest row.

        Raises:
            DivergenceError: See `advance`.
            RunError: A part is gone and does not come back.
        """
        parts, reached = self._opened.parts, self._parts_at
        if running.diverged is not None or parts is None or reached is None or reached <= self._taken_at:
            return
        try:
            state = copy_tree(parts.gather())
        except DivergenceError as error:
            self._diverge(running, error)
        own = running.backend.state_dict()
        learned = {key: state["system"][key] for key in LEARNED if key in state["system"]}
        running.backend.load_state_dict({**copy_tree(own), **learned})
        running.backend.in_place.taken()  # no change of the user's
        running.train_means.load_state_dict(state["means"])
        running.now = state["now"]
        self._taken_at = reached

    def _diverge(self, running: Running, error: DivergenceError) -> NoReturn:
        """Leave the whole at the parameters that it has: nothing can repeat the steps since."""
        self._parts_at, running.now = None, self._taken_at
        running.diverged = str(error)
        raise error

    def check_record(self, running: Running, name: str) -> None:
        """Raise ScenarioError where the parts hold the messages of a channel."""
        if name not in running.scenario.agents:
            raise ScenarioError(
                f"record: parts that do not wait hold the messages of '{name}'; record parameters, or use parts in lockstep"
            )

    def check_load_weights(self) -> None:
        """Raise ScenarioError where the parts have started."""
        if self._parts_at is not None:
            raise ScenarioError(
                "load_weights: parts in free mode have started and hold the parameters; call it before the first run, or "
                "use parts in lockstep"
            )

    def close(self) -> None:
        """Close the parts; a second call does nothing."""
        self._parts_at = None
        self._opened.close()
