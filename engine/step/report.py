"""What was learned at a step, by whom, from what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from antiphon.engine.core.parts import LearningGroup
from antiphon.engine.core.tape import Tape
from antiphon.engine.step.losses import Losses, WindowLoss
from antiphon.engine.step.predictors import Heard, PredictorUpdate

__all__ = ["StepReport", "Update"]


@dataclass(slots=True, eq=False)
class Update:
    """What one unit is about to learn from one window."""

    unit: LearningGroup
    tape: Tape
    gradients: dict[str, list[Tensor | None]] = field(default_factory=dict)
    """By the learner's first agent, in the order of its trainable parameters."""
    window_loss: WindowLoss = field(default_factory=WindowLoss)
    """What its objectives said."""
    injected: dict[str, Tensor] = field(default_factory=dict)
    """Newest injection by channel, for telemetry."""
    put: set[tuple[str, int]] = field(default_factory=set)
    """Channels and stamps of the messages on which anything was put that parameters follow."""
    moved: int = 0
    """How many members of a cohort have followed already, the first ones."""
    learning: list[str] = field(default_factory=list)
    """The first agents of the learners that gradients are asked for."""
    movers: dict[str, Tensor | None] = field(default_factory=dict)
    """By cohort, or agent beside cohorts: the members whom anything reached, [N] bool; None, or none said: all."""
    foretold: set[str] = field(default_factory=set)
    """Agents with an auxiliary loss."""

    @property
    def losses(self) -> dict[str, Losses]:
        """What the objectives said, by agent."""
        return self.window_loss.losses


@dataclass
class StepReport:
    """Everything that was learned at one step."""

    updates: list[Update]
    predictor_updates: dict[str, PredictorUpdate]
    """By channel."""
    inputs: dict[str, Heard] = field(default_factory=dict)
    """Losses and gradients of the synthetic inputs that learned, by channel."""
    learners: dict[str, Tensor | None] = field(default_factory=dict)
    """By bundle: the channels that a lesson was for, [K] bool; None, or none said: all."""
    hearers: dict[str, Tensor | None] = field(default_factory=dict)
    """By bundle: the channels whose synthetic inputs learned."""

    def losses(self) -> Iterator[tuple[tuple[str, ...], Losses]]:
        """Yield what objectives said: of one agent, or of several at once, [agents] each."""
        for update in self.updates:
            for name, losses in update.losses.items():
                yield (name,), losses

    def by_agent(self) -> Mapping[str, Tensor]:
        """Return the losses by agent."""
        return {name: found.loss for update in self.updates for name, found in update.losses.items()}
