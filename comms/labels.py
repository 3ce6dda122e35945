"""Models of a named target at the sender, whose own loss the sender follows.

`local`, without any returned gradient, is the control for every claim. `sobolev_label` is the
form of Czarnecki et al. 2017 (1706.04859, §4.3): the same, also trained on the gradient that the receiver returns.
"""

from __future__ import annotations

from typing import ClassVar, final

import torch
from torch import Tensor

from antiphon.comms.cut import as_leaf
from antiphon.comms.gradient import Example, Predictor, counted
from antiphon.nets.losses import cross_entropy, squared_error

__all__ = ["LabelGradient", "LocalGradient", "SobolevLabelGradient"]


class LabelGradient(Predictor):
    """A classifier of the target (log loss), or a regressor (squared error), of message and context.

    Its last layer starts at zero, so its loss has no slope in the message before it has learned.
    """

    def _sizes(self) -> tuple[int, int]:
        assert self.target is not None
        inputs, _ = super()._sizes()
        return inputs, self.target.features

    @property
    def classes(self) -> bool:
        """Whether the target is one of several classes."""
        return self.target is not None and self.target.classes is not None

    def predict(self, example: Example) -> Tensor:
        _, slope = self._losses_and_slope(example, move=False, keep=False)
        return slope

    def _losses(self, example: Example, message: Tensor, *, move: bool) -> Tensor:
        """Losses per sample, [B]."""
        assert example.target is not None
        output = self.forward(message, example.context, move=move)
        return (cross_entropy if self.classes else squared_error)(output, example.target)

    def _losses_and_slope(self, example: Example, *, move: bool, keep: bool) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            message = as_leaf(example.message)
            losses = self._losses(example, message, move=move)
            return losses, torch.autograd.grad(losses.sum(), message, create_graph=keep)[0]


@final
class LocalGradient(LabelGradient):
    """Model of the target trained by its own loss alone; no gradient is returned."""

    needs_delta: ClassVar[bool] = False

    def loss(self, example: Example) -> Tensor:
        losses = self._losses(example, example.message, move=True)
        return counted(example, losses).sum(-1) / losses.shape[-1]


@final
class SobolevLabelGradient(LabelGradient):
    """Model trained by -log p + |d(-log p)/dm - delta|_1; its gradient is zero until the first delta arrives."""

    def loss(self, example: Example) -> Tensor:
        assert example.delta is not None
        losses, slope = self._losses_and_slope(example, move=True, keep=True)
        mismatch = counted(example, slope - example.delta).abs().sum(-1)
        return (counted(example, losses) + mismatch).sum(-1) / losses.shape[-1]
