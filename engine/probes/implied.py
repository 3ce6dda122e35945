"""The loss that a synthetic gradient implies, held against the true one.

A synthetic gradient is a field over messages; integrated along a line it is the change of a loss (Czarnecki et al.
2017, "Understanding synthetic gradients and decoupled neural interfaces", section 4). The line runs from the mean
message to each example's own; the true loss is had by letting the network go on from there.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.comms.synthetic_gradients import LinearGradient, Predictor
from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import Record, StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.inference.evaluation import examples as examples_of
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import ExampleRollout, with_targets
from antiphon.engine.step.predictors import PredictorTrainer
from antiphon.errors import ScenarioError, suggest

__all__ = ["ImpliedLoss", "Quadratic", "implied_loss", "quadratic"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quadratic:
    """The loss that a linear synthetic gradient SG(m, c) = A m + B c + b implies: m S m / 2 + (B c + b) m + const.

    Attributes:
        curvature: S = (A + A^T) / 2, [M, M].
        slope: B, [M, C].
        constant: b, [M].
        symmetry: |S|^2 / |A|^2: 1 where it is the gradient of a loss, less where part of it is no loss's gradient; NaN
            for A = 0.
    """

    curvature: Array
    slope: Array
    constant: Array
    symmetry: float

    def loss(self, message: Array, context: Array | None = None) -> Array:
        """Return the implied loss, but for a constant, [B], of messages [B, M] and contexts [B, C]."""
        linear = self.constant if context is None else context @ self.slope.T + self.constant
        curved: Array = ((message @ self.curvature) * message).sum(1)
        straight: Array = (linear * message).sum(1)
        return curved / 2 + straight


@dataclass(frozen=True)
class ImpliedLoss:
    """What a channel's synthetic gradient makes of the loss along lines between messages.

    Attributes:
        channel: Its name.
        implied: [examples, points], from 0 at the mean message to each example's own.
        true: [examples, points], the sum of all objectives, weighted.
        offset: Mean of true - implied: the constant that a gradient leaves open.
        correlation: Of the two over all examples and points; NaN where one never changes.
        changes: Of how much the two change from the mean message on: what differs between examples there is left out.
        symmetry: Of a linear predictor: how far it is the gradient of any loss; None for others.
    """

    channel: str
    implied: Array
    true: Array
    offset: float
    correlation: float
    changes: float
    symmetry: float | None


def quadratic(predictor: Predictor) -> Quadratic:
    """Return the loss that a linear synthetic gradient implies.

    Raises:
        ScenarioError: The predictor is not linear.
    """
    if not isinstance(predictor, LinearGradient):
        raise ScenarioError(
            "implied loss: only a `linear` gradient of whole messages implies a quadratic one"
        )
    weight = predictor.parameters["last.weight"].double().numpy(force=True)
    own, size = weight[:, : predictor.size], float((weight[:, : predictor.size] ** 2).sum())
    symmetric = (own + own.T) / 2
    share = float((symmetric**2).sum()) / size if size else float("nan")
    bias = predictor.parameters["last.bias"].double().numpy(force=True)
    return Quadratic(symmetric, weight[:, predictor.size :], bias, share)


def implied_loss(
    simulation: BaseSimulation,
    channels: Sequence[str] | None = None,
    *,
    examples: int = 400,
    split: str = "test",
    points: int = 9,
) -> dict[str, ImpliedLoss]:
    """Integrate synthetic gradients along lines of messages, and compare with the loss there.

    The messages of all steps of an example move along together; the sums of the trapezoidal rule are exact for a
    linear synthetic gradient.

    Args:
        simulation: What to look at; no bit of it changes.
        channels: Which; None: all that have a predictor.
        examples: At most so many, spread evenly over the split.
        split: The part of the data.
        points: On each line, both ends included.

    Raises:
        ScenarioError: No such channel, a channel without a synthetic gradient, or too few points.
    """
    system = simulation.system
    names = [n for n, c in system.channels.items() if c.predictor is not None]
    for name in channels or ():
        if name not in system.channels:
            raise ScenarioError(f"channels: no channel '{name}'{suggest(name, system.channels)}")
        if name not in names:
            raise ScenarioError(f"channels: {name} has no synthetic gradient, which alone implies a loss")
    if points < 2:
        raise ScenarioError(f"points: a line needs at least 2, not {points}")
    if examples < 1:
        raise ScenarioError(f"examples: must be at least 1, not {examples}")
    if not with_targets(system):
        return {}  # rewards are no loss of an example
    (batch,) = examples_of(
        simulation.world.env, split, examples, examples
    )  # one: the mean message is that of all
    rollout = ExampleRollout(system, batch, Links(), seed=simulation.seed, ends=with_targets(system))
    signals = StepSignals(0, dict(batch))
    chosen = names if channels is None else dict.fromkeys(channels)
    return {name: _Lines(system, rollout, signals, system.channels[name]).compare(points) for name in chosen}


class _Lines:
    """The lines from the mean message to each example's own, on one channel."""

    def __init__(
        self, system: System, rollout: ExampleRollout, signals: StepSignals, channel: Channel
    ) -> None:
        self.system = system
        self.rollout = rollout
        self.step_signals = signals
        self.channel = channel
        sent = rollout.sent(channel.name)
        self.own = {stamp: sent[stamp] for stamp in sorted(rollout.read(channel.name))}
        self.mean = {stamp: message.mean(0, keepdim=True) for stamp, message in self.own.items()}
        stage = copy.copy(system)
        stage.batch = rollout.rows
        self.predictor_trainer = PredictorTrainer(stage)

    def compare(self, points: int) -> ImpliedLoss:
        """Walk along the lines."""
        shares = np.linspace(0.0, 1.0, points)
        slopes = np.stack([self._slope(float(share)) for share in shares], 1)
        steps = (slopes[:, 1:] + slopes[:, :-1]) / 2 / (points - 1)
        implied = np.concatenate([np.zeros((len(slopes), 1)), np.cumsum(steps, 1)], 1)
        true = np.stack([self._loss(float(share)) for share in shares], 1)
        predictor = self.channel.predictor
        symmetry = quadratic(predictor).symmetry if isinstance(predictor, LinearGradient) else None
        return ImpliedLoss(
            self.channel.name,
            implied,
            true,
            float((true - implied).mean()),
            _correlation(true, implied),
            _correlation((true - true[:, :1])[:, 1:], implied[:, 1:]),
            symmetry,
        )

    def _at(self, stamp: int, share: float) -> Tensor:
        return self.mean[stamp] + share * (self.own[stamp] - self.mean[stamp])

    def _slope(self, share: float) -> Array:
        """The derivative of the implied loss by the share of the way, [examples]."""
        total = np.zeros(self.rollout.rows)
        for stamp, own in self.own.items():
            along = own - self.mean[stamp]
            total += (self._predicted(stamp, share).double() * along.double()).sum(1).cpu().numpy()
        return total

    def _predicted(self, stamp: int, share: float) -> Tensor:
        """The synthetic gradient of a message that far along, [rows, size]."""
        message = self._at(stamp, share)
        place = copy.copy(self.channel)
        place.zeros = torch.zeros_like(message)
        ledger = self.channel.ledger
        first = ledger.receiver.following(stamp + ledger.link.delay)
        record = Record(stamp, message, message, self.step_signals, first, set(), first)
        found = self.predictor_trainer.predict(place, record)
        return torch.zeros_like(message) if found is None else found

    def _loss(self, share: float) -> Array:
        """The true loss that far along, [examples]: the network goes on from there."""

        def message(stamp: int, made: Tensor) -> Tensor:
            return self._at(stamp, share) if stamp in self.own else made

        total, goals = np.zeros(self.rollout.rows), with_targets(self.system)
        ports = self.rollout.replaced(self.channel.name, message)
        for name, found in self.rollout.scores(ports).items():
            total += goals[name].weight * found["loss"].double().cpu().numpy()
        return total


def _correlation(a: Array, b: Array) -> float:
    """Pearson's correlation over all entries; NaN where one of them does not vary."""
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    scale = float(np.linalg.norm(x) * np.linalg.norm(y))
    return float(x @ y) / scale if scale > 0 else float("nan")
