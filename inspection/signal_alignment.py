"""Alignment of what a channel's signal does: the parameter gradient it causes in its sender, beside the signal itself.

Per sample, most of a classifier's gradient is the label's own noise, which a context with the label gives away; what the
sender's parameters follow is the sum over samples, in which that part cancels. So a signal can be like the true one message
by message and still move the parameters elsewhere, always the same way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from antiphon.base.argument_checks import check_counts
from antiphon.base.mask import NONE
from antiphon.comms.backward_requests import as_leaf
from antiphon.comms.gradient_alignment import alignment
from antiphon.engine.environment import EnvironmentRunner
from antiphon.engine.feature_table import install_in
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.inspection.truth import (
    DifferentiableRollout,
    chosen_channels,
    predicted_channels,
    rollouts_ahead,
)
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.telemetry.metrics import Metric, bounds
from antiphon.telemetry.statistics import standard_error, student_t

_LONGEST = 64
"""Messages of a channel after which it is left out, where fewer than asked for have a true gradient."""


@dataclass(frozen=True)
class SignalAlignment:
    """Alignment of a channel's signal with the true gradient, at the message and in its sender's parameters.

    Attributes:
        cosine: Mean cosine of the signals of single samples.
        parameter_cosine: Mean cosine, over messages, of the gradients of the sender's parameters that the batch of signals
            causes; 0 if the signal causes none.
        parameter_low, parameter_high: The mean's 95 % interval over the messages; nan for a single one.
        parameter_norm_ratio: Mean of |caused by the signal| / |caused by the true gradient|.
    """

    cosine: float
    parameter_cosine: float
    parameter_low: float
    parameter_high: float
    parameter_norm_ratio: float
    messages: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@in_own_context
def signal_alignment(
    simulation: LiveSystem | Holder,
    *,
    channels: Sequence[str] | None = None,
    ahead: int | None = None,
    messages: int = 16,
) -> dict[str, SignalAlignment]:
    """Compare the parameter gradients that synthetic and true gradients cause, in a fork in which nothing learns.

    With J the Jacobian of a message by its sender's parameters, at the tick at which it is made, the two are J^T SG / B and
    J^T g / B, with the true gradient g: a channel's part in one optimiser step, before its `scale`. A sender in a locked
    group counts with its own parameters.

    Args:
        simulation: The simulation to measure; no bit of it changes.
        channels: The channels; None: all that have a predictor.
        ahead: Further steps whose losses count in a true gradient; None: as many as the messages can reach.
        messages: The number of messages per channel, each a batch.

    Returns:
        By channel, without channels whose sender has no trainable parameters, and channels of which 64 messages had no true
        gradient.

    Raises:
        ScenarioError: There is no such channel, it has no predictor, `messages` is below 1, or `ahead` below 0.
    """
    check_counts("signal_alignment", needed=True, messages=messages)
    check_counts("signal_alignment", 0, ahead=ahead)
    running = running_of(simulation)
    system = running.system
    probe = "signal_alignment: channel with a predictor"
    pairs_by_channel = {
        name: _Pairs(messages)
        for name in chosen_channels(predicted_channels(system), channels, probe)
        if not system.agents[system.channels[name].sender].learner.frozen
    }

    for rollout, world, horizon in rollouts_ahead(running, pairs_by_channel, ahead):
        _measure(rollout, world, horizon, pairs_by_channel)
    return {name: pairs.score() for name, pairs in pairs_by_channel.items() if pairs.cosines}


def signal_rows(alignments: dict[str, SignalAlignment]) -> list[Metric]:
    """Return the cosines of parameter gradients, with their intervals, as metrics of channels."""
    rows = []
    for name, measured in alignments.items():
        mean = measured.parameter_cosine, measured.parameter_low, measured.parameter_high
        metrics = ("parameter_cosine", *bounds("parameter_cosine"))
        rows += [Metric("channel", name, metric, value) for metric, value in zip(metrics, mean, strict=True)]
    return rows


def _measure(
    rollout: DifferentiableRollout,
    world: EnvironmentRunner,
    horizon: int,
    pairs_by_channel: dict[str, _Pairs],
) -> None:
    """Add the messages of the rollout's first step to the pairs of their channels."""
    system = rollout.system
    senders = {system.learner_name_by_agent[system.channels[name].sender] for name in pairs_by_channel}
    learners = {name: system.agents[name].learner for name in senders}
    leaves: dict[str, list[Tensor]] = {}
    with ExitStack() as first:  # leaves at the first step, and constants after it
        for name, learner in learners.items():
            parameters = {key: as_leaf(p) for key, p in learner.parameters.items()}
            leaves[name] = list(parameters.values())
            first.enter_context(learner.evaluated_with(parameters))
        rollout.run(world, 1)
    trainer = PredictorTrainer(system)
    trainer.stop_learning()
    install_in(trainer)
    signals: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, message in rollout.sent.items():
            channel = system.channels[name]
            signal = trainer.predict(channel, message)
            if signal is not None and message.creditable is not NONE:
                signals[name] = message.creditable.zero_elsewhere(channel.clipped_credit(signal))
    rollout.run(world, horizon)
    for name, true in rollout.gradients(retain=True).items():
        pairs_by_channel[name].sent += 1
        if name in signals:
            by = leaves[system.learner_name_by_agent[system.channels[name].sender]]
            sent = rollout.sent[name].sent_value
            caused = [_parameter_gradient(sent, by, g / system.batch) for g in (signals[name], true)]
            pairs_by_channel[name].add(signals[name], true, *caused)


def _parameter_gradient(message: Tensor, parameters: list[Tensor], gradient: Tensor) -> Tensor:
    """[parameters]: what a gradient of a message, [B, size], causes in the parameters it was made with."""
    gradients = torch.autograd.grad(message, parameters, gradient, retain_graph=True, allow_unused=True)
    pairs = zip(gradients, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]).double()


@dataclass
class _Pairs:
    """Comparisons of the messages of one channel."""

    needed: int
    sent: int = 0
    message_cosines: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)

    def add(self, signal: Tensor, true: Tensor, caused: Tensor, truly: Tensor) -> None:
        """Compare one message's; nothing where the true gradient causes nothing."""
        synthetic_norm, true_norm = caused.norm().item(), truly.norm().item()
        cosine = alignment(signal, true)["cosine"].item()
        if true_norm == 0 or math.isnan(cosine):
            return
        self.message_cosines.append(cosine)
        self.cosines.append(
            torch.dot(caused, truly).item() / (synthetic_norm * true_norm) if synthetic_norm else 0.0
        )
        self.ratios.append(synthetic_norm / true_norm)

    @property
    def complete(self) -> bool:
        """Whether there are as many as wanted, or no hope of them."""
        return len(self.cosines) >= self.needed or self.sent >= max(_LONGEST, self.needed)

    def score(self) -> SignalAlignment:
        count = len(self.cosines)
        low = high = math.nan
        if count > 1:
            half = student_t(count - 1) * standard_error(self.cosines)
            middle = sum(self.cosines) / count
            low, high = max(middle - half, -1.0), min(middle + half, 1.0)
        means = (sum(values) / count for values in (self.message_cosines, self.cosines, self.ratios))
        cosine, parameters, ratio = means
        return SignalAlignment(cosine, parameters, low, high, ratio, count)
