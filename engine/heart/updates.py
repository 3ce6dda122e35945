"""Updates: what a step learns. Losses of a window, the gradients of a learning group, of a synthetic gradient and input.

Five masks say which agents and predictors learn, in rows (member, environment) or in members of a stack:

    Tick.participates            rows of an agent that learn from the tick's window
    Update.learning_rows         the same rows, by agent, as the window is learned from
    Update.stepping_members      members of agents that a signal has reached: these take a step
    PredictorUpdate.member_mask  members of channels that have an example: their predictors take a step
    DivergenceCheck.moving       members, of agents or channels, of the seeds that have not diverged: the others take no step
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from antiphon.base.mask import ALL, Mask
from antiphon.comms.backward_requests import Injection, constant
from antiphon.comms.examples import Example
from antiphon.engine.heart.message import Leaf, LearningGroup, Window

if TYPE_CHECKING:
    from antiphon.engine.heart.policy_window import PolicyWindow

EndedWindows = list[tuple[LearningGroup, Window]]
"""Windows that have ended, each with its learning group."""


@dataclass(slots=True)
class Losses:
    """An agent's objective over the ticks of a window."""

    loss: Tensor
    """Sum over ticks of the mean over the batch; of a stack [N], like the others."""
    score: Tensor
    """Sum over ticks and environments of the objective's metric; of several objectives [N, columns] (`Weighted`)."""
    count: int | Tensor
    """Ticks and environments that there was a target for."""

    def plus(self, other: Losses) -> Losses:
        """Those of further ticks too."""
        return Losses(self.loss + other.loss, self.score + other.score, self.count + other.count)

    def of(self, places: list[int] | slice) -> Losses:
        """Return the losses of some members of a stack."""
        count = self.count[places] if isinstance(self.count, Tensor) else self.count
        return Losses(self.loss[places], self.score[places], count)


@dataclass(slots=True)
class WindowLoss:
    """All objectives over a window."""

    roots: list[Tensor] = field(default_factory=list)
    """The losses with their graph, by agent and tick: per sample, [rows], or the mean over the batch, a scalar."""
    by_agent: dict[str, Tensor] = field(default_factory=dict)
    """Per agent and sample, [rows]: the sum over its ticks, without a graph."""
    losses: dict[str, Losses] = field(default_factory=dict)
    """By agent."""
    factors: dict[str, Tensor] = field(default_factory=dict)
    """By agent with `reduction: mean`, [rows]: B divided by its targets in the window."""
    evaluated: set[tuple[int, str]] = field(default_factory=set)
    """Steps and agents of the ticks that there was a target for."""
    policies: dict[str, PolicyWindow] = field(default_factory=dict)
    """Of the agents that learn from rewards."""

    def add(self, agent: str, root: Tensor, losses: Losses) -> None:
        """Add to an agent's: the losses with their graph, [rows], and what is reported."""
        samples = constant(root)
        self.roots.append(root)
        before = self.losses.get(agent)
        if before is not None:
            samples = self.by_agent[agent] + samples
            losses = before.plus(losses)
        self.losses[agent] = losses
        self.by_agent[agent] = samples


@dataclass(slots=True, eq=False)
class Update:
    """What one learning group learns from one window; made by `BackwardPass.differentiate`, applied by `Engine.apply`."""

    group: LearningGroup
    window: Window
    learning_rows: dict[str, Mask] = field(default_factory=dict)
    """By agent: the rows in which it learns from the window."""
    window_loss: WindowLoss = field(default_factory=WindowLoss)
    """Of its objectives."""
    gradients: dict[str, Sequence[Tensor | None]] = field(default_factory=dict)
    """By the learner's first agent, in the order of its trainable parameters: of those that learn from the window."""
    injected: dict[str, Tensor] = field(default_factory=dict)
    """Newest injection by channel, for metrics and a run's handles; and for `local_policy`, which keeps its rows without credit."""
    injected_messages: set[tuple[str, int]] = field(default_factory=set)
    """Channels and stamps of the messages with an injection that parameters follow."""
    leaf_gradients: dict[Leaf, Tensor | None] = field(default_factory=dict)
    """By leaf that the window read: its gradient, [rows, size] per sample; None: no loss depends on it, or none is returned."""
    stepping_members: dict[str, Mask] = field(default_factory=dict)
    """By agent: the members that take a step; absent: all."""
    injections: list[Injection] = field(default_factory=list)
    """What is injected into the messages that the window sent, until it is differentiated."""
    auxiliary: set[str] = field(default_factory=set)
    """Agents with an auxiliary loss."""
    auxiliary_loss: Tensor | None = None
    """A loss beside the objectives' that nothing goes back from, until the window is differentiated."""

    def take_gradients(
        self,
        gradients: Mapping[str, Sequence[Tensor | None]],
        leaf_gradients: Iterable[tuple[Leaf, Tensor | None]],
    ) -> None:
        """Take over what the window was differentiated to, and let go what was differentiated, with what is left of the graph."""
        self.gradients = {**gradients}
        self.window_loss.roots.clear()
        self.injections, self.auxiliary_loss = [], None
        self.leaf_gradients.update(leaf_gradients)


@dataclass(slots=True)
class PredictorUpdate:
    """What a synthetic gradient, or a synthetic input, learns from at one step."""

    examples: list[Example]
    loss: Tensor
    """Summed over the examples, before the update; [K] of a stack."""
    gradients: Sequence[Tensor | None]
    """Of its parameters, None of those it does not use; let go as these move."""
    prediction: Tensor | None = None
    """Its prediction for the newest example before the update; None unless asked for."""
    member_mask: Mask = ALL
    """The channels of a stack that it is for."""
    of_input: bool = False
    """Whether it is a synthetic input's."""


@dataclass
class StepReport:
    """What was learned at one step, by stack."""

    updates: list[Update]
    predictor_updates: dict[str, PredictorUpdate]
    """By channel."""
    input_updates: dict[str, PredictorUpdate] = field(default_factory=dict)
    """Of the synthetic inputs that learned, by channel."""
