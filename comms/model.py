"""Base of the predictors of gradients and of messages: layers, parameters and an optimiser.

A model is a single one, or K of one kind and shape stacked (`Model.stacked`), with parameters and running statistics
[K, …]. Stacked models share nothing, and the inputs of one do not change another. Callers pass rows: [B, …], or for stacked
models [K * B, …], where rows k B to (k + 1) B belong to model k. Inside they are [B, …] or [K, B, …] (`Model.read`), and a
mean over the batch is one mean per model, [K].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import or_
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.base.mask import ALL, Mask
from antiphon.base.tools import copy_with
from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example, Numbers
from antiphon.comms.sites import Sites
from antiphon.nets.layers import (
    initial_linear,
    initial_norm,
    layer,
    linear,
    norm_buffers,
    product,
    site_mean,
)
from antiphon.nets.modules import ModuleFunction
from antiphon.nets.trained_parameters import TrainedParameters

LossAndGradients = tuple[Tensor, Sequence[Tensor | None]]
"""A model's loss and the gradients of its parameters, None of those it does not use; for K stacked models [K] and [K, …]."""


@dataclass(slots=True)
class LinearMaps:
    """Models without hidden layers, each one linear map, with explicit gradients: nothing has a graph.

    With error e = dloss/doutput the gradient is e^T [m, c]. Examples are [B, …], or for stacked models [K, B, …].
    """

    size: int
    """M."""
    weights: Tensor
    """[O, M + C], or [K, O, M + C]."""
    biases: Tensor
    """[O], or [K, O]."""
    label: str | None
    """Target of a `LocalGradient`: `classes` or `numbers`; None: squared error of the output."""
    _addresses: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._addresses = self.weights.data_ptr(), self.biases.data_ptr()

    @staticmethod
    def of(parameters: Numbers, size: int, label: str | None = None) -> LinearMaps:
        """Return the linear maps of some parameters; other arguments are the attributes."""
        weights, biases = constant(parameters["last.weight"]), constant(parameters["last.bias"])
        return LinearMaps(size, weights, biases, label)

    def share_memory_of(self, parameters: Numbers) -> bool:
        """Whether some parameters are still where they were; either may be moved alone."""
        return self._addresses == (parameters["last.weight"].data_ptr(), parameters["last.bias"].data_ptr())

    def prediction(self, example: Example) -> Tensor:
        """Return the synthetic gradients, of the shape of the messages."""
        outputs = self.outputs(_inputs(example))
        if self.label is None:
            return outputs
        _, error = self.errors(outputs, example, 1)
        return product(error, self.weights[..., : self.size])

    def loss_and_gradients(self, examples: Sequence[Example]) -> tuple[Tensor, Sequence[Tensor]]:
        """Return the losses, summed over the examples, and the gradients of weights and biases.

        A model that is not among an example's members gets exact zeros, whatever its rows and parameters hold.
        """
        total, gradients = self._of_example(examples[0])
        for example in examples[1:]:
            loss, more = self._of_example(example)
            total = total + loss
            gradients = [g + addend for g, addend in zip(gradients, more, strict=True)]
        return total, gradients

    def _of_example(self, example: Example) -> tuple[Tensor, Sequence[Tensor]]:
        x, valid, batch = _inputs(example), example.valid, example.message.shape[-2]
        if example.member_mask is not ALL:
            rows = example.member_mask.tensor(len(x), x.device).unsqueeze(1)
            valid &= Mask.of(rows)
            absent = ~rows.unsqueeze(2)
            x = x.masked_fill(absent, 0.0) if x is example.message else x.masked_fill_(absent, 0.0)
        predicted = example.prediction if self.label is None else None
        if predicted is None:
            predicted = self.outputs(x)
        losses, error = self.errors(predicted, example, batch)
        return valid.zero_elsewhere(losses).mean(-1), self.gradients(x, valid.zero_elsewhere(error))

    def gradients(self, x: Tensor, error: Tensor) -> Sequence[Tensor]:
        """Return the gradients of weights and biases: of inputs [..., B, M + C] and the derivative by the outputs [..., B, O]."""
        return [product(error.mT, x), error.sum(-2)]

    def outputs(self, x: Tensor) -> Tensor:
        """Return the outputs of inputs [..., B, M + C]."""
        return linear(x, self.weights, self.biases)

    def errors(self, outputs: Tensor, example: Example, batch: int) -> tuple[Tensor, Tensor]:
        """Return the loss per sample [..., B] and its derivative over `batch` by the outputs [..., B, O], which it may overwrite."""
        if self.label is None:
            assert example.returned is not None
            is_prediction = outputs is example.prediction
            error = outputs - example.returned if is_prediction else outputs.sub_(example.returned)
            return error.square().sum(-1), error.div_(batch / 2)
        assert example.target is not None
        if self.label == "classes":
            chosen = example.target.reshape(*outputs.shape[:-1], -1, 1)
            logs = F.log_softmax(outputs.view(*chosen.shape[:-1], -1), -1)
            losses = site_mean(-logs.gather(-1, chosen).squeeze(-1), example.sites)
            # torch's one_hot reads the extremes of its argument, which would synchronise host and device
            one_hot = chosen == torch.arange(logs.shape[-1], device=outputs.device)
            error = logs.exp() - one_hot.to(outputs.dtype)
            if example.sites is not None:
                shares = _shares(example.sites.reshape(chosen.shape[:-1]), outputs.dtype)
                return losses, (error * shares.unsqueeze(-1)).flatten(-2).div_(batch)
            return losses, (error.flatten(-2) / chosen.shape[-2]).div_(batch)
        error = outputs - example.target.reshape(outputs.shape)
        losses = site_mean(error.square(), example.sites)
        if example.sites is not None:
            shares = _shares(example.sites.reshape(outputs.shape), outputs.dtype)
            return losses, (error * shares).mul_(2 / batch)
        return losses, (error * (2 / outputs.shape[-1])).div_(batch)


def _shares(sites: Tensor, dtype: torch.dtype) -> Tensor:
    """[..., S]: the share of each site in the mean over those that are present, bool [..., S]."""
    return sites.to(dtype) / sites.sum(-1, keepdim=True).clamp(min=1)


def _inputs(example: Example) -> Tensor:
    """[..., B, M + C]."""
    return example.message if example.context is None else torch.cat([example.message, example.context], -1)


class Model(TrainedParameters, ABC):
    """Hidden layers (linear map, normalisation, ReLU), then a linear layer that starts at zero.

    Args:
        generator: Samples the hidden layers' initial parameters.
        hidden: Widths of the hidden layers.
        settings: `optimiser`, `rate`, `device` and `dtype`, see `TrainedParameters`.
    """

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)
    """Linear map of every layer: a function of input, weight and bias."""
    kind: str = ""
    """Name of the kind in a scenario."""
    function: Hashable = None
    """A key of the function it computes, beside its class, sizes and settings."""
    sites: Sites | None = None
    """The tokens or pixels of a message, if it is applied at each of them; its other attributes then describe one site. None:
    it reads whole messages."""
    layers: ModuleFunction | None = None
    """A user's module in place of the layers."""
    """What a user's module keeps between calls outside its buffers."""
    maps: LinearMaps | None = None
    """Its linear maps, if it has no hidden layers; of a single model they are made as they are asked for (`written_out`)."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        generator: torch.Generator,
        hidden: tuple[int, ...] = (),
        norm: str = "batch",
        **settings: Any,
    ) -> None:
        self.hidden = hidden
        self.norm = norm
        initial = self.initial_values(inputs, outputs, generator)
        modules = {} if self.layers is None else {"": self.layers.module}
        super().__init__(*initial, modules=modules, seed=generator.initial_seed(), **settings)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        """Return the initial parameters and running statistics, by name; called at construction."""
        initial: Numbers = {}
        buffers: Numbers = {}
        for i, width in enumerate(self.hidden):
            shape = self.weight_shape(width, inputs)
            fan_in = shape[1:].numel()
            initial[f"{i}.weight"], initial[f"{i}.bias"] = initial_linear(fan_in, tuple(shape), generator)
            initial |= initial_norm(self.norm, width, f"{i}.norm.")
            buffers |= norm_buffers(self.norm, width, f"{i}.norm.")
            inputs = width
        initial["last.weight"] = torch.zeros(self.weight_shape(outputs, inputs))
        initial["last.bias"] = torch.zeros(outputs)
        return initial, buffers

    def values_of_module(self, module: nn.Module, inputs: int, outputs: int) -> tuple[Numbers, Numbers]:
        """Use a user's module as the layers, and return `initial_values`."""
        self.layers = ModuleFunction(module, inputs, outputs)
        self.function = self.layers.key
        return self.layers.initial_values()

    def weight_shape(self, outputs: int, inputs: int) -> torch.Size:
        return torch.Size((outputs, inputs))

    def run(self, x: Tensor, *, move: bool, training: bool = True) -> Tensor:
        """Return the layers' output for `x`, [B, …] or stacked [K, B, …].

        Args:
            training: Whether batch norm uses the statistics of the batch, or the running statistics.
        """
        return self.evaluated(self._run, x, move=move, training=training)

    def _run(self, x: Tensor, *, move: bool, training: bool) -> Tensor:
        if self.layers is not None:
            y, updated = self.layers(self.parameters, self.buffers, x, training=training)
            if move:
                self.buffers |= updated
            return y
        hidden = x
        for i in range(len(self.hidden)):
            hidden, updated = layer(
                self.apply, hidden, self.parameters, self.buffers, str(i), self.norm, training=training
            )
            if move:
                self.buffers |= updated
            hidden = torch.relu(hidden)
        last = self.last_inputs(x, hidden)
        return self.apply(last, self.parameters["last.weight"], self.parameters["last.bias"])

    def last_inputs(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return what the last layer reads, of the input and the last hidden activations."""
        return hidden

    def stacking_obstacle(self) -> str | None:
        """Return why it cannot be called with stacked parameters, in one line; None if it can."""
        return None if self.layers is None else self.layers.refusal

    # --- many as one ---------------------------------------------------------------------------------------

    @classmethod
    def stacked(cls, members: Sequence[Self]) -> Self:
        """Stack models of one kind and shape; their own parameters become views of the stack's."""
        assert len({id(member) for member in members}) == len(members), (
            "a model that is two members would be two copies, which learn apart: channels that share one are not stacked"
        )
        stack = super().stacked(members)
        return copy_with(stack, maps=stack.linear_maps())

    def by_model(self, rows: Tensor) -> Tensor:
        """Return rows [K * B, …] of stacked models as [K, B, …]; rows of a single model unchanged."""
        count = len(self.members)
        return rows.view(count, rows.shape[0] // count, *rows.shape[1:]) if count else rows

    def to_rows(self, values: Tensor) -> Tensor:
        """Undo `by_model`."""
        return values.flatten(0, 1) if self.members else values

    # --- training ------------------------------------------------------------------------------------------

    def loss(self, example: Example) -> Tensor:
        """Return the loss on one example, a mean over the batch: a scalar; for stacked models [K]."""
        return self._loss(self.read(example))

    @abstractmethod
    def _loss(self, example: Example) -> Tensor:
        """Return the loss on an example that has been `read`."""

    def linear_maps(self) -> LinearMaps | None:
        """Return the model as a linear map, or the stack of maps, which share its memory; None if autograd computes it."""
        return None

    def written_out(self) -> LinearMaps | None:
        """Return the linear maps that compute it; they are made again where a single model's parameters have moved to other memory."""
        if not self.members and (self.maps is None or not self.maps.share_memory_of(self.parameters)):
            self.maps = self.linear_maps()
        return self.maps

    def loss_and_gradients(self, examples: Sequence[Example]) -> LossAndGradients:
        """Return the loss summed over examples, and its gradients, in the order of `trainable`.

        For stacked models that are not among an example's members, the loss and the gradients are exact zeros and the running
        statistics are unchanged, whatever the rows hold.
        """
        maps, examples_read = self.written_out(), [self.read(example) for example in examples]
        if maps is None:
            return self._by_autograd(examples_read)
        return maps.loss_and_gradients([self.regression(example) for example in examples_read])

    def read(self, example: Example) -> Example:
        """Return an example as the layers read it: by site, and for stacked models by model, [K, B, …]."""
        if self.sites is not None:
            example = self.sites.example(example)
        if not self.members:
            return example
        by_model = example.mapped(self.by_model)
        if by_model.member_mask is not ALL:
            by_model.member_mask = by_model.member_mask.map(lambda mask: mask.to(by_model.message.device))
        return by_model

    def regression(self, example: Example) -> Example:
        """Return an example for linear maps: the inputs as message and context, the target of the prediction as delta."""
        return example

    def _by_autograd(self, examples: Sequence[Example]) -> LossAndGradients:
        losses = [self._training_loss(example) for example in examples]
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum(0)
        summed = total.sum() if total.dim() else total
        gradients = list(torch.autograd.grad(summed, self.trainable, allow_unused=True))
        # Parameters that are not finite give such gradients even for zeros.
        mask = reduce(or_, (example.member_mask for example in examples))
        gradients = [None if g is None else mask.zero_elsewhere(g) for g in gradients]
        return constant(total), gradients

    def _training_loss(self, example: Example) -> Tensor:
        """Loss on one example; running statistics are updated, of stacked models those that it is for."""
        if example.member_mask is ALL:
            return self._loss(example)
        before = dict(self.buffers)
        loss = self._loss(example.for_members())
        self.buffers |= {
            name: example.member_mask.where(updated, before[name]) for name, updated in self.buffers.items()
        }
        return loss
