"""Synthetic inputs: models at the receiver that predict a message before it arrives (or instead of it).

Jaderberg et al. 2017, "complete unlock".  Shapes: B batch, M message components, C context features; with stacked
parameters every batched tensor has one more leading axis, that of the models (see `Model`).
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from antiphon import kinds
from antiphon.comms.model import ContextSpec, Model
from antiphon.extensions import Catalogue, synthetic_input
from antiphon.spec import Count, Flag
from antiphon.spec import Sequence as IsSequence

__all__ = ["INPUTS", "InputModel", "LinearInput", "MlpInput"]


class InputModel(Model, ABC):
    """A model of a message with an optimiser of its own; untrained, it predicts zeros (zero last layer).

    Args:
        size: M.
        context: The signals it is predicted from, in the order in which the encoding holds their features.
        settings: The other arguments of `Model`.
    """

    class Options(kinds.Options):
        """Keys of every input.

        Attributes:
            sites: Whether one small model is applied at every token or pixel, as of a gradient.
        """

        sites: Flag | None = None

    def __init__(self, size: int, context: Sequence[ContextSpec], **settings: Any) -> None:
        self.size = size
        self.context = tuple(context)
        super().__init__(sum(spec.features for spec in context), size, **settings)

    def predict(self, context: Tensor | None, rows: int, *, training: bool = True) -> Tensor:
        """Return the predicted message, [B, M], without a graph: no loss of the receiver trains it.

        Args:
            context: [B, C]; None for a model without context.
            rows: B.
            training: Whether batch norm uses the statistics of these rows; deployed, it uses the running ones.
        """
        with torch.no_grad():
            return self.forward(context, rows, move=False, training=training)

    def gradients(
        self, examples: Sequence[tuple[Tensor | None, Tensor, Tensor | None]]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the mean over the batch of ||SI(c) - m||^2, summed over examples, and its gradients.

        Args:
            examples: Context [B, C] or None, the message as it was received [B, M], and where it arrived: [B] bool, None
                for everywhere.
        """
        return self.learned([self.loss(*example) for example in examples])

    def loss(self, context: Tensor | None, message: Tensor, arrived: Tensor | None) -> Tensor:
        """Return the loss on one example of `gradients`: a scalar, a mean over the batch."""
        rows = message.shape[-2]
        error = self.forward(context, rows, move=True) - message
        if arrived is not None:
            error = torch.where(arrived.unsqueeze(-1), error, 0.0)
        return error.square().sum((-2, -1)) / rows

    def forward(self, context: Tensor | None, rows: int, *, move: bool, training: bool = True) -> Tensor:
        """Return the predicted message, [B, M]; running statistics are updated only if `move`."""
        if context is None:
            last = self.parameters["last.bias"]
            context = last.new_zeros(*last.shape[:-1], rows, 0)
        return self.run(context, move=move, training=training)


@final
@synthetic_input("linear")
class LinearInput(InputModel):
    """Linear model SI(c) = c W^T + b."""


@final
@synthetic_input("mlp")
class MlpInput(InputModel):
    """One or two hidden layers of linear map, normalisation and ReLU, then a linear layer (the form of the paper)."""

    class Options(InputModel.Options):
        """Keys of a deep input.

        Attributes:
            hidden: Widths of the hidden layers, one or two.
            norm: After each hidden layer.
        """

        hidden: Annotated[tuple[Count, ...], Field(min_length=1, max_length=2), IsSequence] = (1024,)
        norm: Literal["batch", "layer", "none"] = "batch"


INPUTS: Mapping[str, Any] = Catalogue("input")
"""The classes and factories of synthetic inputs by name."""
