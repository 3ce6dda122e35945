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
from typing import Any

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts.free_boundary import FreeSettings
from antiphon.engine.parts.part import LEARNED, Part
from antiphon.engine.parts.placement import check_free, lookahead_of, placement_for
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.parts.transport import LocalParts, Parts
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["Coordinator", "open_parts"]

_LONGEST = 1000
"""Steps of one call to the parts, where nothing is observed for longer."""


class Coordinator:
    """Takes steps of a simulation by parts, which are opened where they are first needed for its scenario and seed.

    Args:
        simulation: The whole, at the step it goes on from; its parts are opened.
        settings: The division.

    Attributes:
        facts: What run.json says of the parts.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started.
    """

    def __init__(self, simulation: BaseSimulation, settings: PartsSettings) -> None:
        if (name := simulation.backend.name) != "cohort":
            raise ScenarioError(f"parts: the {name} backend computes in one process; leave out backend")
        self.settings = settings
        self._held_at = simulation.now
        """Steps of the state that the simulation holds itself."""
        self._parts: Parts | None = None
        self._parts_of: tuple[Scenario, int] | None = None
        """Scenario and seed of the parts."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: their state is not that of the simulation."""
        self._counted: dict[str, Any] = {}
        """In free mode: the sums of losses of the parts that the simulation has in its own."""
        self._row_at: int | None = None
        """The step of the newest row of figures, where the parts have not taken it yet."""
        parts = self._open(simulation)
        self._alive = [True] * (max(parts.placement.values()) + 1)
        """Whether each part ran in the newest figures that were written, and their step."""
        self._written = 0
        self.facts = settings.facts(parts.placement, parts.every)

    def _open(self, simulation: BaseSimulation) -> Parts:
        key = simulation.scenario, simulation.seed
        if self._parts is None or self._parts_of != key:
            self.close()
            self._parts, self._parts_of = open_parts(simulation, self.settings), key
        return self._parts

    # --- steps -------------------------------------------------------------------------------------------

    def advance(self, simulation: BaseSimulation, observed: Callable[[int], bool]) -> None:
        """Take a step that nothing observes; the parts take those after it too, up to one that is observed.

        Args:
            simulation: The whole; its `now` counts the step.
            observed: Whether the whole simulation takes a step itself.

        Raises:
            DivergenceError: As of `BaseSimulation.advance`: the simulation is at the step that diverged.
            RunError: A part is gone and does not come back.
        """
        step = simulation.now
        if self._parts_at is None:
            self._held_at = step
        if self._parts_at is None or self._parts_at <= step:
            parts = self._bring_parts(simulation)
            last = 1 if self.free else 0  # in free mode an observed step is the parts' too
            until = next(n for n in count(step + 1) if observed(n - last) or n == step + _LONGEST)
            row, self._row_at = self._row_at, None
            try:
                stop = simulation.stopping
                if self.settings.ray is not None:
                    stop = partial(self._stop, simulation, parts)
                self._parts_at = parts.advance(until, stop=stop, row_at=row)
                if self._parts_at <= step:  # stopped after the step that the whole has taken too
                    self._parts_at = parts.advance(until, stop=stop)
            except DivergenceError as error:
                self._diverge(simulation, error, until)
        simulation.now = step + 1
        if self.free and observed(step):
            self.gather(simulation)

    @property
    def free(self) -> bool:
        """Whether the parts take all steps, and never wait."""
        return self.settings.mode == "free"

    @property
    def begun(self) -> bool:
        """Whether the parts have a state of their own."""
        return self._parts_at is not None

    def _bring_parts(self, simulation: BaseSimulation) -> Parts:
        """Return the parts, not further from the simulation's step than by one that they take themselves."""
        parts = self._open(simulation)
        if self._parts_at is None or self._parts_at < simulation.now - 1:
            state = simulation._state_dict()
            parts.scatter(state)
            self._parts_at, self._row_at, self._counted = simulation.now, None, copy_tree(state["means"])
        return parts

    def observe(self, simulation: BaseSimulation, *, row: bool) -> None:
        """Note that the whole simulation has taken a step itself.

        Args:
            simulation: The whole, after the step.
            row: Whether its sums of losses have begun anew.
        """
        self._held_at = simulation.now
        if row:
            self._row_at = simulation.now - 1
        if not simulation.observed_at:  # by hand: what is done to it between two steps, the parts do not have
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
        """Hand the figures of the parts to the simulation's recorders, as those of the step just taken."""
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
            DivergenceError: As of `advance`.
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
        """Take parameters, optimisers and statistics, and add the sums of losses since they were last taken."""
        state = copy_tree(state)
        own = simulation.backend.state_dict()
        learned = {key: state["system"][key] for key in LEARNED}
        simulation.backend.load_state_dict({**copy_tree(own), **learned})
        before, self._counted = self._counted, state["means"]
        held, nothing = simulation.train_means.state_dict(), (0, 0, 0)  # held: of steps since the newest row
        sums = {}
        for name, new in state["means"].items():
            each = zip(held.get(name, nothing), new, before.get(name, nothing), strict=True)
            sums[name] = [total + (now - then) for total, now, then in each]
        simulation.train_means.load_state_dict(sums)
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
            simulation._synchronize()
        simulation.diverged = str(error)
        raise error

    def close(self) -> None:
        """Close the parts; a second call does nothing."""
        parts, self._parts, self._parts_at = self._parts, None, None
        if parts is not None:
            parts.close()


def open_parts(simulation: BaseSimulation, settings: PartsSettings) -> Parts:
    """Start the parts of a simulation's scenario, at step 0.

    Raises:
        ScenarioError: The scenario cannot be divided like this; the line says what and the fix.
        RunError: A part cannot be started, or Ray is not installed.
    """
    system, free = simulation._system, settings.mode == "free"
    placement = placement_for(system, simulation.scenario, settings.count, settings.placement)
    if free:
        check_free(system)
    bounds = FreeSettings() if free else None
    most = lookahead_of(system, placement) if bounds is None else bounds.queue
    every = settings.every or 1
    if every > most:
        raise ScenarioError(
            f"parts: every is {every}, and parts of this placement may be {most} steps apart; give at most {most}, "
            "or longer delays"
        )
    make = partial(
        Part,
        simulation.scenario,
        placement,
        seed=simulation.seed,
        device=simulation.device,
        dtype=simulation.dtype,
        free=bounds,
    )
    if settings.ray is None:
        return LocalParts(make, placement, every=every)
    from antiphon.engine.ray.ray_parts import RayParts

    gpu = simulation.device.type == "cuda"
    return RayParts(make, placement, every=every, free=free, cluster=settings.ray, gpu=gpu)
