"""Stacked predictors: many models of one shape computed as one, with parameters stacked permanently.

The rows of a bundle are flat, (model, sample): rows k B to (k + 1) B belong to model k. Nothing is shared between its
models: each has its own parameters, statistics and means; the inputs of one change no bit of another.
Shapes: K models, B batch, M message components, C context features.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Generic, TypeVar, overload

import torch
from torch import Tensor

from antiphon.comms.cut import constant
from antiphon.comms.direct import LinearGradient
from antiphon.comms.gradient import Example, Predictor
from antiphon.comms.inputs import InputModel
from antiphon.comms.labels import LocalGradient
from antiphon.comms.model import Model, Numbers
from antiphon.comms.outliers import BundledOutliers
from antiphon.comms.stacked import LinearMaps
from antiphon.errors import EngineError
from antiphon.nets.memory import give_back
from antiphon.nets.stacked_optimiser import StackedOptimiser

__all__ = ["Bundled", "BundledInputs", "BundledOutliers", "BundledPredictors", "StackedModels"]

M = TypeVar("M", bound=Model)

LossAndGradients = tuple[Tensor, list[Tensor]]
"""Losses [K], and the gradients of the stacked parameters."""


class Bundled(Generic[M]):
    """K models of one kind and shape as one; the models' own parameters become views of the stacked ones.

    Running statistics are values: the bundle has its own, [K, …], until `split_buffers`. The models keep their
    optimisers and their counts of updates.

    Args:
        models: The models.

    Attributes:
        models: The models, in order.
        model: One whose parameters and running statistics are stacked [K, …].

    Raises:
        EngineError: The models are not of one kind and shape.
    """

    def __init__(self, models: Sequence[M]) -> None:
        first = models[0]
        if len({_shape(model) for model in models}) > 1:
            raise EngineError("models of different kinds or shapes cannot be one bundle")
        self.models = list(models)
        self.model = copy.copy(first)
        del self.model.optimiser, self.model.updates  # of the first alone
        self.model.parameters = {}
        for name, own in first.parameters.items():
            stack = torch.stack([constant(model.parameters[name]) for model in models])
            for model, part in zip(models, stack.unbind(), strict=True):
                model.parameters[name].data = part
            self.model.parameters[name] = stack.requires_grad_(own.requires_grad)
        self.model.trainable = list(self.model.parameters.values())
        self.refresh()

    @overload
    @staticmethod
    def of(models: Sequence[Predictor]) -> BundledPredictors: ...
    @overload
    @staticmethod
    def of(models: Sequence[InputModel]) -> BundledInputs: ...
    @staticmethod
    def of(models: Sequence[Predictor] | Sequence[InputModel]) -> BundledPredictors | BundledInputs:
        """Stack synthetic gradients, or synthetic inputs."""
        predictors = [model for model in models if isinstance(model, Predictor)]
        if predictors:
            return BundledPredictors(predictors)
        return BundledInputs([model for model in models if isinstance(model, InputModel)])

    @property
    def parameters(self) -> Numbers:
        """Stacked parameters, [K, …], by name; to be changed in place only."""
        return self.model.parameters

    @property
    def buffers(self) -> Numbers:
        """Stacked running statistics, [K, …], by name."""
        return self.model.buffers

    @buffers.setter
    def buffers(self, buffers: Numbers) -> None:
        self.model.buffers = buffers

    def refresh(self) -> None:
        """Stack the models' own running statistics again, after they were changed outside."""
        first = self.models[0].buffers
        self.model.buffers = {
            name: torch.stack([model.buffers[name] for model in self.models]) for name in first
        }

    def split_buffers(self) -> None:
        """Write the running statistics to the models."""
        for k, model in enumerate(self.models):
            model.buffers = {name: stack[k] for name, stack in self.model.buffers.items()}

    def _opened(self, flat: Tensor) -> Tensor:
        """Return rows [K B, …] as [K, B, …]."""
        count = len(self.models)
        return flat.view(count, flat.shape[0] // count, *flat.shape[1:])

    def _maps(self) -> LinearMaps:
        """Stacked linear maps with explicit gradients, for models without hidden layers."""
        weights, biases = (constant(self.parameters[name]) for name in ("last.weight", "last.bias"))
        return LinearMaps(self.model, weights, biases)

    @torch.no_grad()
    def _by_hand(self, examples: Sequence[Example], members: Sequence[Tensor | None]) -> LossAndGradients:
        maps = self._maps()
        found = [maps.gradients(example, mask) for example, mask in zip(examples, members, strict=True)]
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
            before = dict(self.model.buffers)
            found.append(loss(_masked(example, mask)))
            if mask is not None:
                self.model.buffers = {
                    name: torch.where(mask.unsqueeze(1), updated, before[name])
                    for name, updated in self.model.buffers.items()
                }
        total, gradients = self.model.learned(found)
        masks = [mask for mask in members if mask is not None]
        if len(masks) == len(members):  # parameters that are not finite give such gradients even for zeros
            anything = torch.stack(masks).any(0)
            gradients = [torch.where(_over(anything, g), g, 0.0) for g in gradients]
        return total, gradients


class BundledPredictors(Bundled[Predictor]):
    """K synthetic gradients as one; examples have K B rows for B.

    A context may also be [K, B, C], a view of one that all models share.
    """

    def predict(self, example: Example) -> Tensor:
        """Return the synthetic gradient per sample, [K B, M], without a graph."""
        each = self._each(example)
        with torch.no_grad():
            predicted = self._maps().prediction(each) if self._linear else self.model.predict(each)
        return predicted.flatten(0, 1)

    def value(self, example: Example) -> Tensor:
        """Return the losses that critics predict for the messages, [K B]."""
        return self.model.value(self._each(example)).flatten()

    def propagated(self, example: Example) -> Tensor:
        """Return B times the gradient of each one's own loss by its messages, [K B, M]."""
        return self.model.propagated(self._each(example)).flatten(0, 1)

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
        given = [example.members for example in examples] if members is None else members
        masks = [_on(mask, e.message) for mask, e in zip(given, examples, strict=True)]
        each = [self._each(example) for example in examples]
        return self._by_hand(each, masks) if self._linear else self._by_autograd(self.model.loss, each, masks)

    @property
    def _linear(self) -> bool:
        return isinstance(self.model, LinearGradient | LocalGradient) and not self.model.hidden

    def _each(self, example: Example) -> Example:
        """Example with a leading model axis, [K, B, …]."""
        context = example.context
        return Example(
            self._opened(example.message),
            context if context is None or context.dim() == 3 else self._opened(context),
            None if example.delta is None else self._opened(example.delta),
            valid=None if example.valid is None else self._opened(example.valid),
            target=None if example.target is None else self._opened(example.target),
            prediction=None if example.prediction is None else self._opened(example.prediction),
            loss=None if example.loss is None else self._opened(example.loss),
        )


class BundledInputs(Bundled[InputModel]):
    """K synthetic inputs as one."""

    def predict(self, context: Tensor | None, rows: int, *, training: bool = True) -> Tensor:
        """Return the predicted messages, [K B, M], without a graph.

        Args:
            context: [K B, C] or [K, B, C]; None for models without context.
            rows: B.
            training: Whether batch norm uses the statistics of these rows, or the running ones.
        """
        return self.model.predict(self._context(context), rows, training=training).flatten(0, 1)

    def gradients(
        self,
        examples: Sequence[tuple[Tensor | None, Tensor, Tensor | None]],
        members: Sequence[Tensor | None] | None = None,
    ) -> LossAndGradients:
        """Return each one's loss summed over its examples, [K], and the gradients, [K, …], in the order of `parameters`.

        Args:
            examples: Context [K B, C] or [K, B, C] or None, the messages as they were received [K B, M], and where
                they arrived: [K B] bool, None for everywhere.
            members: As of `BundledPredictors.gradients`; None: all of all examples.
        """
        given = [None] * len(examples) if members is None else members
        masks = [_on(mask, message) for mask, (_, message, _) in zip(given, examples, strict=True)]
        each = []  # the context takes the place of the message, the message that of the gradient
        for context, message, arrived in examples:
            received = self._opened(message)
            features = self._context(context)
            inputs = received.new_zeros(*received.shape[:2], 0) if features is None else features
            valid = None if arrived is None else self._opened(arrived)
            each.append(Example(inputs, None, received, valid=valid))
        return self._by_autograd(self._loss, each, masks) if self.model.hidden else self._by_hand(each, masks)

    def _loss(self, example: Example) -> Tensor:
        assert example.delta is not None
        return self.model.loss(example.message, example.delta, example.valid)

    def _context(self, context: Tensor | None) -> Tensor | None:
        return context if context is None or context.dim() == 3 else self._opened(context)


class StackedModels:
    """Predictors of a stack of K channels with their optimiser; interface of one channel's predictor.

    Args:
        members: Of one kind; their parameters become views of the stacked ones.
        batch: B.

    Attributes:
        bundled: The models as one.
        updates: Optimiser steps taken by any of them.
    """

    def __init__(self, members: Sequence[Model], batch: int) -> None:
        self.bundled: BundledPredictors | BundledInputs = Bundled.of(members)  # type: ignore[arg-type]
        self.batch = batch
        self.rate = members[0].rate
        self.hidden = members[0].hidden
        self.needs_delta = getattr(members[0], "needs_delta", True)
        self.needs_loss = getattr(members[0], "needs_loss", False)
        give_back(sum(p.numel() * p.element_size() for p in self.bundled.parameters.values()))
        self.optimiser = StackedOptimiser.from_members(
            [model.optimiser for model in members], list(self.bundled.parameters.values())
        )
        self.updates = 0
        self.taken = torch.zeros(len(members), dtype=torch.int64)
        """[K]: optimiser steps taken since the members' own counts were written."""

    @property
    def buffers(self) -> Numbers:
        """Running statistics, [K, …]."""
        return self.bundled.buffers

    @buffers.setter
    def buffers(self, buffers: Numbers) -> None:
        self.bundled.buffers = buffers

    def read_members(self) -> None:
        """Stack the running statistics and counts of the members again, after a state was loaded into them."""
        self.bundled.refresh()
        self.optimiser.refresh()
        self.taken.zero_()

    def write_members(self) -> None:
        """Write running statistics and counts of updates to the members; their parameters are views."""
        self.bundled.split_buffers()
        for model, taken in zip(self.bundled.models, self.taken.tolist(), strict=True):
            model.updates += taken
        self.taken.zero_()

    def restore_buffers(self, members: Tensor, buffers: Numbers) -> None:
        """Set the running statistics of `members`, [K] bool, back to `buffers`."""
        self.buffers = {
            name: torch.where(_over(members, stack), buffers[name], stack)
            for name, stack in self.buffers.items()
        }

    def step(
        self, gradients: Sequence[Tensor], now: int, members: Tensor | None, *, skip: Tensor | None = None
    ) -> None:
        """Take one optimiser step of `members` (None: all); none where `skip`, [] on the device, is not 0."""
        self.optimiser.step(gradients, self.rate(now), members, skip=skip)
        self.updates += 1
        self.taken += 1 if members is None else members.long()

    def predict(
        self, conditioning: Example | Tensor | None, rows: int = 0, *, training: bool = True
    ) -> Tensor:
        """Return the synthetic gradients of an example, or the synthetic inputs for a context, [K * B, M]."""
        if isinstance(self.bundled, BundledInputs):
            assert not isinstance(conditioning, Example)
            return self.bundled.predict(conditioning, self.batch, training=training)
        assert isinstance(conditioning, Example)
        return self.bundled.predict(conditioning)

    def value(self, example: Example) -> Tensor:
        """Return the values that critics predict, [K * B]."""
        return self._predictors.value(example)

    def propagated(self, example: Example) -> Tensor:
        """Return the gradients of the members' own losses by the message, [K * B, M]."""
        return self._predictors.propagated(example)

    def gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Return the losses of synthetic gradients, [K], summed over the examples, and the gradients, [K, …]."""
        return self._predictors.gradients(examples)

    def input_gradients(
        self,
        examples: Sequence[tuple[Tensor | None, Tensor, Tensor | None]],
        members: Sequence[Tensor | None],
    ) -> LossAndGradients:
        """Return the losses of synthetic inputs, [K], and their gradients, [K, …]."""
        assert isinstance(self.bundled, BundledInputs)
        return self.bundled.gradients(examples, members)

    @property
    def _predictors(self) -> BundledPredictors:
        assert isinstance(self.bundled, BundledPredictors)
        return self.bundled


def _shape(model: Model) -> tuple[object, ...]:
    """Kind and shapes, equal for models that can be stacked."""
    parameters = [(name, tuple(p.shape), p.dtype, p.device) for name, p in model.parameters.items()]
    settings = [getattr(model, name, None) for name in ("shape", "size", "context", "target", "filter")]
    return type(model), model.hidden, model.norm, *settings, *parameters


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
        valid=rows.expand(example.message.shape[:2]) if example.valid is None else rows & example.valid,
    )


def _on(members: Tensor | None, like: Tensor) -> Tensor | None:
    return None if members is None else members.to(like.device)


def _over(members: Tensor, value: Tensor) -> Tensor:
    """Return [K] as [K, 1, …], of as many dimensions as `value`."""
    return members.view(-1, *[1] * (value.dim() - 1))
