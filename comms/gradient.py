"""Synthetic gradients: models at the sender that predict, per sample, the gradient its receiver will return.

Every learned predictor's last layer starts at zero: untrained, it injects exactly nothing (Jaderberg et al.
2017, appendix A.1).  Shapes: B batch, M message components, C context features; with stacked parameters every
batched tensor has one more leading axis, that of the models (see `Model`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from antiphon.comms.context import ContextSpec
from antiphon.comms.model import Model
from antiphon.nets.optimisers import Rate

__all__ = ["Example", "Predictor", "counted"]


@dataclass(slots=True)
class Example:
    """Training example of a predictor: one message whose gradient was returned."""

    message: Tensor
    """[B, M], as sent."""
    context: Tensor | None
    """[B, C], the features it was conditioned on."""
    delta: Tensor | None
    """[B, M], the returned gradient per sample; None for predictors that need none."""
    valid: Tensor | None = None
    """[B] bool, the environments that count; None for all."""
    target: Tensor | None = None
    """[B] or [B, …]: the named target of `local` and `sobolev_label`."""
    prediction: Tensor | None = None
    """[B, M], the prediction, if made with the predictor's present parameters."""
    loss: Tensor | None = None
    """[B], the receiver's loss per sample; None for predictors that do not need it."""
    members: Tensor | None = None
    """[K] bool, of K stacked channels: those it is an example for; None: all."""


class Predictor(Model, ABC):
    """A model of dL/dmessage with an optimiser of its own.

    Args:
        shape: Of one message; messages in transit are flat, M components.
        context: The signals it is conditioned on, in the order in which `Example.context` holds their features.
        generator: Samples the hidden layers' initial parameters.
        optimiser: Kind and settings, as `Optimiser` takes them.
        rate: The learning rate over the run.
        hidden: Widths of the hidden layers, or their filters.
        norm: Of the hidden layers.
        filter: Height and width of the filters (convolutions only).
        target: Signal predicted beside the gradient (kinds with an own loss only).
        device: Of the parameters.
        dtype: Of the parameters.
    """

    needs_delta: ClassVar[bool] = True
    """Whether training needs the receiver's returned gradient."""
    needs_loss: ClassVar[bool] = False
    """Whether training needs the receiver's loss per sample: such a predictor is a critic and has a `value`."""
    propagates: ClassVar[bool] = False
    """Whether the predictor's own loss may reach the sender (`propagated`)."""

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        generator: torch.Generator,
        optimiser: dict[str, object],
        rate: Rate,
        hidden: tuple[int, ...] = (),
        norm: str = "batch",
        filter: int = 5,
        target: ContextSpec | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.shape = shape
        self.size = torch.Size(shape).numel()
        self.context = tuple(context)
        self.filter = filter
        self.target = target
        inputs, outputs = self._sizes()
        super().__init__(
            inputs,
            outputs,
            generator=generator,
            optimiser=optimiser,
            rate=rate,
            hidden=hidden,
            norm=norm,
            device=device,
            dtype=dtype,
        )

    def _sizes(self) -> tuple[int, int]:
        """Input and output features."""
        return self.size + sum(spec.features for spec in self.context), self.size

    def forward(self, message: Tensor, context: Tensor | None, *, move: bool) -> Tensor:
        """Return the model's output, [B, outputs]; running statistics are updated only if `move`."""
        return self.run(message if context is None else torch.cat([message, context], -1), move=move)

    @abstractmethod
    def predict(self, example: Example) -> Tensor:
        """Return the synthetic gradient per sample, [B, M], with the predictor's own graph where it has one."""

    @abstractmethod
    def loss(self, example: Example) -> Tensor:
        """Return the loss on one example: a scalar, a mean over the batch."""

    def value(self, example: Example) -> Tensor:
        """Return the receiver's loss that a critic predicts for the message, [B]."""
        raise NotImplementedError(f"{type(self).__name__} expects no loss: only critics have a value")

    def propagated(self, example: Example) -> Tensor:
        """Return B times the gradient of its own loss by the message, [B, M], the target constant.

        Added to what the sender follows it is SG+prop of Czarnecki et al. 2017, §4.
        """
        raise NotImplementedError(f"{type(self).__name__} has no loss that its sender could follow")

    def gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        """Return the loss summed over the messages completed at this step, and its gradients."""
        return self.learned([self.loss(example) for example in examples])


def counted(example: Example, error: Tensor) -> Tensor:
    """Return `error`, [B] or [B, M], with zeros in the environments that do not count."""
    if example.valid is None:
        return error
    valid = example.valid if example.valid.dim() == error.dim() else example.valid.unsqueeze(-1)
    return torch.where(valid, error, 0.0)
