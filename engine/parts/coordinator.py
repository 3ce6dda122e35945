"""The coordinator of a simulation in parts: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole simulation takes the others itself, from the
state that is gathered before them, with its observers and recorders, and the parts take them as well.

In free mode the parts take all steps: what is under way between them is no state of a whole simulation, which takes over
parameters and means of losses only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import DivergenceError, ScenarioError
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.build.builder import without_weights
from antiphon.engine.metrics.figures import Row
from antiphon.engine.parts.free_boundary import FreeSettings
from antiphon.engine.parts.part import LEARNED, Part, merge_rows
from antiphon.engine.parts.placement import check_free, placement_for
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.parts.share import Share, check_hooks_arrive, scenario_of_part
from antiphon.engine.parts.transport import LocalParts, Parts
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.scenarios import Scenario
from antiphon.telemetry.parts.part_figures import PartFigures

if TYPE_CHECKING:
    from antiphon.engine.ray.ray_parts import RayParts

_LONGEST = 1000
"""Steps of one call to the parts, where nothing is observed for longer."""


class Coordinator:
    """Takes steps of a simulation by parts, which are opened where they are first needed for its scenario and seed.

    Args:
        simulation: The whole, at the step it starts from; its parts are opened.
        settings: The division.
        opened: Parts of another scenario in the same division, in processes that go on as those of this one.

    Attributes:
        facts: What run.json says of the parts.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started.
    """

    def __init__(
        self, simulation: BaseSimulation, settings: PartsSettings, opened: RayParts | None = None
    ) -> None:
        self.settings = settings
        self._held_at = simulation.now
        """Steps of the state that the simulation holds itself."""
        self._parts: Parts | None = None
        self._opened = opened
        self._parts_of: tuple[Scenario, int] | None = None
        """Scenario and seed of the parts."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: their state is not that of the simulation."""
        parts = self._open(simulation)
        self._alive = [True] * (max(parts.placement.values()) + 1)
        """Whether each part ran in the newest metrics that were written, and their step."""
        self._written = 0
        self.facts = settings.facts(parts.placement)

    def _open(self, simulation: BaseSimulation) -> Parts:
        key = simulation.scenario, simulation.seed
        if self._parts is None or self._parts_of != key:
            self.close()
            opened, self._opened = self._opened, None
            self._parts, self._parts_of = open_parts(simulation, self.settings, opened), key
        return self._parts

    # --- steps -------------------------------------------------------------------------------------------

    def advance(self, simulation: BaseSimulation, observed: Callable[[int], bool]) -> None:
        """Take a step that nothing observes; the parts take those after it too, up to one with a row or before an observed one.

        Args:
            simulation: The whole; its `now` counts the step.
            observed: Whether the whole simulation takes a step itself.

        Raises:
            DivergenceError: See `BaseSimulation.advance`: the simulation is at the step that diverged.
            RunError: A part is gone and does not come back.
        """
        step = simulation.now
        if self._parts_at is None:
            self._held_at = step
        if self._parts_at is None or self._parts_at <= step:
            parts = self._bring_parts(simulation)
            rows = simulation.row_steps
            last = 1 if self.free else 0  # in free mode an observed step is the parts' too

            def ends(n: int) -> bool:
                return rows.due(n - 1) or observed(n - last) or n == step + _LONGEST

            until = next(n for n in count(step + 1) if ends(n))
            try:
                stop = simulation.stopping
                if self.settings.ray is not None:
                    stop = partial(self._stop, simulation, parts)
                self._parts_at = parts.advance(until, stop=stop, rows=rows)
                if self._parts_at <= step:  # stopped after the step that the whole has taken too
                    self._parts_at = parts.advance(until, stop=stop, rows=rows)
            except DivergenceError as error:
                self._diverge(simulation, error, until)
        simulation.now = step + 1
        if self.free and observed(step):
            self.gather(simulation)

    @property
    def free(self) -> bool:
        """Whether the parts take all steps, and never wait."""
        return self.settings.mode == "free"

    def ahead(self, simulation: BaseSimulation) -> bool:
        """Whether the parts have taken steps that the simulation has yet to count."""
        return self._parts_at is not None and self._parts_at > simulation.now

    @property
    def begun(self) -> bool:
        """Whether the parts have a state of their own."""
        return self._parts_at is not None

    def _bring_parts(self, simulation: BaseSimulation) -> Parts:
        """Return the parts, not further from the simulation's step than by one that they take themselves."""
        parts = self._open(simulation)
        if self._parts_at is None or self._parts_at < simulation.now - 1:
            parts.scatter(simulation._state_dict())
            self._parts_at = simulation.now
        return parts

    def row(self, simulation: BaseSimulation) -> Row | None:
        """Return what the parts record of the step just taken, and load their sums of losses; None: it was not theirs."""
        rows = self._parts.rows() if self._parts is not None and self._parts_at == simulation.now else []
        if not rows:
            return None
        found = merge_rows(rows, simulation.scenario, [*simulation.backend.stacked.base.channels])
        simulation.train_means.load_state_dict(found.sums)
        return found.row

    def has_taken(self, simulation: BaseSimulation) -> bool:
        """Whether the parts have taken the simulation's newest step: then they record it."""
        return self._parts_at is not None and self._parts_at >= simulation.now

    def observe(self, simulation: BaseSimulation) -> None:
        """Note that the whole simulation has taken a step itself."""
        self._held_at = simulation.now
        if not simulation.observed_at:  # by hand: what is done to it between two steps, the parts do not have
            self._parts_at = None

    def changed(self) -> None:
        """Note that a callback may have changed the simulation: its parts take over its state, but in free mode."""
        if not self.free:
            self._parts_at = None

    def release(self, simulation: BaseSimulation) -> None:
        """Note that anything may be done to the simulation from here on: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself. In free mode the parts keep theirs.
        """
        if self.free:
            return
        if self._parts_at is not None and self._parts_at > self._held_at:
            simulation.now = self._held_at
        self._parts_at = None

    def write_statistics(self, simulation: BaseSimulation) -> None:
        """Hand the metrics of the parts to the simulation's recorders, as those of the step just taken."""
        if self._parts is not None:
            self._write(simulation, self._parts.statistics(), simulation.now)

    def _write(self, simulation: BaseSimulation, figures: Sequence[PartFigures], step: int) -> None:
        self._written, self._alive = step, [row.alive for row in figures]
        for recorder in simulation.recorders:
            recorder.parts(step, figures)

    def _stop(self, simulation: BaseSimulation, parts: Parts) -> bool:
        """Return whether the run loop is to end, and write the figures of parts where one has gone or come back.

        Parts are behind the simulation while they take steps for it: such figures are of the step that all have reached.
        """
        figures = parts.statistics()
        if [row.alive for row in figures] != self._alive:
            reached = min(row.steps_taken for row in figures)
            self._write(simulation, figures, max(self._written, reached))
        return simulation.stopping()

    # --- states ------------------------------------------------------------------------------------------

    def gather(self, simulation: BaseSimulation) -> None:
        """Load the state that the parts have reached, unless the simulation holds it itself.

        Raises:
            DivergenceError: See `advance`.
            RunError: A part is gone and does not come back.
        """
        reached = self._parts_at
        if self._parts is None or reached is None or reached <= self._held_at:
            return
        try:
            state = self._parts.gather()
        except DivergenceError as error:
            self._diverge(simulation, error, reached)
        if self.free:
            self._take_parameters(simulation, state)
        else:
            simulation._load_state_dict(state)
        self._held_at = reached

    def _take_parameters(self, simulation: BaseSimulation, state: dict[str, Any]) -> None:
        """Take parameters, optimisers and statistics, and the sums of losses since the newest row."""
        state = copy_tree(state)
        own = simulation.backend.state_dict()
        learned = {key: state["system"][key] for key in LEARNED if key in state["system"]}
        simulation.backend.load_state_dict({**copy_tree(own), **learned})
        simulation.train_means.load_state_dict(state["means"])
        simulation.now = state["now"]

    def _diverge(self, simulation: BaseSimulation, error: DivergenceError, until: int) -> None:
        """Bring the simulation to the step at which a part diverged, by taking the steps since the state it holds itself.

        In free mode, whose steps nothing can repeat, it stays at the parameters that it has.
        """
        self._parts_at, simulation.now = None, self._held_at
        simulation.observed_at = 0  # it takes all steps itself
        if not self.free:
            while simulation.now < until:
                simulation._advance()
                if simulation.row_steps.due(simulation.now - 1):
                    simulation.train_means.end_row()
            simulation._synchronize()
        simulation.diverged = str(error)
        raise error

    def close(self) -> None:
        """Close the parts; a second call does nothing."""
        parts, self._parts, self._parts_at = self._parts, None, None
        if parts is not None:
            parts.close()


def open_parts(simulation: BaseSimulation, settings: PartsSettings, opened: RayParts | None = None) -> Parts:
    """Start the parts of a simulation's scenario, at step 0.

    Args:
        simulation: The whole.
        settings: The division.
        opened: Parts in the same division whose processes are to compute them; None: they are started.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started, or Ray is not installed.
    """
    if (name := simulation.backend.name) != "cohort":
        raise ScenarioError(f"parts: the {name} backend computes in one process; leave out backend")
    system, free = simulation._system, settings.mode == "free"
    placement = placement_for(system, simulation.scenario, settings.count, settings.placement)
    if free:
        check_free(system)
        if simulation.scenario.telemetry.value is not None:
            raise ScenarioError(
                "telemetry.value: parts that do not wait hold the messages in flight, so no value can be measured; leave it "
                "out, or use parts in lockstep"
            )
    bounds = FreeSettings() if free else None
    own: dict[str, Any] = {"seed": simulation.seed, "device": simulation.device, "dtype": simulation.dtype}
    own |= {"stacked": simulation._stacked, "free": bounds}
    scenario = simulation.scenario
    if settings.ray is None:
        return LocalParts(partial(Part, scenario, placement, **own), placement)
    check_hooks_arrive(scenario)
    make = partial(Part, scenario_of_part(without_weights(scenario), placement, -1), placement, **own)
    shares = [Share.of(system, placement, i) for i in range(max(placement.values()) + 1)]
    if opened is not None:
        opened.rebuild(make, shares)
        return opened
    from antiphon.engine.ray.ray_parts import RayParts

    gpu = simulation.device.type == "cuda"
    return RayParts(make, shares, placement, free=free, cluster=settings.ray, gpu=gpu)
