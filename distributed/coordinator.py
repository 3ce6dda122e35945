"""The coordinator of a run in parts: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole takes the others itself, from the state that is
gathered before them, with its observers and recorders, and the parts take them as well.

In free mode the parts take all steps: what is under way between them is no state of a whole, which takes over parameters and
means of losses only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any, NoReturn

from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.distributed.parts.part import LEARNED, Part, merge_rows
from antiphon.distributed.parts.placement import check_free, placement_for
from antiphon.distributed.parts.settings import FreeSettings
from antiphon.distributed.parts.share import Share, check_hooks_arrive, scenario_of_part
from antiphon.distributed.parts.transport import LocalParts, Parts
from antiphon.distributed.settings import PartsSettings
from antiphon.engine.build.builder import without_weights
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.rows import RowMask
from antiphon.engine.metrics.figures import Row
from antiphon.engine.metrics.report import RowSteps
from antiphon.engine.running import Executor, Reader, Running
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.scenarios import Scenario
from antiphon.telemetry.parts.part_figures import PartFigures

if TYPE_CHECKING:
    from antiphon.distributed.ray.ray_parts import RayParts

_LONGEST = 1000
"""Steps of one call to the parts, where nothing is observed for longer."""


class Coordinator(Executor):
    """Takes steps by parts, which are opened where they are first needed for a scenario and seed.

    Args:
        settings: The division.
        opened: Parts of another scenario in the same division, in processes that go on as those of this one.
    """

    elsewhere = True

    def __init__(self, settings: PartsSettings, opened: RayParts | None = None) -> None:
        self.settings = settings
        self._held_at = 0
        """Steps of the state that the whole holds itself."""
        self._parts: Parts | None = None
        self._opened = opened
        self._parts_of: tuple[Scenario, int] | None = None
        """Scenario and seed of the parts."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: their state is not that of the whole."""
        self._alive: list[bool] = []
        """Whether each part ran in the newest metrics that were written, and their step."""
        self._written = 0
        self._division: dict[str, Any] = {}
        self._rows = RowSteps(0, 0)
        """The steps at which metrics are recorded."""

    def attach(self, running: Running) -> None:
        """Open the parts of a running scenario, which is the whole.

        Raises:
            ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
            RunError: A part cannot be started.
        """
        self._held_at = running.now
        parts = self._open(running)
        self._alive = [True] * (max(parts.placement.values()) + 1)
        self._division = self.settings.facts(parts.placement)

    @property
    def parts(self) -> Parts | None:
        """The parts; None: they are closed."""
        return self._parts

    @property
    def facts(self) -> dict[str, Any]:
        """What run.json has of it: the division, with the placement of agents."""
        return self._division

    def _open(self, running: Running) -> Parts:
        key = running.scenario, running.seed
        if self._parts is None or self._parts_of != key:
            self.close()
            opened, self._opened = self._opened, None
            self._parts, self._parts_of = open_parts(running, self.settings, opened), key
        return self._parts

    # --- steps -------------------------------------------------------------------------------------------

    def advance(self, running: Running, reader: Reader | None, *, watch: Watch, keep: bool) -> RowMask:
        """Take a step: the whole one that something observes, the parts any other, and no episode's end is known of those.

        Raises:
            DivergenceError: A loss or gradient was not finite: the whole is at the step that diverged.
            RunError: A part is gone and does not come back.
        """
        if not self.free and (reader is None or reader.observes(running.now)):
            running.synchronize()
            ended = running.take_step(watch=watch, keep=keep)
            self._held_at = running.now
            if reader is None or not reader.observed_at:
                self._parts_at = None  # by hand: what is done to it between two steps, the parts do not have
            return ended
        if running.diverged is not None:
            raise DivergenceError(running.diverged)
        self._advance_parts(running, reader)
        return False

    def _advance_parts(self, running: Running, reader: Reader | None) -> None:
        """Take a step that nothing observes; the parts take those after it too, up to one with a row or before an observed one."""
        step = running.now
        self._rows = rows = RowSteps(0, 0) if reader is None else reader.row_steps
        observed: Callable[[int], bool] = reader.observes if reader is not None else lambda step: True
        if self._parts_at is None:
            self._held_at = step
        if self._parts_at is None or self._parts_at <= step:
            parts = self._bring_parts(running)
            last = 1 if self.free else 0  # in free mode an observed step is the parts' too

            def ends(n: int) -> bool:
                return rows.due(n - 1) or observed(n - last) or n == step + _LONGEST

            until = next(n for n in count(step + 1) if ends(n))
            try:
                stop: Callable[[], bool] = lambda: False
                if reader is not None:
                    stop = reader.stopping
                    if self.settings.ray is not None:
                        stop = partial(self._stop, reader, parts)
                self._parts_at = parts.advance(until, stop=stop, rows=rows)
                if self._parts_at <= step:  # stopped after the step that the whole has taken too
                    self._parts_at = parts.advance(until, stop=stop, rows=rows)
            except DivergenceError as error:
                self._diverge(running, error, until)
        running.count()
        if self.free and observed(step):
            self.gather(running)

    @property
    def free(self) -> bool:
        """Whether the parts take all steps, and never wait."""
        return self.settings.mode == "free"

    def ahead(self, running: Running) -> bool:
        """Whether the parts have taken steps that the whole has yet to count."""
        return self._parts_at is not None and self._parts_at > running.now

    def _bring_parts(self, running: Running) -> Parts:
        """Return the parts, not further from the whole's step than by one that they take themselves."""
        parts = self._open(running)
        if self._parts_at is None or self._parts_at < running.now - 1:
            parts.scatter(running.state_dict())
            self._parts_at = running.now
        return parts

    def changed(self) -> None:
        """Note that a callback may have changed the whole: its parts take over its state, but in free mode."""
        if not self.free:
            self._parts_at = None

    def release(self, running: Running) -> None:
        """Note that anything may be done to the whole from here on: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself. In free mode the parts keep theirs.
        """
        if self.free:
            return
        if self._parts_at is not None and self._parts_at > self._held_at:
            running.now = self._held_at
        self._parts_at = None

    # --- what is recorded --------------------------------------------------------------------------------

    def row(self, running: Running) -> Row | None:
        """Return what the parts record of the step just taken, and load their sums of losses; None: it was not theirs."""
        rows = self._parts.rows() if self._parts is not None and self._parts_at == running.now else []
        if not rows:
            return None
        found = merge_rows(rows, running.scenario, [*running.backend.stacked.base.channels])
        running.train_means.load_state_dict(found.sums)
        return found.row

    def has_taken(self, running: Running) -> bool:
        """Whether the parts have taken the newest step: then they record it."""
        return self._parts_at is not None and self._parts_at >= running.now

    def statistics(self, running: Running) -> Sequence[PartFigures]:
        """Return the metrics of the parts."""
        return [] if self._parts is None else self._noted(self._parts.statistics(), running.now)

    def _noted(self, figures: Sequence[PartFigures], step: int) -> Sequence[PartFigures]:
        """Note which parts run in the metrics that are written of a step."""
        self._written, self._alive = step, [row.alive for row in figures]
        return figures

    def _stop(self, reader: Reader, parts: Parts) -> bool:
        """Return whether the run loop is to end, and write the figures of parts where one has gone or come back.

        Parts are behind the whole while they take steps for it: such figures are of the step that all have reached.
        """
        figures = parts.statistics()
        if [row.alive for row in figures] != self._alive:
            reached = max(self._written, min(row.steps_taken for row in figures))
            reader.write_parts(reached, self._noted(figures, reached))
        return reader.stopping()

    # --- what is refused ---------------------------------------------------------------------------------

    def check_record(self, running: Running, name: str) -> None:
        """Raise ScenarioError where the parts hold the messages of a channel."""
        if self.free and name not in running.scenario.agents:
            raise ScenarioError(
                f"record: parts that do not wait hold the messages of '{name}'; record parameters, or use parts in lockstep"
            )

    def check_load_weights(self) -> None:
        """Raise ScenarioError where parts in free mode have started."""
        if self.free and self._parts_at is not None:
            raise ScenarioError(
                "load_weights: parts in free mode have started and hold the parameters; call it before the first run, or "
                "use parts in lockstep"
            )

    # --- states ------------------------------------------------------------------------------------------

    def gather(self, running: Running) -> None:
        """Load the state that the parts have reached, unless the whole holds it itself.

        Raises:
            DivergenceError: See `advance`.
            RunError: A part is gone and does not come back.
        """
        reached = self._parts_at
        held = self._parts is None or reached is None or reached <= self._held_at
        if running.diverged is not None or held:
            return
        assert self._parts is not None
        assert reached is not None
        try:
            state = self._parts.gather()
        except DivergenceError as error:
            self._diverge(running, error, reached)
        if self.free:
            self._take_parameters(running, state)
        else:
            running.load_own_state(state)
        self._held_at = reached

    def _take_parameters(self, running: Running, state: dict[str, Any]) -> None:
        """Take parameters, optimisers and statistics, and the sums of losses since the newest row."""
        state = copy_tree(state)
        own = running.backend.state_dict()
        learned = {key: state["system"][key] for key in LEARNED if key in state["system"]}
        running.backend.load_state_dict({**copy_tree(own), **learned})
        running.train_means.load_state_dict(state["means"])
        running.now = state["now"]

    def _diverge(self, running: Running, error: DivergenceError, until: int) -> NoReturn:
        """Bring the whole to the step at which a part diverged, by taking the steps since the state it holds itself.

        In free mode, whose steps nothing can repeat, it stays at the parameters that it has.
        """
        self._parts_at, running.now = None, self._held_at
        if not self.free:
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
        parts, self._parts, self._parts_at = self._parts, None, None
        if parts is not None:
            parts.close()


def open_parts(running: Running, settings: PartsSettings, opened: RayParts | None = None) -> Parts:
    """Start the parts of a running scenario, at step 0.

    Args:
        running: The whole.
        settings: The division.
        opened: Parts in the same division whose processes are to compute them; None: they are started.

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
    own: dict[str, Any] = {"seed": running.seed, "device": running.device, "dtype": running.dtype}
    own |= {"stacked": running.settings.stacked, "free": bounds}
    scenario = running.scenario
    if settings.ray is None:
        return LocalParts(partial(Part, scenario, placement, **own), placement)
    check_hooks_arrive(scenario)
    make = partial(Part, scenario_of_part(without_weights(scenario), placement, -1), placement, **own)
    shares = [Share.of(system, placement, i) for i in range(max(placement.values()) + 1)]
    if opened is not None:
        opened.rebuild(make, shares)
        return opened
    from antiphon.distributed.ray.ray_parts import RayParts

    gpu = running.device.type == "cuda"
    return RayParts(make, shares, placement, free=free, cluster=settings.ray, gpu=gpu)
