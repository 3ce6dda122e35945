"""Many predictors of one shape computed as one, with the same results: stacked for one call, or permanently
(`StackedModels`).

A predictor without hidden layers is one linear map, whose gradient is written out here for all kinds: with error
e = dloss/doutput, it is e^T [m, c]. Nothing is shared between predictors: each has its own parameters, statistics and
means; the inputs of one change no bit of another. Rows are flat, (model, sample): rows k B to (k + 1) B belong to
model k.
Shapes: K models, B batch, M message components, C context features, O outputs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.model import Model, Numbers
from antiphon.comms.sites import SiteGradient, SiteInput, Sites
from antiphon.comms.synthetic_gradients import (
    Example,
    LinearGradient,
    LocalGradient,
    Predictor,
    ReturnedAction,
)
from antiphon.comms.synthetic_inputs import InputModel, LinearInput, MlpInput
from antiphon.nets.layers import stacked_product
from antiphon.nets.trained_parameters import TrainedParameters

__all__ = ["LinearMaps", "StackedModels", "gradients_all", "predict_all"]

LossAndGradients = tuple[Tensor, Sequence[Tensor]]
"""A predictor's loss and the gradients of its parameters; of K stacked ones [K] and [K, …]."""

_LARGEST = 1 << 14
"""Largest input, in elements, that is stacked: copying larger ones costs more than it saves."""


def predict_all(requests: Sequence[tuple[Predictor, Example]], *, learn: bool = False) -> list[Tensor]:
    """Return each predictor's synthetic gradient per sample, [B, M], in order; no graph is kept.

    Args:
        requests: The predictors, each with an example.
        learn: Whether training on the same examples follows: where it takes no second evaluation, they get `learned`.
    """
    found: list[Tensor | None] = [None] * len(requests)
    for group, stackable in _groups(requests):
        predictor, example = requests[group[0]]
        if stackable:
            stacked = _predict([requests[i][0] for i in group], [requests[i][1] for i in group])
            for i, prediction in zip(group, stacked, strict=True):
                found[i] = prediction
        elif learn and isinstance(predictor, Predictor) and predictor.learns_with(example):
            found[group[0]], example.learned = predictor.predict_and_learn(example)
        else:
            found[group[0]] = constant(predictor.predict(example))
    return [prediction for prediction in found if prediction is not None]


def gradients_all(requests: Sequence[tuple[Predictor, Sequence[Example]]]) -> list[LossAndGradients]:
    """Return each predictor's loss, summed over its examples, and its gradients, in order."""
    found: list[LossAndGradients | None] = [None] * len(requests)
    single = [i for i, (_, examples) in enumerate(requests) if len(examples) == 1]
    for group, stackable in _groups([(requests[i][0], requests[i][1][0]) for i in single]):
        members = [single[g] for g in group]
        if stackable:
            learned = _gradients([requests[i][0] for i in members], [requests[i][1][0] for i in members])
            for i, result in zip(members, learned, strict=True):
                found[i] = result
    return [
        predictor.gradients(examples) if result is None else result
        for (predictor, examples), result in zip(requests, found, strict=True)
    ]


def _groups(requests: Sequence[tuple[Predictor, Example]]) -> list[tuple[list[int], bool]]:
    """Positions grouped by shape, and whether these can be stacked; a predictor that cannot has a group of its own.

    One that can is computed as a stack of one where it is the only one, to the bits that it has beside others.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, (predictor, example) in enumerate(requests):
        groups.setdefault(_shape(predictor, example) or i, []).append(i)
    return [(group, not isinstance(shape, int)) for shape, group in groups.items()]


def _shape(predictor: Predictor, example: Example) -> Hashable | None:
    if example.message.numel() > _LARGEST or not isinstance(predictor, LinearGradient | LocalGradient):
        return None
    if not _is_linear_map(predictor):
        return None
    target = predictor.target if isinstance(predictor, LocalGradient) else None
    rows = example.message.shape[0]
    kind = None if target is None else (target.shape, target.classes)
    return type(predictor), kind, rows, predictor.size, tuple(predictor.parameters["last.weight"].shape)


def _is_linear_map(model: Model) -> bool:
    """Whether all that a model computes is one linear map, whose gradient `LinearMaps` has."""
    if isinstance(model, LocalGradient):
        return model.linear_map
    if isinstance(model, LinearGradient):
        return model.normalise == "none"
    return isinstance(model, LinearInput | MlpInput) and not model.hidden


@torch.no_grad()
def _predict(predictors: Sequence[Predictor], examples: Sequence[Example]) -> Sequence[Tensor]:
    example = _batched(predictors[0], examples, returned=False)
    return _maps(predictors).prediction(example).unbind()


@torch.no_grad()
def _gradients(predictors: Sequence[Predictor], examples: Sequence[Example]) -> list[LossAndGradients]:
    example = _batched(predictors[0], examples, returned=True)
    totals, (weights, biases) = _maps(predictors, known=example.prediction is not None).gradients(example)
    return [
        (total, [weight, bias])
        for total, weight, bias in zip(totals.unbind(), weights.unbind(), biases.unbind(), strict=True)
    ]


def _maps(predictors: Sequence[Predictor], *, known: bool = False) -> LinearMaps:
    """Stack linear maps; where their outputs are `known`, no parameter is read, and the first's stand for all."""
    weights, biases = (
        (first.unsqueeze(0) if known else torch.stack([one.parameters[name] for one in predictors]))
        for name in ("last.weight", "last.bias")
        for first in [predictors[0].parameters[name]]
    )
    return LinearMaps.of(predictors[0], weights, biases)


def _batched(first: Predictor, examples: Sequence[Example], *, returned: bool) -> Example:
    """Stack one example of each predictor, [K, B, …], with the fields that predictors like `first` read."""
    own = isinstance(first, LocalGradient)
    batched = Example(
        torch.stack([example.message for example in examples]),
        _stack([example.context for example in examples]),
        _stack([example.delta for example in examples]) if returned and not own else None,
        target=_stack([example.target for example in examples]) if own else None,
    )
    if returned and not own and all(example.prediction is not None for example in examples):
        batched.prediction = _stack([example.prediction for example in examples])
    if returned and any(example.valid is not None for example in examples):
        rows = torch.ones(batched.message.shape[1], dtype=torch.bool, device=batched.message.device)
        batched.valid = torch.stack(
            [rows if example.valid is None else example.valid for example in examples]
        )
    return batched


def _stack(values: Sequence[Tensor | None]) -> Tensor | None:
    known = [value for value in values if value is not None]
    if known and all(value is known[0] for value in known):  # as a context of the same signals is
        return known[0].expand(len(known), *known[0].shape)
    return torch.stack(known) if known else None


@dataclass(slots=True)
class LinearMaps:
    """K models of one shape without hidden layers, with their gradients written out; to be called without autograd.

    Examples are [K, B, …].
    """

    size: int
    """M."""
    weights: Tensor
    """[K, O, M + C]."""
    biases: Tensor
    """[K, O]."""
    reuses: bool
    """Whether the output is the prediction, so that an example's can be used again: of `LinearGradient`."""
    label: str | None
    """Of a `LocalGradient`, whose loss is on a target: `classes` or `numbers`; None: squared error of the output."""

    @staticmethod
    def of(model: Model, weights: Tensor, biases: Tensor) -> LinearMaps:
        """Return the maps of models like this one."""
        label = None
        if isinstance(model, LocalGradient):
            label = "classes" if model.classes else "numbers"
        assert isinstance(model, Predictor | InputModel)
        return LinearMaps(model.size, weights, biases, isinstance(model, LinearGradient), label)

    def prediction(self, example: Example) -> Tensor:
        """Return the synthetic gradients, [K, B, M]."""
        outputs = self._outputs(_inputs(example))
        if self.label is None:
            return outputs
        _, error = self._errors(outputs, example, 1)
        return stacked_product(error, self.weights[:, :, : self.size])

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
        predicted = example.prediction if self.reuses else None  # no statistics change without hidden layers
        if predicted is None:
            predicted = self._outputs(x)
        losses, error = self._errors(predicted, example, x.shape[1])
        if valid is not None:
            losses, error = torch.where(valid, losses, 0.0), error.masked_fill_(~valid.unsqueeze(2), 0.0)
        return losses.sum(1) / x.shape[1], self._gradients(x, error)

    def _gradients(self, x: Tensor, error: Tensor) -> Sequence[Tensor]:
        """Those of weights and biases: of inputs [K, B, M + C] and the derivative by the outputs [K, B, O]."""
        return [stacked_product(error.transpose(1, 2), x), error.sum(1)]

    def _outputs(self, x: Tensor) -> Tensor:
        return stacked_product(x, self.weights.transpose(1, 2), self.biases.unsqueeze(1))

    def _errors(self, outputs: Tensor, example: Example, batch: int) -> tuple[Tensor, Tensor]:
        """Loss per sample [K, B] and its derivative over `batch` by the outputs [K, B, O], which it may overwrite."""
        if self.label is None:
            assert example.delta is not None
            kept = outputs is example.prediction
            error = outputs - example.delta if kept else outputs.sub_(example.delta)
            return error.square().sum(2), error.mul_(2).div_(batch)
        assert example.target is not None
        if self.label == "classes":
            chosen = example.target.reshape(*outputs.shape[:2], -1, 1)
            logs = F.log_softmax(outputs.view(*chosen.shape[:3], -1), 3)
            losses = -logs.gather(3, chosen).squeeze(3).mean(2)
            # torch's one_hot reads the extremes of its argument, which would synchronise host and device
            one_hot = chosen == torch.arange(logs.shape[3], device=outputs.device)
            error = (logs.exp() - one_hot.to(outputs.dtype)).flatten(2)
            return losses, (error / chosen.shape[2]).div_(batch)
        error = outputs - example.target.reshape(outputs.shape)
        return error.square().mean(2), (error * (2 / outputs.shape[2])).div_(batch)


def _inputs(example: Example) -> Tensor:
    """[K, B, M + C]."""
    return example.message if example.context is None else torch.cat([example.message, example.context], 2)


class StackedModels(TrainedParameters):
    """Predictors, or synthetic inputs, of K channels as one; interface of one channel's. Examples have K B rows for B.

    Args:
        members: Of one kind and shape.
        batch: B.

    Attributes:
        model: One whose parameters and running statistics are stacked [K, …].
        maps: For models without hidden layers; its tensors share the memory of the parameters.
    """

    def __init__(self, members: Sequence[Model], batch: int) -> None:
        first = members[0]
        self.batch = batch
        self.sites: Sites | None = None
        if isinstance(first, SiteGradient | SiteInput):
            self.sites = first.sites
            first = first.at_site
        self.model = copy.copy(first)
        del self.model.optimiser, self.model.updates  # of the first alone
        self._stack(members)
        self.model.parameters, self.model.trainable = self.parameters, self.trainable
        self.hidden = first.hidden
        self.needs_delta: bool = getattr(first, "needs_delta", True)
        self.needs_loss: bool = getattr(first, "needs_loss", False)
        self.needs_actions: bool = getattr(first, "needs_actions", False)
        self.maps: LinearMaps | None = None
        if _is_linear_map(first):
            weights, biases = (constant(self.parameters[name]) for name in ("last.weight", "last.bias"))
            self.maps = LinearMaps.of(first, weights, biases)

    @property
    def buffers(self) -> Numbers:
        """Running statistics, [K, …], by name."""
        return self.model.buffers

    @buffers.setter
    def buffers(self, buffers: Numbers) -> None:
        self.model.buffers = buffers

    def predict(
        self, conditioning: Example | Tensor | None, rows: int = 0, *, training: bool = True
    ) -> Tensor:
        """Return the synthetic gradients of an example, or the synthetic inputs for a context, [K * B, M].

        Args:
            conditioning: The example, or the context [K * B, C] or [K, B, C] (a view that all models share); None for
                synthetic inputs without one.
            rows: Unused: B is known.
            training: Whether the batch norm of synthetic inputs uses the statistics of these rows.
        """
        with torch.no_grad():
            if isinstance(conditioning, Example):
                each = self._each(conditioning)
                found = self._predictor.predict(each) if self.maps is None else self.maps.prediction(each)
                found = found if self.sites is None else self.sites.gradient(found)
            else:
                count = self.batch if self.sites is None else self.batch * self.sites.count
                found = self._input.predict(self._context(conditioning), count, training=training)
                found = found if self.sites is None else self.sites.close(found)
        return found.flatten(0, 1)

    def value(self, example: Example) -> Tensor:
        """Return the losses that critics predict for the messages, [K * B]."""
        value = self._predictor.value(self._each(example))
        return (value if self.sites is None else self.sites.value(value)).flatten()

    def propagated(self, example: Example) -> Tensor:
        """Return B times the gradients of the members' own losses by the messages, [K * B, M]."""
        found = self._predictor.propagated(self._each(example))
        return (found if self.sites is None else self.sites.gradient(found)).flatten(0, 1)

    def gradients(
        self, examples: Sequence[Example], members: Sequence[Tensor | None] | None = None
    ) -> LossAndGradients:
        """Return each one's loss summed over its examples, [K], and the gradients, [K, …], in the order of `parameters`.

        Args:
            examples: Messages completed at this step.
            members: Per example, the models it is for, [K] bool, None for all; default: the examples' `members`.
                For the others, whatever its rows hold, the loss and the gradients are exact zeros and the
                running statistics are unchanged.
        """
        each = [self._each(example) for example in examples]
        given = [example.members for example in examples] if members is None else members
        return self._learned(self._predictor.loss if self.maps is None else None, each, given)

    def input_gradients(
        self,
        examples: Sequence[tuple[Tensor | None, Tensor, Tensor | None]],
        members: Sequence[Tensor | None] | None = None,
    ) -> LossAndGradients:
        """Return the losses of synthetic inputs and their gradients, as `gradients` does.

        Args:
            examples: Context [K * B, C] or [K, B, C] or None, the messages as they were received [K * B, M], and where
                they arrived: [K * B] bool, None for everywhere.
            members: As of `gradients`; None: all of all examples.
        """
        each = []  # the context takes the place of the message, the message that of the gradient
        for context, message, arrived in examples:
            if self.sites is not None:
                message, arrived = self.sites.open(message), self.sites.repeated(arrived)
            received = self._open(message)
            features = self._context(context)
            inputs = received.new_zeros(*received.shape[:2], 0) if features is None else features
            each.append(
                Example(inputs, None, received, valid=None if arrived is None else self._open(arrived))
            )
        given = [None] * len(examples) if members is None else members
        return self._learned(self._input_loss if self.maps is None else None, each, given)

    def _input_loss(self, example: Example) -> Tensor:
        assert example.delta is not None
        return self._input.loss(example.message, example.delta, example.valid)

    @property
    def _predictor(self) -> Predictor:
        assert isinstance(self.model, Predictor)
        return self.model

    @property
    def _input(self) -> InputModel:
        assert isinstance(self.model, InputModel)
        return self.model

    def _open(self, flat: Tensor) -> Tensor:
        """Return rows [K * B, …] as [K, B, …]."""
        count = len(self.members)
        return flat.view(count, len(flat) // count, *flat.shape[1:])

    def _context(self, context: Tensor | None) -> Tensor | None:
        """Context with a leading model axis, [K, B, C]."""
        features = context if self.sites is None else self.sites.context_rows(context)
        return features if features is None or features.dim() == 3 else self._open(features)

    def _each(self, example: Example) -> Example:
        """Example with a leading model axis, [K, B, …]."""
        example = example if self.sites is None else self.sites.example(example)
        lead = len(self.members), len(example.message) // len(self.members)
        context, delta, prediction = example.context, example.delta, example.prediction
        return Example(
            example.message.view(*lead, -1),
            context if context is None or context.dim() == 3 else context.view(*lead, -1),
            None if delta is None else delta.view(*lead, -1),
            valid=None if example.valid is None else example.valid.view(lead),
            target=None if example.target is None else self._open(example.target),
            prediction=None if prediction is None else prediction.view(*lead, -1),
            loss=None if example.loss is None else example.loss.view(lead),
            actions=None if example.actions is None else _each_action(example.actions, self._open),
        )

    def _learned(
        self,
        loss: Callable[[Example], Tensor] | None,
        examples: Sequence[Example],
        members: Sequence[Tensor | None],
    ) -> LossAndGradients:
        """Losses and gradients, of `maps` where there is no `loss` for autograd."""
        masks = [
            None if mask is None else mask.to(example.message.device)
            for mask, example in zip(members, examples, strict=True)
        ]
        return self._by_hand(examples, masks) if loss is None else self._by_autograd(loss, examples, masks)

    @torch.no_grad()
    def _by_hand(self, examples: Sequence[Example], members: Sequence[Tensor | None]) -> LossAndGradients:
        assert self.maps is not None
        found = [self.maps.gradients(example, mask) for example, mask in zip(examples, members, strict=True)]
        total, gradients = found[0]
        for more, others in found[1:]:
            total = total + more
            gradients = [g + other for g, other in zip(gradients, others, strict=True)]
        return total, gradients

    def _by_autograd(
        self, loss: Callable[[Example], Tensor], examples: Sequence[Example], members: Sequence[Tensor | None]
    ) -> LossAndGradients:
        found = []
        for example, mask in zip(examples, members, strict=True):
            before = dict(self.buffers)
            found.append(loss(_masked(example, mask)))
            if mask is not None:
                self.buffers = {
                    name: torch.where(mask.unsqueeze(1), updated, before[name])
                    for name, updated in self.buffers.items()
                }
        total, gradients = self.model.learned(found)
        masks = [mask for mask in members if mask is not None]
        if len(masks) == len(members):  # parameters that are not finite give such gradients even for zeros
            anything = torch.stack(masks).any(0)
            gradients = [torch.where(_over(anything, g), g, 0.0) for g in gradients]
        return total, gradients


def _masked(example: Example, members: Tensor | None) -> Example:
    """Return `example` [K, B, …] with no valid row and plain zeros for the models that are not `members`.

    The zeros matter to backward: a mask's zero times a value that is not finite is NaN.
    """
    if members is None:
        return example

    def plain(value: Tensor) -> Tensor:
        return torch.where(_over(members, value), value, 0)

    rows = members.unsqueeze(1)
    return replace(
        example,
        message=plain(example.message),
        context=None if example.context is None else plain(example.context),
        target=None if example.target is None else plain(example.target),
        actions=None if example.actions is None else _each_action(example.actions, plain),
        valid=rows.expand(example.message.shape[:2]) if example.valid is None else rows & example.valid,
    )


def _over(members: Tensor, value: Tensor) -> Tensor:
    """Return [K] as [K, 1, …], of as many dimensions as `value`."""
    return members.view(-1, *[1] * (value.dim() - 1))


def _each_action(
    actions: Sequence[ReturnedAction], change: Callable[[Tensor], Tensor]
) -> tuple[ReturnedAction, ...]:
    """Return actions and their advantages, each changed."""
    return tuple(
        ReturnedAction(change(one.action), change(one.advantage), change(one.valid)) for one in actions
    )
