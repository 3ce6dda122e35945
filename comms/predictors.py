"""Synthetic gradients: models at the sender that predict, per sample, the gradient its receiver will return.

Every learned predictor's last layer starts at zero: untrained, it injects exactly nothing (Jaderberg et al.
2017, appendix A.1).  Shapes: B batch, M message components, C context features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor

from antiphon.comms.cut import constant
from antiphon.nets.layers import initial_linear, initial_norm, linear, norm_buffers, normalise
from antiphon.nets.losses import cross_entropy, squared_error
from antiphon.nets.optimisers import Optimiser, Rate, step_all

__all__ = ["PREDICTORS", "Example", "LinearGradient", "LocalGradient", "MlpGradient", "Predictor"]

Numbers = dict[str, Tensor]


@dataclass(slots=True)
class Example:
    """What a predictor learns from: one message whose gradient has come back."""

    message: Tensor
    """[B, M], as sent."""
    context: Tensor | None
    """[B, C], the features it was conditioned on."""
    delta: Tensor | None
    """[B, M], per sample; None for predictors that need nothing returned."""
    valid: Tensor | None = None
    """[B] bool, the environments whose delta counts; None for all."""
    target: Tensor | None = None
    """[B] or [B, …]: the named target of `local`."""
    prediction: Tensor | None = None
    """[B, M], if it was predicted with the predictor's present numbers."""


class Predictor(ABC):
    """A model of dL/dmessage with an optimiser of its own.

    Args:
        size: M.
        context: C.
        generator: Draws the hidden layers' initial parameters.
        hidden: Widths of the hidden layers.
        norm: Of the hidden layers.
        outputs: Size of the last layer where it is not M (`local`: that of its target).
        optimiser: Kind and settings, as `Optimiser` takes them.
        rate: The learning rate over the run.
        device: Where its numbers live.
        dtype: Of its numbers.
    """

    needs_delta = True
    """Whether it learns from what its receiver returns."""

    def __init__(
        self,
        size: int,
        context: int,
        *,
        generator: torch.Generator,
        optimiser: dict[str, object],
        rate: Rate,
        hidden: tuple[int, ...] = (),
        norm: str = "batch",
        outputs: int | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.size = size
        self.hidden = hidden
        self.norm = norm
        self.rate = rate
        self.updates = 0
        drawn, held = self._initial(size + context, outputs or size, generator)
        self.parameters: Numbers = {
            k: v.to(device=device, dtype=dtype).requires_grad_() for k, v in drawn.items()
        }
        self.buffers: Numbers = {k: v.to(device=device, dtype=dtype) for k, v in held.items()}
        self.trainable = list(self.parameters.values())
        self.optimiser = Optimiser(parameters=self.trainable, **optimiser)  # type: ignore[arg-type]

    def _initial(self, inputs: int, outputs: int, generator: torch.Generator) -> tuple[Numbers, Numbers]:
        drawn: Numbers = {}
        held: Numbers = {}
        for i, width in enumerate(self.hidden):
            drawn[f"{i}.weight"], drawn[f"{i}.bias"] = initial_linear(inputs, (width, inputs), generator)
            drawn |= {f"{i}.norm.{k}": v for k, v in initial_norm(self.norm, width).items()}
            held |= {f"{i}.norm.{k}": v for k, v in norm_buffers(self.norm, width).items()}
            inputs = width
        drawn["last.weight"], drawn["last.bias"] = torch.zeros(outputs, inputs), torch.zeros(outputs)
        return drawn, held

    def forward(self, message: Tensor, context: Tensor | None, *, move: bool) -> Tensor:
        """Return the model's output, [B, outputs]; its running statistics move only where `move` says so."""
        x = message if context is None else torch.cat([message, context], -1)
        for i in range(len(self.hidden)):
            x = linear(x, self.parameters[f"{i}.weight"], self.parameters[f"{i}.bias"])
            if self.norm != "none":
                own = {k: self.parameters[f"{i}.norm.{k}"] for k in ("gain", "bias")}
                statistics = {k: self.buffers[f"{i}.norm.{k}"] for k in norm_buffers(self.norm, 1)}
                x, moved = normalise(self.norm, x, own, statistics, training=True)
                if move:
                    self.buffers |= {f"{i}.norm.{k}": v for k, v in moved.items()}
            x = torch.relu(x)
        return linear(x, self.parameters["last.weight"], self.parameters["last.bias"])

    @abstractmethod
    def predict(self, example: Example) -> Tensor:
        """Return the synthetic gradient per sample, [B, M], with the predictor's own graph where it has one."""

    @abstractmethod
    def loss(self, example: Example) -> Tensor:
        """Return the loss on one example: a scalar, a mean over the batch."""

    def gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        """Return the loss summed over the messages completed at this step, and its gradients."""
        losses = [self.loss(example) for example in examples]
        total = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        return constant(total), list(torch.autograd.grad(total, self.trainable))

    def step(self, gradients: Sequence[Tensor], now: int) -> None:
        """Take one optimiser step."""
        step_all([self.planned(gradients, now)])

    def planned(self, gradients: Sequence[Tensor], now: int) -> tuple[Optimiser, Sequence[Tensor], float]:
        """Return the optimiser step that `gradients` ask for, and count it as taken."""
        self.updates += 1
        return self.optimiser, gradients, self.rate(now)


class _DirectGradient(Predictor):
    """Regresses the returned gradient by squared error: mean over the batch of ||SG(m, c) - delta||^2."""

    def predict(self, example: Example) -> Tensor:
        return self.forward(example.message, example.context, move=False)

    def loss(self, example: Example) -> Tensor:
        return self._error(example).square().sum() / example.message.shape[0]

    def _error(self, example: Example) -> Tensor:
        """SG(m, c) - delta, [B, M], zero where the delta does not count."""
        assert example.delta is not None
        prediction = example.prediction
        if prediction is None or self.hidden:  # hidden layers move their statistics here, and only here
            prediction = self.forward(example.message, example.context, move=True)
        error = prediction - example.delta
        return error if example.valid is None else torch.where(example.valid.unsqueeze(1), error, 0.0)


@final
class LinearGradient(_DirectGradient):
    """SG(m, c) = [m, c] W^T + b, the kind that served the paper's conditioned networks best.

    Its gradient is written out: 2/B error^T [m, c]. It is what autograd finds, at a third of the cost.
    """

    def __init__(self, size: int, context: int, *, hidden: tuple[int, ...] = (), **settings: Any) -> None:
        del hidden  # a scenario may keep them for its `mlp` variant
        super().__init__(size, context, **settings)

    @torch.no_grad()
    def predict(self, example: Example) -> Tensor:
        return self.forward(example.message, example.context, move=False)

    @torch.no_grad()
    def gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        total, weight, bias = None, None, None
        for example in examples:
            error = self._error(example)
            loss = error.square().sum() / len(error)
            error = error * (2.0 / len(error))
            message = error.T @ example.message
            columns = (
                message if example.context is None else torch.cat([message, error.T @ example.context], 1)
            )
            total = loss if total is None else total + loss
            weight = columns if weight is None else weight + columns
            bias = error.sum(0) if bias is None else bias + error.sum(0)
        assert total is not None
        assert weight is not None
        assert bias is not None
        return total, [weight, bias]


@final
class MlpGradient(_DirectGradient):
    """One or two hidden layers of linear map, normalisation and ReLU, then a linear layer."""


@final
class LocalGradient(Predictor):
    """The control: a classifier or regressor of a named target at the sender, to which nothing is returned."""

    needs_delta = False

    def __init__(self, size: int, context: int, *, outputs: int, classes: bool, **settings: object) -> None:
        super().__init__(size, context, outputs=outputs, **settings)  # type: ignore[arg-type]
        self.classes = classes

    def _per_sample(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        assert example.target is not None
        output = self.forward(message, example.context, move=move)
        return (cross_entropy if self.classes else squared_error)(output, example.target)

    def predict(self, example: Example) -> Tensor:
        with torch.enable_grad():
            message = constant(example.message).requires_grad_()
            total = self._per_sample(example, message, move=False).sum()
            return torch.autograd.grad(total, message)[0]

    def loss(self, example: Example) -> Tensor:
        per_sample = self._per_sample(example, example.message, move=True)
        if example.valid is not None:
            per_sample = torch.where(example.valid, per_sample, 0.0)
        return per_sample.sum() / example.message.shape[0]


PREDICTORS: dict[str, type[Predictor]] = {
    "linear": LinearGradient,
    "mlp": MlpGradient,
    "local": LocalGradient,
}
