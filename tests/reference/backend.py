"""The reference engine as a backend of `Simulation`: `Simulation(scenario, backend=reference)`.

It keeps the graphs of closed windows. A network that goes back through one of them, without parameters that have moved since, runs
here; every other backend refuses it, as torch does ("backward through the graph a second time").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from antiphon.base.errors import named
from antiphon.engine.backends import BackendFactory
from antiphon.engine.heart.moving import RunningStatistics
from antiphon.engine.heart.predictors import Watch
from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import StepReport
from antiphon.engine.stacked import Stacked
from antiphon.engine.state.state_dict import load_messages, restore_parameters, snapshot
from tests.reference.engine import ReferenceEngine

Chosen = str | BackendFactory
"""What `Simulation` is given as its backend."""


def reference(system: System) -> Any:
    """Return the backend that computes a system one agent at a time: what every other is held to."""
    return ReferenceBackend(system)


class ReferenceBackend(ReferenceEngine):
    """The reference engine as a backend of `Simulation`.

    Args:
        system: As built; all that changes while it runs is kept there.
    """

    name = "reference"

    def __init__(self, system: System) -> None:
        super().__init__(system)
        self.stacked = Stacked(system, system)
        self._statistics = RunningStatistics(system)

    def tick(self, step: int, step_signals: StepSignals) -> Action | None:
        """Tick all agents due at `step`; everything is kept until the step's end."""
        with named(f"step {step + 1}"):
            self._statistics.keep()
            super().tick(step, step_signals)
            return self.action

    def learn(self, step: int, ends: EpisodeEnds, *, watch: Watch = False) -> StepReport:
        """End episodes, and update every agent and predictor whose time has come."""
        with named(f"step {step + 1}"):
            return super().learn(step, ends, watch=watch)

    def restore_statistics(self) -> None:
        """Put all running statistics back to what they were before the step."""
        self._statistics.restore()

    def synchronize(self) -> None:
        """Nothing to wait for: every step is checked at once."""

    def per_agent(self) -> System:
        """The declared system."""
        return self.system

    def state_dict(self) -> dict[str, Any]:
        """See `StackedBackend.state_dict`."""
        return snapshot(self.system)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of the same scenario, of this engine or of stacks."""
        load_messages(self.system, restore_parameters(self.system, state))
        self.replay_open_windows()
