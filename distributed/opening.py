"""The parts of a running scenario: opened where they are first needed for a scenario and seed, stepped, recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import ScenarioError
from antiphon.distributed.parts.free_settings import FreeSettings
from antiphon.distributed.parts.part import Part, merge_rows
from antiphon.distributed.parts.placement import check_free, placement_for
from antiphon.distributed.parts.share import Share, check_hooks_arrive, scenario_of_part
from antiphon.distributed.parts.transport import LocalParts, Parts, never
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.build.builder import without_weights
from antiphon.engine.live_system import Executor, LiveSystem, Reader
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.metrics.step_metrics import Row
from antiphon.scenarios import Scenario
from antiphon.telemetry.parts.part_metrics import PartMetrics

if TYPE_CHECKING:
    from antiphon.distributed.ray.ray_parts import RayParts


_LONGEST = 1000
"""Steps of one call to the parts, where nothing is observed for longer."""


class PartsExecutor(Executor):
    """Takes the steps of a running scenario, the whole, by its parts.

    Args:
        ready: Parts of another scenario in the same division, in processes that go on as those of this one.

    Attributes:
        parts: The newest that were opened; None: they are closed.
        whole_at: Steps of what the whole has itself.
        parts_at: Steps that the parts have taken; None: they have not started, or their state is not that of the whole.
        until: Steps that they were last asked to take.
        log_steps: The steps at which they recorded metrics on their way there.
    """

    def __init__(self, settings: PartsSettings, ready: RayParts | None = None) -> None:
        self.settings = settings
        self.parts: Parts | None = None
        self.whole_at = self.until = 0
        self.parts_at: int | None = None
        self.log_steps = LogSteps(0, 0)
        self._facts: dict[str, Any] = {}
        self._ready = ready
        self._opened_for: tuple[Scenario, int] | None = None
        self._alive: list[bool] = []
        """Whether each part ran in the newest metrics that were written, and their step."""
        self._written = 0

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of it: the division, with the placement of agents."""
        return self._facts

    @property
    def reached(self) -> int:
        return self.parts_at or 0

    def attach(self, running: LiveSystem) -> None:
        """Open the parts of a running scenario, which is the whole."""
        self.whole_at = running.now
        self._opened(running)

    def prepare_parts(self, running: LiveSystem) -> None:
        """Have the parts at the state of the whole, where they are not one step behind it; raises as `attach`."""
        step, before = running.now, self.parts
        parts = self._opened(running)
        if parts is not before or self.parts_at is None or self.parts_at < step - 1:
            self.whole_at = step
            parts.scatter(running.state_dict())

    def _opened(self, running: LiveSystem) -> Parts:
        """Return the parts of a running scenario; where it is another one, or of another seed, they begin anew at step 0."""
        requested = running.scenario, running.seed
        if self.parts is None or self._opened_for != requested:
            self._close_parts()
            ready, self._ready = self._ready, None
            self.parts, self._opened_for = open_parts(running, self.settings, ready), requested
            self._facts = self.settings.facts(self.parts.placement)
            self._alive = [True] * (max(self.parts.placement.values()) + 1)
        return self.parts

    def advance_parts(
        self, step: int, log_steps: LogSteps, ends: Callable[[int], bool], reader: Reader | None
    ) -> None:
        """Have the parts take a step, and those after it up to one with a log entry, or at which the run is to end.

        Args:
            log_steps: The steps at which metrics are recorded.
            ends: Whether they stop at a number of steps taken.

        Raises:
            DivergenceError: A loss or gradient of a part was not finite.
            RunError: A part is gone and does not come back.
        """
        parts = self.parts
        assert parts is not None, "prepare_parts() comes first"
        stops = (n for n in count(step + 1) if log_steps.due(n - 1) or ends(n) or n == step + _LONGEST)
        self.until, self.log_steps, stop = next(stops), log_steps, never
        if reader is not None:
            stop = reader.stopping if self.settings.ray is None else partial(self._stop, reader, parts)
        reached = parts.advance(self.until, stop=stop, log_steps=log_steps)
        if reached <= step:  # stopped after a step that the whole has taken too
            reached = parts.advance(self.until, stop=stop, log_steps=log_steps)
        self.parts_at = reached

    def to_gather(self, running: LiveSystem) -> tuple[Parts, int] | None:
        """Return the parts, and how many steps they have taken; None: the whole has all that they have."""
        parts, reached = self.parts, self.parts_at
        if running.diverged is not None or parts is None or reached is None or reached <= self.whole_at:
            return None
        return parts, reached

    def recorded(self, running: LiveSystem) -> tuple[Row | None, Sequence[PartMetrics]]:
        """Return what the parts record of the step just taken, with its sums of losses loaded, and their metrics.

        Where they have taken another number of steps than the whole, there is no row.
        """
        if self.parts is None:
            return None, ()
        row, rows = None, self.parts.rows() if self.reached == running.now else []
        if rows:
            merged = merge_rows(rows, running.scenario, [*running.backend.stacked.single_system.channels])
            running.train_means.load_state_dict(merged.sums)
            row = merged.row
        return row, self._noted(self.parts.statistics(), running.now)

    def _noted(self, metrics: Sequence[PartMetrics], step: int) -> Sequence[PartMetrics]:
        """Note which parts run in the metrics that are written of a step."""
        self._written, self._alive = step, [row.alive for row in metrics]
        return metrics

    def _stop(self, reader: Reader, parts: Parts) -> bool:
        """Return whether the training loop is to end, and write the metrics of parts where one has gone or come back.

        Parts are behind the whole while they take steps for it: such metrics are of the step that all have reached.
        """
        metrics = parts.statistics()
        if [row.alive for row in metrics] != self._alive:
            reached = max(self._written, min(row.steps_taken for row in metrics))
            reader.write_parts(reached, self._noted(metrics, reached))
        return reader.stopping()

    def close(self) -> None:
        self.parts_at = None
        self._close_parts()

    def _close_parts(self) -> None:
        parts, self.parts = self.parts, None
        if parts is not None:
            parts.close()


def open_parts(running: LiveSystem, settings: PartsSettings, ready: RayParts | None = None) -> Parts:
    """Start the parts of a running scenario, at step 0.

    Args:
        ready: Parts in the same division whose processes are to compute them; None: they are started.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started, or Ray is not installed.
    """
    if (name := running.backend.name) != "cohort":
        raise ScenarioError(f"parts: the {name} backend computes in one process; leave out backend")
    system, free = running.system, settings.mode == "free"
    placement = placement_for(system, running.scenario, settings.count, settings.placement)
    if free:
        check_free(system)
        if running.scenario.telemetry.value is not None:
            raise ScenarioError(
                "telemetry.value: parts that do not wait hold the messages in flight, so no value can be measured; leave it "
                "out, or use parts in lockstep"
            )
    bounds = settings.free or FreeSettings() if free else None
    settings_of_parts: dict[str, Any] = {
        "seed": running.seed,
        "device": running.device,
        "dtype": running.dtype,
    }
    settings_of_parts |= {"stacked": running.settings.stacked, "free": bounds}
    scenario = running.scenario
    if settings.ray is None:
        return LocalParts(partial(Part, scenario, placement, **settings_of_parts), placement)
    check_hooks_arrive(scenario)
    make = partial(
        Part, scenario_of_part(without_weights(scenario), placement, -1), placement, **settings_of_parts
    )
    shares = [Share.of(system, placement, i) for i in range(max(placement.values()) + 1)]
    if ready is not None:
        ready.rebuild(make, shares)
        return ready
    from antiphon.distributed.ray.ray_parts import RayParts

    gpu = running.device.type == "cuda"
    return RayParts(make, shares, placement, free=free, cluster=settings.ray, gpu=gpu)
