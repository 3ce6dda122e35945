"""Features: what only some scenarios need of a step, and the points of the step at which they are called.

A feature is a class with some of the methods of `Feature`, each of which is a point of the step. It is called at the
points that its class has, and at no others: `Features` has, by point, the features that are installed there. Which
setting needs which feature is a table (engine/feature_table.py). Comments in `TickPoints` and `LearningPoints` name its
features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from antiphon.base.errors import EngineError

if TYPE_CHECKING:
    from antiphon.agents.network import Tensors
    from antiphon.engine.heart.agent import Agent
    from antiphon.engine.heart.signals import Action, EpisodeEnds, StepSignals
    from antiphon.engine.heart.updates import (
        StepUpdates,
        Update,
        WindowLoss,
    )
    from antiphon.engine.heart.window import Tick, Window


class Feature:
    """The points of a step; a feature has those at which it is called, and no others.

    They are in the order in which they are called first. Some are called out of it, or again:

    - `after_evaluate` is called again as a window is replayed; but not where a further pass evaluates the rows of a
      minibatch alone, with its critics (policies/evaluation.py).
    - Further passes, at `after_move`, call `after_differentiate` again, but not `before_move` or `after_move`.

    At some points one feature answers (`One` in `TickPoints` and `LearningPoints`): they are named for the answer. At
    the others all features that have them are called (`Many`): they are named for what the step is about to do or has
    done. Of these, `after_evaluate` alone has answers, which are merged.
    """

    # --- a tick ----------------------------------------------------------------------------------------------

    def before_ticks(self, step: int, step_signals: StepSignals) -> None:
        """Prepare a step, before any agent ticks."""

    def after_evaluate(
        self,
        ticks: Sequence[Tick],
        ports: Tensors,
        statistics_now: Tensors,
        statistics_before: Tensors,
        network_inputs: tuple[Tensor, Tensor | None],
    ) -> Tensors:
        """Add to the ports, [rows, …], of a call, and return the changed running statistics; the features' are merged.

        Args:
            statistics_now: The running statistics before the ticks.
            statistics_before: The running statistics at the start of their window.
        """
        raise NotImplementedError

    def before_send(self, tick: Tick) -> None:
        """Handle a tick that has been evaluated, before it sends."""

    def action(self) -> Action | None:
        """Return what is done in the environment after the newest step; None: no agent acted."""
        raise NotImplementedError

    def episodes_end(self, step: int, ends: EpisodeEnds) -> None:
        """Handle the ends of episodes with a step, before messages become void.

        It is called after every step, also if none ended.
        """

    # --- what is learned from it -----------------------------------------------------------------------------

    def policy_losses(
        self, window_loss: WindowLoss, agent: Agent, ticks: Sequence[Tick], window: Window
    ) -> Tensor | None:
        """Return an agent's losses by rewards in a window, [rows] with their graph, and add them; None: none."""
        raise NotImplementedError

    def after_differentiate(self, update: Update, step: int) -> None:
        """Handle, or change, the gradients of a window, or of a further pass's minibatch, before they are checked.

        The updates of minibatches have the same window: who counts windows counts them by number.
        """

    def before_move(self, updates: StepUpdates) -> None:
        """Handle all updates of a step, once checked and before any parameter moves: of windows, and of predictors.

        What is changed here is not checked again. Further passes move parameters without this point.
        """

    def after_move(self, updates: StepUpdates, step: int) -> None:
        """Handle the updates that `before_move` was called with, once all parameters have moved.

        It is called once a step, also where predictors alone have moved, or nothing has; not in measurements, in which
        nothing moves (`Engine.measures_only`). Gradients of predictors are gone. Further passes are taken here.
        """


FeatureClass = TypeVar("FeatureClass", bound=Feature)

Many = tuple[Feature, ...]
"""Features that are called one after the other at a point, in the order of the table; usually none."""


One = Feature | None
"""The one feature whose answer is used at a point; None: the step does what is ordinary."""


@dataclass(slots=True)
class TickPoints:
    """The installed features by the point of a tick, or of an episode's end, at which they are called."""

    before_ticks: Many = ()  # Actions
    after_evaluate: Many = ()  # Critics, TargetNetworks
    before_send: Many = ()  # Actions
    action: One = None  # Actions
    episodes_end: Many = ()  # FinalValues


@dataclass(slots=True)
class LearningPoints:
    """The installed features by the point of learning at which they are called."""

    policy_losses: One = None  # PolicyEvaluator
    after_differentiate: Many = ()  # Reach
    before_move: Many = ()  # PolicyEvaluator
    after_move: Many = ()  # FurtherPasses, TargetNetworks


@dataclass(slots=True)
class Features:
    """The installed features of a step, by their points: those of ticks, and those of learning."""

    tick_points: TickPoints = field(default_factory=TickPoints)
    learning_points: LearningPoints = field(default_factory=LearningPoints)
    installed: list[Feature] = field(default_factory=list)

    def install(self, feature: Feature) -> None:
        """Have a feature called at the points that its class has.

        Raises:
            EngineError: It answers at a point at which another one does.
        """
        self.installed.append(feature)
        for point in points_of(type(feature)):
            points = self.tick_points if point in TICK else self.learning_points
            installed = getattr(points, point)
            if isinstance(installed, tuple):
                setattr(points, point, (*installed, feature))
            elif installed is None:
                setattr(points, point, feature)
            else:
                names = " and ".join(type(claimant).__name__ for claimant in (installed, feature))
                raise EngineError(f"the point '{point}' of the step: {names} answer both; one feature may")

    def of(self, feature_class: type[FeatureClass]) -> FeatureClass | None:
        """Return the installed feature of a class, if there is one."""
        return next((feature for feature in self.installed if isinstance(feature, feature_class)), None)


TICK, LEARNING = (tuple(point.name for point in fields(points)) for points in (TickPoints, LearningPoints))
"""The names of the points of a tick, and of the points of learning, in their order."""


def points_of(feature_class: type[Feature]) -> list[str]:
    """Return the points of a step at which a class of features is called."""
    points = (*TICK, *LEARNING)
    return [point for point in points if getattr(feature_class, point) is not getattr(Feature, point)]
