"""Synthetic gradients: models at the sender that predict, per sample, the gradient its receiver will return.

Every learned predictor's last layer starts at zero: untrained, it injects exactly nothing (Jaderberg et al.
2017, appendix A.1).  Shapes: B batch, M message components, C context features; with stacked parameters everything
said of a batch has one more leading axis, that of the models (see `Model`).
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
    """What a predictor learns from: one message whose gradient has come back."""

    message: Tensor
    """[B, M], as sent."""
    context: Tensor | None
    """[B, C], the features it was conditioned on."""
    delta: Tensor | None
    """[B, M], per sample; None for predictors that need nothing returned."""
    valid: Tensor | None = None
    """[B] bool, the environments that count; None for all."""
    target: Tensor | None = None
    """[B] or [B, …]: the named target of `local` and `sobolev_label`."""
    prediction: Tensor | None = None
    """[B, M], if it was predicted with the predictor's present numbers."""
    loss: Tensor | None = None
    """[B], the receiver's loss per sample; None for predictors that do not need it."""
    members: Tensor | None = None
    """[K] bool, of K bundled channels: those it is an example for; None: all."""


class Predictor(Model, ABC):
    """A model of dL/dmessage with an optimiser of its own.

    Args:
        shape: Of one message; on the way it is flat, M components.
        context: The signals it is conditioned on, in the order in which `Example.context` holds their features.
        generator: Draws the hidden layers' initial parameters.
        optimiser: Kind and settings, as `Optimiser` takes them.
        rate: The learning rate over the run.
        hidden: Widths of the hidden layers, or their filters.
        norm: Of the hidden layers.
        filter: Height and width of the filters (convolutions only).
        target: What it predicts beside the gradient (kinds that have an own loss only).
        device: Where its numbers live.
        dtype: Of its numbers.
    """

    needs_delta: ClassVar[bool] = True
    """Whether it learns from what its receiver returns."""
    needs_loss: ClassVar[bool] = False
    """Whether that is the receiver's loss per sample too: such a predictor is a critic and has a `value`."""
    propagates: ClassVar[bool] = False
    """Whether its own loss may reach the sender (`propagated`)."""

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
        """What the first layer reads and the last says."""
        return self.size + sum(spec.features for spec in self.context), self.size

    def forward(self, message: Tensor, context: Tensor | None, *, move: bool) -> Tensor:
        """Return the model's output, [B, outputs]; its running statistics move only where `move` says so."""
        return self.run(message if context is None else torch.cat([message, context], -1), move=move)

    @abstractmethod
    def predict(self, example: Example) -> Tensor:
        """Return the synthetic gradient per sample, [B, M], with the predictor's own graph where it has one."""

    @abstractmethod
    def loss(self, example: Example) -> Tensor:
        """Return the loss on one example: a scalar, a mean over the batch."""

    def value(self, example: Example) -> Tensor:
        """Return the loss that a critic expects of the message, [B]."""
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
