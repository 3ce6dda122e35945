"""Many small predictors of one shape as one: the same numbers, stacked for the length of a call.

A predictor without hidden layers is one linear map, whose gradient is written out here for all kinds: with error
e = dloss/doutput, it is e^T [m, c]. Predictors of one kind and shape are computed as one batched product. Each keeps
its own parameters; nothing is shared between them.  Shapes: K predictors, B batch, M message, C context, O outputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.direct import LinearGradient
from antiphon.comms.gradient import Example, Predictor
from antiphon.comms.labels import LocalGradient

__all__ = ["gradients_all", "predict_all"]

Learned = tuple[Tensor, list[Tensor]]
"""A predictor's loss and the gradients of its parameters."""

_LARGEST = 1 << 14
"""Inputs of more numbers than this are computed one by one: copying them together would cost more than it saves."""


def predict_all(asked: Sequence[tuple[Predictor, Example]]) -> list[Tensor]:
    """Return each predictor's synthetic gradient per sample, [B, M], in order."""
    found: list[Tensor | None] = [None] * len(asked)
    for group in _groups(asked):
        if len(group) == 1:
            predictor, example = asked[group[0]]
            found[group[0]] = predictor.predict(example)
        else:
            stacked = _predict([asked[i][0] for i in group], [asked[i][1] for i in group])
            for i, prediction in zip(group, stacked, strict=True):
                found[i] = prediction
    return [prediction for prediction in found if prediction is not None]


def gradients_all(asked: Sequence[tuple[Predictor, Sequence[Example]]]) -> list[Learned]:
    """Return each predictor's loss, summed over its examples, and its gradients, in order."""
    found: list[Learned | None] = [None] * len(asked)
    single = [i for i, (_, examples) in enumerate(asked) if len(examples) == 1]
    for group in _groups([(asked[i][0], asked[i][1][0]) for i in single]):
        members = [single[g] for g in group]
        if len(members) > 1:
            learned = _gradients([asked[i][0] for i in members], [asked[i][1][0] for i in members])
            for i, result in zip(members, learned, strict=True):
                found[i] = result
    return [
        predictor.gradients(examples) if result is None else result
        for (predictor, examples), result in zip(asked, found, strict=True)
    ]


def _groups(asked: Sequence[tuple[Predictor, Example]]) -> list[list[int]]:
    """Positions of what can be computed together; what cannot stands alone."""
    groups: dict[Hashable, list[int]] = {}
    for i, (predictor, example) in enumerate(asked):
        groups.setdefault(_shape(predictor, example) or i, []).append(i)
    return list(groups.values())


def _shape(predictor: Predictor, example: Example) -> Hashable | None:
    small = example.message.numel() <= _LARGEST
    if not small or predictor.hidden or not isinstance(predictor, LinearGradient | LocalGradient):
        return None
    classes = predictor.classes if isinstance(predictor, LocalGradient) else None
    rows = example.message.shape[0]
    return type(predictor), classes, rows, predictor.size, tuple(predictor.parameters["last.weight"].shape)


def _outputs(predictors: Sequence[Predictor], examples: Sequence[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs [K, B, M + C], weights [K, O, M + C] and outputs [K, B, O]."""
    x = torch.stack([example.message for example in examples])
    contexts = [example.context for example in examples if example.context is not None]
    if contexts:
        x = torch.cat([x, torch.stack(contexts)], 2)
    weights = torch.stack([predictor.parameters["last.weight"] for predictor in predictors])
    biases = torch.stack([predictor.parameters["last.bias"] for predictor in predictors])
    return x, weights, torch.baddbmm(biases.unsqueeze(1), x, weights.transpose(1, 2))


def _errors(
    predictors: Sequence[Predictor], outputs: Tensor, examples: Sequence[Example]
) -> tuple[Tensor, Tensor]:
    """Loss per sample [K, B] and its derivative by the outputs [K, B, O]."""
    first = predictors[0]
    if not isinstance(first, LocalGradient):
        error = outputs - torch.stack([e.delta for e in examples if e.delta is not None])
        return error.square().sum(2), 2 * error
    target = torch.stack([e.target for e in examples if e.target is not None])
    if first.classes:
        logs = F.log_softmax(outputs, 2)
        losses = -logs.gather(2, target.unsqueeze(2)).squeeze(2)
        return losses, logs.exp() - F.one_hot(target, outputs.shape[2])
    error = outputs - target.reshape(outputs.shape)
    return error.square().mean(2), error * (2 / outputs.shape[2])


@torch.no_grad()
def _predict(predictors: Sequence[Predictor], examples: Sequence[Example]) -> Sequence[Tensor]:
    _, weights, outputs = _outputs(predictors, examples)
    if isinstance(predictors[0], LinearGradient):
        return outputs.unbind()
    _, error = _errors(predictors, outputs, examples)
    return torch.bmm(error, weights[:, :, : predictors[0].size]).unbind()


@torch.no_grad()
def _gradients(predictors: Sequence[Predictor], examples: Sequence[Example]) -> list[Learned]:
    x, _, outputs = _outputs(predictors, examples)
    losses, error = _errors(predictors, outputs, examples)
    if any(example.valid is not None for example in examples):
        rows = torch.ones_like(losses[0], dtype=torch.bool)
        valid = torch.stack([rows if example.valid is None else example.valid for example in examples])
        losses, error = torch.where(valid, losses, 0.0), torch.where(valid.unsqueeze(2), error, 0.0)
    error = error / x.shape[1]
    weights, biases = torch.bmm(error.transpose(1, 2), x), error.sum(1)
    totals = losses.sum(1) / x.shape[1]
    return [
        (total, [weight, bias])
        for total, weight, bias in zip(totals.unbind(), weights.unbind(), biases.unbind(), strict=True)
    ]
