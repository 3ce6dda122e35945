"""Alignment beside its ceiling: what the best linear prediction from the same message and context reaches (semantics 34)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.base.argument_checks import check_counts
from antiphon.base.mask import ALL, Mask
from antiphon.comms.examples import encode
from antiphon.comms.gradient_alignment import alignment
from antiphon.engine.feature_table import install_in
from antiphon.engine.heart.message import Message
from antiphon.engine.heart.predictors import PredictorTrainer
from antiphon.engine.heart.system import System
from antiphon.engine.live_system import Holder, LiveSystem, running_of
from antiphon.inspection.truth import chosen_channels, predicted_channels, rollouts_ahead
from antiphon.nets.isolation.own_context import in_own_context

_PER_FEATURE = 100
"""Samples gathered for every number that a prediction is made from; of half of them a map of 1 / 50 too few
degrees of freedom is fitted, so that its R^2 falls short by 0.02 of what it leaves unexplained."""
_MOST_FEATURES = 4096
_EMPTY = 64
"""Messages of a channel after which it is left out, where none has arrived with a prediction."""
_PENALTIES = (1e-12, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Ridge penalties tried, as shares of the largest eigenvalue."""


@dataclass(frozen=True)
class Ceiling:
    """Alignment with the true gradients of a channel's synthetic gradients, and of the best linear prediction.

    Attributes:
        synthetic: `antiphon.comms.alignment` of the channel's predictor.
        linear: `antiphon.comms.alignment` of the best linear map of message and context, on the same samples. A linear
            predictor cannot do better except by chance; other kinds can.
    """

    synthetic: dict[str, float]
    linear: dict[str, float]
    samples: int

    def to_dict(self) -> dict[str, Any]:
        """Return `cosine`, `pooled_cosine` and `r2` with their ceilings, `bias2`, `variance` and `samples`."""
        rows: dict[str, Any] = {}
        for name in ("cosine", "pooled_cosine", "r2"):
            rows |= {name: self.synthetic[name], f"{name}_ceiling": self.linear[name]}
        rest = {name: self.synthetic[name] for name in ("bias2", "variance")}
        return rows | rest | {"samples": self.samples}


@in_own_context
def ceilings(
    simulation: LiveSystem | Holder, *, channels: Sequence[str] | None = None, ahead: int | None = None
) -> dict[str, Ceiling]:
    """Compare synthetic gradients, and the best linear prediction, with true gradients in a fork in which nothing learns.

    Samples are gathered over the next steps, 100 per input feature of the prediction. The linear map is fitted on one half
    of them, by ridge regression with a penalty found by generalised cross-validation; the other half is scored. Messages
    that the link loses are left out, and those that are not sent or that no tick may read.

    Args:
        simulation: The simulation to measure; no bit of it changes.
        channels: The channels; None: all that have a predictor.
        ahead: Further steps whose losses count in a true gradient; None: as many as the messages can reach.

    Returns:
        By channel, without channels whose message and context have more than 4,096 features together, and channels of which 64
        messages gave no sample, as where the link loses all.

    Raises:
        ScenarioError: There is no such channel, it has no predictor, or `ahead` is below 0.
    """
    check_counts("ceilings", 0, ahead=ahead)
    running = running_of(simulation)
    system = running.system
    names = chosen_channels(predicted_channels(system), channels, "ceilings: channel with a predictor")
    samples: dict[str, _Samples] = {}
    for name in names:
        predictor = system.channels[name].synthetic_gradient.model
        assert predictor is not None  # those with one can be chosen
        model = predictor.sites or predictor
        context = sum(spec.features for spec in model.context)
        if model.size + context + (0 if model.target is None else model.target.features) <= _MOST_FEATURES:
            samples[name] = _Samples(system.steps_per_example)

    for rollout, world, horizon in rollouts_ahead(running, samples, ahead):
        rollout.run(world, 1)
        pairs = {name: _example(rollout.system, name, message) for name, message in rollout.sent.items()}
        rollout.run(world, horizon)
        for name, true in rollout.gradients().items():
            sent = rollout.sent[name]
            samples[name].add(pairs[name], true, sent.creditable & ~sent.fate.lost)
    return {name: gathered.score() for name, gathered in samples.items() if gathered.rows}


@torch.no_grad()
def _example(system: System, name: str, message: Message) -> tuple[Tensor, Tensor] | None:
    """What a predictor is given of a message, [B, features], and its prediction, [B, size]; None where it has none."""
    channel, trainer = system.channels[name], PredictorTrainer(system)
    trainer.stop_learning()
    install_in(trainer)
    prediction, example = trainer.predict(channel, message), trainer.example(channel, message)
    if prediction is None or example is None or channel.synthetic_gradient.model is None:
        return None
    columns = [example.message] if example.context is None else [example.message, example.context]
    spec = (channel.synthetic_gradient.model.sites or channel.synthetic_gradient.model).target
    if spec is not None and example.target is not None:
        target_signals = {spec.name: example.target}
        if example.sites is not None:
            target_signals[f"_{spec.name}"] = example.sites
        target = encode((spec,), target_signals, system.dtype)
        assert target is not None
        columns.append(target)
    return torch.cat(columns, 1), prediction


class _Samples:
    """Samples of one channel, one tensor per step: inputs [rows, features], true and synthetic gradients [rows, size].

    Every other block of batches is fitted, those between are scored: a block covers all steps of an example, at which gradients differ.
    """

    def __init__(self, block: int) -> None:
        self.block = block
        self.inputs: list[Tensor] = []
        self.true: list[Tensor] = []
        self.synthetic: list[Tensor] = []
        self.messages = 0

    def add(self, pair: tuple[Tensor, Tensor] | None, true: Tensor, arrived: Mask) -> None:
        """Keep the rows of a step that have arrived, so that a gradient may return."""
        self.messages += 1
        if pair is not None:
            rows = slice(None) if arrived is ALL else arrived.tensor(len(true), true.device)
            self.inputs.append(pair[0][rows].double())
            self.synthetic.append(pair[1][rows].double())
            self.true.append(true[rows].double())

    @property
    def rows(self) -> int:
        """The number of samples."""
        return sum(map(len, self.inputs))

    @property
    def complete(self) -> bool:
        """Whether there are samples enough, in an even number of blocks, or no hope of them."""
        if not (rows := self.rows):
            return self.messages >= _EMPTY
        return len(self.inputs) % (2 * self.block) == 0 and rows >= _PER_FEATURE * self.inputs[0].shape[1]

    def score(self) -> Ceiling:
        """Fit on every other block, score on those between."""
        weight, bias = best_linear(self._half(self.inputs, 0), self._half(self.true, 0))
        linear, true = self._half(self.inputs, 1) @ weight + bias, self._half(self.true, 1)
        scores = [alignment(prediction, true) for prediction in (self._half(self.synthetic, 1), linear)]
        synthetic, best = ({name: v.item() for name, v in score.items()} for score in scores)
        return Ceiling(synthetic, best, len(true))

    def _half(self, batches: list[Tensor], which: int) -> Tensor:
        """Return the rows of the blocks that are fitted (0), or of those that are scored (1)."""
        return torch.cat([rows for at, rows in enumerate(batches) if at // self.block % 2 == which])


@torch.no_grad()
def best_linear(inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Return the linear map, [features, outputs] and [outputs], that predicts best, by ridge regression.

    Inputs are [rows, features], outputs [rows, outputs]. The penalty is the one of the least generalised cross-validation
    error (Golub, Heath and Wahba 1979).
    """
    rows = len(inputs)
    x_mean, y_mean = inputs.mean(0), outputs.mean(0)
    x, y = inputs - x_mean, outputs - y_mean
    values, vectors = torch.linalg.eigh(x.T @ x)
    values = values.clamp_min(0)
    along = vectors.T @ (x.T @ y)  # of the outputs, along each direction
    best, least = torch.zeros_like(along), float("inf")
    for share in _PENALTIES:
        shrunk = values + share * values[-1].clamp_min(1e-300)
        weights = along / shrunk.unsqueeze(1)
        residual = y - x @ (vectors @ weights)
        freedom = rows - 1 - (values / shrunk).sum().item()
        error = residual.square().sum().item() / max(freedom, 1e-9) ** 2
        if error < least:
            best, least = weights, error
    weight = vectors @ best
    return weight, y_mean - x_mean @ weight
