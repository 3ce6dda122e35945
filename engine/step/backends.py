"""Backends: the stacked engine, which runs a scenario, and the reference, which is held against it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.build.stacking import Stacked
from antiphon.engine.core.records import EpisodeEnds, StepSignals, Tape
from antiphon.engine.core.rows import EnvMask
from antiphon.engine.core.system import System
from antiphon.engine.reference import records as reference
from antiphon.engine.reference.engine import ReferenceEngine
from antiphon.engine.state.state_dict import restore
from antiphon.engine.step.engine import Engine, SentMessage
from antiphon.engine.step.losses import Losses, WindowLoss
from antiphon.engine.step.predictors import InputUpdate, PredictorUpdate
from antiphon.engine.step.update import AgentReport, StepReport, Update
from antiphon.errors import ScenarioError, suggest

__all__ = ["BACKENDS", "ReferenceBackend", "backend_of", "checked_backend"]

BACKENDS = ("cohort", "reference")


def backend_of(name: str, system: System, *, stacked: bool = True) -> Engine:
    """Return what runs a system.

    Args:
        name: `cohort`: agents of one kind are computed as one. `reference`: one agent at a time.
        system: As built.
        stacked: Whether `cohort` stacks anything.

    Raises:
        ScenarioError: There is none of this name.
    """
    if checked_backend(name) == "reference":
        return ReferenceBackend(system)  # type: ignore[return-value]
    return Engine(system, stacked=stacked)


def checked_backend(name: str) -> str:
    """Return the name of a backend.

    Raises:
        ScenarioError: There is none of this name.
    """
    if name not in BACKENDS:
        raise ScenarioError(f"backend: there is no '{name}'{suggest(name, BACKENDS)}")
    return name


class ReferenceBackend:
    """The reference engine as a backend of `Simulation`.

    Networks and predictors are shared with the declared system; what looks at messages and tapes is given that system with
    the reference's state loaded into it.

    Args:
        system: As built.
    """

    name = "reference"

    def __init__(self, system: System) -> None:
        self.system = system
        self.engine = ReferenceEngine(system)
        self.stacked = Stacked.of_single_agents(system)
        self._stale = False

    @property
    def action(self) -> Tensor | None:
        """[B, outputs]: the acting agent's output at the newest step; None: none acted."""
        return self.engine.action

    @property
    def channels(self) -> Iterable[str]:
        """The names of all channels, in canonical order."""
        return self.system.channels

    def tick(self, step: int, step_signals: StepSignals) -> None:
        """Tick all agents due at `step`."""
        self._stale = True
        self.engine.tick(step, step_signals.signals)

    def cut(self, step: int, ends: EpisodeEnds) -> None:
        """End episodes, before anything learns from the step."""
        self._stale = True
        self.engine.cut(step, self._mask(ends.ended), self._mask(ends.terminated))

    def learn(self, step: int, *, watch: bool = False) -> AgentReport:
        """Update every agent and predictor whose time has come."""
        self._stale = True
        found = self.engine.learn(step, watch=watch)
        gradients = {
            name: PredictorUpdate(update.examples, update.loss, update.gradients, update.prediction)
            for name, update in found.gradients.items()
        }
        inputs = {name: InputUpdate(update.loss, update.gradients) for name, update in found.inputs.items()}
        report = StepReport([self._update(update) for update in found.groups], gradients, inputs)
        return AgentReport(report, self.stacked)

    def synchronize(self) -> None:
        """Nothing to wait for: every step is checked at once."""

    def view(self) -> System:
        """The declared system with the state as it is now, moments of optimisers that were written to among it."""
        self._stale = True
        return self.per_agent()

    def per_agent(self) -> System:
        """The declared system with the state as it is now."""
        if self._stale:
            self._stale = False
            restore(self.system, self.engine.state_dict())
            self.engine.replay_open_windows()  # parameters were written to, if with their own values
        return self.system

    def sent(self, channel: str, stamp: int | None = None) -> SentMessage | None:
        """See `Engine.sent`."""
        records = self.per_agent().channels[channel].ledger.records
        record = records.get(max(records, default=-1) if stamp is None else stamp)
        return None if record is None else SentMessage(record.message, record.received, record.lost)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of everything but the environment, by agent and channel, without copying a tensor."""
        return self.engine.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state of the same scenario, of this engine or of stacks."""
        self.engine.load_state_dict(state)
        self._stale = True

    def _mask(self, mask: EnvMask) -> Tensor:
        if isinstance(mask, Tensor):
            return mask
        return torch.full((self.system.batch,), mask, device=self.system.device)

    def _update(self, update: reference.GroupUpdate) -> Update:
        batch = self.system.batch
        losses = {
            name: Losses(loss.samples.sum().reshape(1) / batch, loss.score.reshape(1), loss.count)
            for name, loss in update.loss.agents.items()
        }
        group = self.system.group_of[update.group.members[0]]
        tape = Tape(update.window)
        return Update(group, tape, update.gradients, WindowLoss(losses=losses), update.injected)
