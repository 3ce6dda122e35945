"""The coordinator of parts: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole takes the others itself, from the state that is
gathered before them, with its observers and recorders, and the parts take them as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import Any, NoReturn

from antiphon.base.errors import DivergenceError
from antiphon.distributed.parts.part import Part, merge_rows
from antiphon.distributed.parts.placement import placement_for
from antiphon.distributed.parts.share import Share, scenario_of_part
from antiphon.distributed.parts.transport import LocalParts
from antiphon.distributed.ray.ray_parts import RayParts
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.build.builder import without_weights
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.metrics.step_metrics import Row
from antiphon.nets.mask import NONE, Mask
from antiphon.scenarios import Scenario
from antiphon.telemetry.metrics import PartMetrics

Parts = LocalParts | RayParts
_LONGEST = 1000
"""Steps of one call to the parts, where nothing is observed for longer."""


class Coordinator(Executor):
    """Takes the steps of a running scenario, the whole, by its parts."""

    def __init__(self, settings: PartsSettings) -> None:
        self.settings = settings
        self.parts: Parts | None = None
        self._whole_at = self._until = 0
        """Steps of what the whole has itself; and steps that the parts were last asked to take."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: they have not started, or their state is not that of the whole."""
        self._log_steps = LogSteps(0, 0)
        """The steps at which they recorded metrics on their way there."""
        self._facts: dict[str, Any] = {}
        self._opened_for: tuple[Scenario, int] | None = None

    @property
    def facts(self) -> dict[str, Any]:
        return self._facts

    @property
    def reached(self) -> int:
        return self._parts_at or 0

    def attach(self, running: LiveSystem) -> None:
        self._whole_at = running.now
        self._opened(running)

    def advance(self, running: LiveSystem, reader: Reader | None, watch: Watch) -> Mask | None:
        """Take a step by the parts, of which no episode's end is known, unless something observes it: the whole takes that one."""
        if reader is None or reader.observes(running.now):
            running.synchronize()
            self._whole_at = running.now + 1
            if reader is None or not reader.observed_at:
                self._parts_at = None  # by hand: what is done to it between two steps, the parts do not have
            return None
        if self._parts_at is None or self._parts_at <= running.now:
            parts = self._prepared(running)
            try:
                self._advance(parts, running.now, reader)
            except DivergenceError as error:
                self._diverge(running, error, self._until)
        running.count()
        return NONE

    def release(self, running: LiveSystem) -> None:
        """Note that anything may be done to the whole: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself.
        """
        if self._parts_at is not None and self._parts_at > self._whole_at:
            running.now = self._whole_at
        self._parts_at = None

    def gather(self, running: LiveSystem) -> None:
        """Load the state that the parts have reached, unless the whole holds it itself."""
        parts, reached = self.parts, self._parts_at
        if running.diverged is not None or parts is None or reached is None or reached <= self._whole_at:
            return
        try:
            state = parts.gather()
        except DivergenceError as error:
            self._diverge(running, error, reached)
        running.load_own_state(state)
        self._whole_at = reached

    def recorded(self, running: LiveSystem) -> tuple[Row | None, Sequence[PartMetrics]]:
        """Return what the parts record of the step just taken, with its sums of losses loaded, and their metrics; no row at another step."""
        if self.parts is None:
            return None, ()
        row, rows = None, self.parts.rows() if self.reached == running.now else []
        if rows:
            merged = merge_rows(rows, running.scenario, [*running.backend.stacked.single_system.channels])
            running.train_means.load_state_dict(merged.sums)
            row = merged.row
        return row, self.parts.statistics()

    def close(self) -> None:
        self._parts_at = None
        parts, self.parts = self.parts, None
        if parts is not None:
            parts.close()

    def _opened(self, running: LiveSystem) -> Parts:
        """Return the parts of a running scenario; where it is another one, or of another seed, they begin anew at step 0."""
        requested = running.scenario, running.seed
        if self.parts is None or self._opened_for != requested:
            self.close()
            self.parts, self._opened_for = open_parts(running, self.settings), requested
            self._facts = self.settings.facts(self.parts.placement)
        return self.parts

    def _prepared(self, running: LiveSystem) -> Parts:
        """Return the parts at the state of the whole, or one step behind it."""
        step, before = running.now, self.parts
        parts = self._opened(running)
        if parts is not before or self._parts_at is None or self._parts_at < step - 1:
            self._whole_at = step
            parts.scatter(running.state_dict())
        return parts

    def _advance(self, parts: Parts, step: int, reader: Reader) -> None:
        """Have the parts take a step, and those after it up to one with a log entry, or that something observes."""
        self._log_steps = log_steps = reader.log_steps
        stops = (
            n for n in count(step + 1) if log_steps.due(n - 1) or reader.observes(n) or n == step + _LONGEST
        )
        self._until, reached = next(stops), 0
        while reached <= step:  # stopped after a step that the whole has taken too
            reached = parts.advance(self._until, stop=reader.stopping, log_steps=log_steps)
        self._parts_at = reached

    def _diverge(self, running: LiveSystem, error: DivergenceError, until: int) -> NoReturn:
        """Bring the whole to the step at which a part diverged, by taking the steps since the state it holds itself."""
        self._parts_at = None
        running.now = self._whole_at
        while running.now < until:
            running.own_step(watch=False)
            self._whole_at = running.now
            if self._log_steps.due(running.now - 1):
                running.train_means.end_row()
        running.synchronize()
        raise error


def open_parts(running: LiveSystem, settings: PartsSettings) -> Parts:
    """Start the parts of a running scenario, at step 0; RunError where one cannot be started."""
    scenario, placement = running.scenario, placement_for(running, settings.count, settings.placement)
    if settings.ray is not None:
        scenario = scenario_of_part(without_weights(scenario), placement, -1)
    make = partial(
        Part,
        scenario,
        placement,
        seed=running.seed,
        device=running.settings.device,
        dtype=running.settings.dtype,
        stacked=running.settings.stacked,
    )
    if settings.ray is None:
        return LocalParts(make, placement)
    shares = [Share.of(running.system, placement, i) for i in range(max(placement.values()) + 1)]
    return RayParts(make, shares, placement, cluster=settings.ray, gpu=running.settings.device.type == "cuda")
