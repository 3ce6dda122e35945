"""The coordinator of a simulation in parts: who takes which step, and when the parts' states are brought together.

The parts take the steps after which nothing outside reads the state; the whole simulation takes the others itself, from the
state that is gathered before them, with its observers and recorders, and the parts take them as well.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.parts.transport import Parts
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

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
        if simulation.backend.name == "reference":
            raise ScenarioError(
                "parts: the reference backend computes one agent at a time, in one process; leave out backend"
            )
        self.settings = settings
        self._held_at = simulation.now
        """Steps of the state that the simulation holds itself."""
        self._parts: Parts | None = None
        self._parts_of: tuple[Scenario, int] | None = None
        """Scenario and seed of the parts."""
        self._parts_at: int | None = None
        """Steps that the parts have taken; None: their state is not that of the simulation."""
        self._row_at: int | None = None
        """The step of the newest row of figures, where the parts have not taken it yet."""
        parts = self._open(simulation)
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
            until = next(n for n in count(step + 1) if observed(n) or n == step + _LONGEST)
            row, self._row_at = self._row_at, None
            try:
                self._parts_at = parts.advance(until, stop=simulation.stopping, row_at=row)
            except DivergenceError as error:
                self._diverge(simulation, error, until)
        simulation.now = step + 1

    def _bring_parts(self, simulation: BaseSimulation) -> Parts:
        """Return the parts, not further from the simulation's step than by one that they take themselves."""
        parts = self._open(simulation)
        if self._parts_at is None or self._parts_at < simulation.now - 1:
            parts.scatter(simulation.state_dict())
            self._parts_at, self._row_at = simulation.now, None
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
        if (
            not simulation.observed_at
        ):  # by hand: whatever is done to it between two steps, the parts do not have
            self._parts_at = None

    def release(self, simulation: BaseSimulation) -> None:
        """Note that anything may be done to the simulation from here on: its parts take over its state before they go on.

        After an exception it is at the step of the newest state that it holds itself.
        """
        if self._parts_at is not None and self._parts_at > self._held_at:
            simulation.now = self._held_at
        self._parts_at = None

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
            simulation.load_state_dict(self._parts.gather())
        except DivergenceError as error:
            self._diverge(simulation, error, reached)
        self._held_at = reached

    def _diverge(self, simulation: BaseSimulation, error: DivergenceError, until: int) -> None:
        """Bring the simulation to the step at which a part diverged, by taking the steps since the state it holds itself.

        In free mode, whose steps nothing can repeat, it stays at that state.
        """
        self._parts_at, simulation.now = None, self._held_at
        simulation.observed_at = 0  # it takes all steps itself
        if self.settings.mode == "lockstep":
            while simulation.now < until:
                simulation.advance()
            simulation.synchronize()
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
        RunError: A part cannot be started.
    """
    raise RunError(f"parts: no transport '{settings.transport}' in this version")
