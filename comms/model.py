"""Base of the predictors of gradients and of messages: layers, parameters, an own optimiser, and the context signals
they are conditioned on, encoded as features.

All of them read rows [B, …], or, with parameters and running statistics stacked [K, …], the rows of K models of one
shape, [K, B, …] (see `StackedModels`). A mean over the batch is then one mean per model, [K].
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.nets.layers import initial_linear, initial_norm, layer, linear, norm_buffers
from antiphon.nets.trained_parameters import TrainedParameters

__all__ = ["ContextSpec", "Model", "Numbers", "encode"]


@dataclass(frozen=True, slots=True)
class ContextSpec:
    """One signal of a context."""

    name: str
    shape: tuple[int, ...]
    classes: int | None = None
    """Number of values of a categorical signal; None for floats."""

    @property
    def features(self) -> int:
        """Columns this signal takes in the encoding."""
        return int(torch.Size(self.shape).numel()) * (self.classes or 1)


def encode(specs: Sequence[ContextSpec], signals: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor | None:
    """Return the context as [B, features]: one-hot where categorical, flat where not; None without signals."""
    columns = []
    for spec in specs:
        value = signals[spec.name]
        if spec.classes is not None:
            one_hot = torch.zeros(*value.shape, spec.classes, dtype=dtype, device=value.device)
            columns.append(one_hot.scatter_(-1, value.unsqueeze(-1), 1.0).flatten(1))
        else:
            columns.append(value.to(dtype).reshape(len(value), -1))
    if not columns:
        return None
    return columns[0] if len(columns) == 1 else torch.cat(columns, 1)


Numbers = dict[str, Tensor]


class Model(TrainedParameters):
    """Hidden layers (linear map, normalisation, ReLU), then a linear layer that starts at zero.

    Args:
        inputs: Input features.
        outputs: Output features.
        generator: Samples the hidden layers' initial parameters.
        hidden: Widths of the hidden layers.
        norm: Of the hidden layers.
        residual: Whether a linear map of the input is added to the output; it starts at zero too.
        settings: `optimiser`, `rate`, `device` and `dtype`, as of `TrainedParameters`.
    """

    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor] = staticmethod(linear)
    """Map of every layer, of input, weight and bias."""
    kind: str = ""
    """Its name in a scenario."""
    function: Hashable = None
    """A key of what it computes, beside its class, sizes and settings."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        generator: torch.Generator,
        hidden: tuple[int, ...] = (),
        norm: str = "batch",
        residual: bool = False,
        **settings: Any,
    ) -> None:
        self.hidden = hidden
        self.norm = norm
        self.residual = residual and bool(hidden)
        super().__init__(*self.initial_values(inputs, outputs, generator), **settings)

    def initial_values(
        self, inputs: int, outputs: int, generator: torch.Generator
    ) -> tuple[Numbers, Numbers]:
        """Return the initial parameters and running statistics, by name; called at construction.

        Args:
            inputs: Input features.
            outputs: Output features.
            generator: Samples the parameters.
        """
        initial: Numbers = {}
        buffers: Numbers = {}
        if self.residual:
            initial["skip.weight"] = torch.zeros(self.weight_shape(outputs, inputs))
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

    def weight_shape(self, outputs: int, inputs: int) -> torch.Size:
        """Return the shape of a layer's weight."""
        return torch.Size((outputs, inputs))

    def run(self, x: Tensor, *, move: bool, training: bool = True) -> Tensor:
        """Return the layers' output for `x`, [B, …] or stacked [K, B, …].

        Args:
            move: Whether running statistics are updated.
            training: Whether batch norm uses the statistics of these rows, or the running ones.
        """
        first = x
        for i in range(len(self.hidden)):
            x, updated = layer(
                self.apply, x, self.parameters, self.buffers, str(i), self.norm, training=training
            )
            if move:
                self.buffers |= updated
            x = torch.relu(x)
        y = self.apply(x, self.parameters["last.weight"], self.parameters["last.bias"])
        return y + self.apply(first, self.parameters["skip.weight"], None) if self.residual else y

    def stackable(self) -> str | None:
        """Return why it cannot be called with stacked parameters, in one line; None: it can."""
        return None

    def learned(self, losses: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the sum of `losses`, scalars or [K] each, and its gradients by the parameters."""
        total = losses[0] if len(losses) == 1 else torch.stack(list(losses)).sum(0)
        end = total.sum() if total.dim() else total
        return constant(total), list(torch.autograd.grad(end, self.trainable))
