"""Direct synthetic gradients: regression of the returned gradient (Jaderberg et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from antiphon.comms.context import ContextSpec
from antiphon.comms.cut import as_leaf
from antiphon.comms.gradient import Example, Predictor, counted

__all__ = ["DirectGradient", "LinearGradient", "MlpGradient"]


class DirectGradient(Predictor):
    """Regression of the returned gradient by squared error: mean over the batch of ||SG(m, c) - delta||^2."""

    propagates: ClassVar[bool] = True

    def predict(self, example: Example) -> Tensor:
        return self.forward(example.message, example.context, move=False)

    def loss(self, example: Example) -> Tensor:
        prediction = self.forward(example.message, example.context, move=True)
        return _error(example, prediction).square().sum((-2, -1)) / prediction.shape[-2]

    def propagated(self, example: Example) -> Tensor:
        """Return 2 (SG - delta) dSG/dm, the vector-Jacobian product of the whole batch, [B, M]."""
        with torch.enable_grad():
            message = as_leaf(example.message)
            predicted = self.forward(message, example.context, move=False)
            return torch.autograd.grad(_error(example, predicted).square().sum(), message)[0]


def _error(example: Example, prediction: Tensor) -> Tensor:
    """Error SG(m, c) - delta, [B, M], zero where the delta does not count."""
    assert example.delta is not None
    return counted(example, prediction - example.delta)


@final
class LinearGradient(DirectGradient):
    """Linear model SG(m, c) = [m, c] W^T + b, the best kind for the paper's conditioned networks.

    Its gradient is written out: 2/B error^T [m, c]. It equals autograd's, at a third of the cost.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        context: Sequence[ContextSpec],
        *,
        hidden: tuple[int, ...] = (),
        **settings: Any,
    ) -> None:
        del hidden  # a scenario may keep them for its `mlp` variant
        super().__init__(shape, context, **settings)

    @torch.no_grad()
    def predict(self, example: Example) -> Tensor:
        return self.forward(example.message, example.context, move=False)

    @torch.no_grad()
    def gradients(self, examples: Sequence[Example]) -> tuple[Tensor, list[Tensor]]:
        total, weight, bias = None, None, None
        for example in examples:
            predicted = example.prediction  # without hidden layers no statistics change, so it can be reused
            if predicted is None:
                predicted = self.forward(example.message, example.context, move=False)
            error = _error(example, predicted)
            loss = error.square().sum((-2, -1)) / error.shape[-2]
            error = error * (2.0 / error.shape[-2])
            message = error.mT @ example.message
            columns = (
                message if example.context is None else torch.cat([message, error.mT @ example.context], -1)
            )
            total = loss if total is None else total + loss
            weight = columns if weight is None else weight + columns
            bias = error.sum(-2) if bias is None else bias + error.sum(-2)
        assert total is not None
        assert weight is not None
        assert bias is not None
        return total, [weight, bias]


@final
class MlpGradient(DirectGradient):
    """One or two hidden layers of linear map, normalisation and ReLU, then a linear layer."""
