"""Many small predictors of one shape as one: the same results, stacked for the length of a call.

A predictor without hidden layers is one linear map, whose gradient is written out here for all kinds: with error
e = dloss/doutput, it is e^T [m, c]. Predictors of one kind and shape are computed as one batched product. Each keeps
its own parameters; nothing is shared between them (what stays stacked from call to call is `Bundled`).
Shapes: K predictors, B batch, M message, C context, O outputs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.direct import LinearGradient
from antiphon.comms.gradient import Example, Predictor
from antiphon.comms.labels import LocalGradient
from antiphon.comms.model import Model

__all__ = ["LinearMaps", "gradients_all", "predict_all"]

LossAndGradients = tuple[Tensor, list[Tensor]]
"""A predictor's loss and the gradients of its parameters."""

_LARGEST = 1 << 14
"""Largest input, in elements, that is stacked: copying larger ones costs more than it saves."""


def predict_all(requests: Sequence[tuple[Predictor, Example]]) -> list[Tensor]:
    """Return each predictor's synthetic gradient per sample, [B, M], in order."""
    found: list[Tensor | None] = [None] * len(requests)
    for group in _groups(requests):
        if len(group) == 1:
            predictor, example = requests[group[0]]
            found[group[0]] = predictor.predict(example)
        else:
            stacked = _predict([requests[i][0] for i in group], [requests[i][1] for i in group])
            for i, prediction in zip(group, stacked, strict=True):
                found[i] = prediction
    return [prediction for prediction in found if prediction is not None]


def gradients_all(requests: Sequence[tuple[Predictor, Sequence[Example]]]) -> list[LossAndGradients]:
    """Return each predictor's loss, summed over its examples, and its gradients, in order."""
    found: list[LossAndGradients | None] = [None] * len(requests)
    single = [i for i, (_, examples) in enumerate(requests) if len(examples) == 1]
    for group in _groups([(requests[i][0], requests[i][1][0]) for i in single]):
        members = [single[g] for g in group]
        if len(members) > 1:
            learned = _gradients([requests[i][0] for i in members], [requests[i][1][0] for i in members])
            for i, result in zip(members, learned, strict=True):
                found[i] = result
    return [
        predictor.gradients(examples) if result is None else result
        for (predictor, examples), result in zip(requests, found, strict=True)
    ]


def _groups(requests: Sequence[tuple[Predictor, Example]]) -> list[list[int]]:
    """Positions grouped by shape; a predictor that cannot be stacked has a group of its own."""
    groups: dict[Hashable, list[int]] = {}
    for i, (predictor, example) in enumerate(requests):
        groups.setdefault(_shape(predictor, example) or i, []).append(i)
    return list(groups.values())


def _shape(predictor: Predictor, example: Example) -> Hashable | None:
    small = example.message.numel() <= _LARGEST
    if not small or predictor.hidden or not isinstance(predictor, LinearGradient | LocalGradient):
        return None
    classes = predictor.classes if isinstance(predictor, LocalGradient) else None
    rows = example.message.shape[0]
    return type(predictor), classes, rows, predictor.size, tuple(predictor.parameters["last.weight"].shape)


@torch.no_grad()
def _predict(predictors: Sequence[Predictor], examples: Sequence[Example]) -> Sequence[Tensor]:
    example = _batched(predictors[0], examples, returned=False)
    return _maps(predictors).prediction(example).unbind()


@torch.no_grad()
def _gradients(predictors: Sequence[Predictor], examples: Sequence[Example]) -> list[LossAndGradients]:
    example = _batched(predictors[0], examples, returned=True)
    totals, (weights, biases) = _maps(predictors).gradients(example)
    return [
        (total, [weight, bias])
        for total, weight, bias in zip(totals.unbind(), weights.unbind(), biases.unbind(), strict=True)
    ]


def _maps(predictors: Sequence[Predictor]) -> LinearMaps:
    weights = torch.stack([predictor.parameters["last.weight"] for predictor in predictors])
    biases = torch.stack([predictor.parameters["last.bias"] for predictor in predictors])
    return LinearMaps(predictors[0], weights, biases)


def _batched(first: Predictor, examples: Sequence[Example], *, returned: bool) -> Example:
    """Stack one example of each predictor, [K, B, …], with the fields that predictors like `first` read."""
    own = isinstance(first, LocalGradient)
    batched = Example(
        torch.stack([example.message for example in examples]),
        _stack([example.context for example in examples]),
        _stack([example.delta for example in examples]) if returned and not own else None,
        target=_stack([example.target for example in examples]) if own else None,
    )
    if returned and any(example.valid is not None for example in examples):
        rows = torch.ones(batched.message.shape[1], dtype=torch.bool, device=batched.message.device)
        batched.valid = torch.stack(
            [rows if example.valid is None else example.valid for example in examples]
        )
    return batched


def _stack(values: Sequence[Tensor | None]) -> Tensor | None:
    known = [value for value in values if value is not None]
    return torch.stack(known) if known else None


@dataclass(slots=True)
class LinearMaps:
    """K models of one shape without hidden layers, with their gradients written out; to be called without autograd.

    Examples are [K, B, …].
    """

    first: Model
    """One of the models: its kind selects the loss; squared error unless a `LocalGradient`."""
    weights: Tensor
    """[K, O, M + C]."""
    biases: Tensor
    """[K, O]."""

    def prediction(self, example: Example) -> Tensor:
        """Return the synthetic gradients, [K, B, M]."""
        outputs = self._outputs(_inputs(example))
        if not isinstance(self.first, LocalGradient):
            return outputs
        _, error = self._errors(outputs, example)
        return torch.bmm(error, self.weights[:, :, : self.first.size])

    def gradients(self, example: Example, members: Tensor | None = None) -> LossAndGradients:
        """Return the losses [K] and the gradients of weights and biases, stacked.

        Args:
            example: Of every model.
            members: The models it is for, [K] bool; None: all. Losses and gradients of the others are exact
                zeros, whatever their rows and parameters hold.
        """
        x, valid = _inputs(example), example.valid
        if members is not None:
            rows = members.unsqueeze(1)
            valid = rows if valid is None else rows & valid
            absent = ~rows.unsqueeze(2)
            x = x.masked_fill(absent, 0.0) if x is example.message else x.masked_fill_(absent, 0.0)
        predicted = example.prediction  # without hidden layers no statistics change, so it can be reused
        if predicted is None or not isinstance(self.first, LinearGradient):
            predicted = self._outputs(x)
        losses, error = self._errors(predicted, example)
        if valid is not None:
            losses, error = torch.where(valid, losses, 0.0), error.masked_fill_(~valid.unsqueeze(2), 0.0)
        error = error.div_(x.shape[1])
        return losses.sum(1) / x.shape[1], [torch.bmm(error.transpose(1, 2), x), error.sum(1)]

    def _outputs(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.biases.unsqueeze(1), x, self.weights.transpose(1, 2))

    def _errors(self, outputs: Tensor, example: Example) -> tuple[Tensor, Tensor]:
        """Loss per sample [K, B] and its derivative by the outputs [K, B, O], which it may overwrite."""
        if not isinstance(self.first, LocalGradient):
            assert example.delta is not None
            kept = outputs is example.prediction
            error = outputs - example.delta if kept else outputs.sub_(example.delta)
            return error.square().sum(2), error.mul_(2)
        assert example.target is not None
        if self.first.classes:
            logs = F.log_softmax(outputs, 2)
            chosen = example.target.unsqueeze(2)
            losses = -logs.gather(2, chosen).squeeze(2)
            # torch's one_hot reads the extremes of its argument, which would synchronise host and device
            one_hot = chosen == torch.arange(outputs.shape[2], device=outputs.device)
            return losses, logs.exp() - one_hot.to(outputs.dtype)
        error = outputs - example.target.reshape(outputs.shape)
        return error.square().mean(2), error * (2 / outputs.shape[2])


def _inputs(example: Example) -> Tensor:
    """[K, B, M + C]."""
    return example.message if example.context is None else torch.cat([example.message, example.context], 2)
