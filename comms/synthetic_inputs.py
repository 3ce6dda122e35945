"""Synthetic inputs: models at the receiver that predict a message before it arrives, or replace it.

Jaderberg et al. 2017, "complete unlock".  Shapes: B batch, M message components, C context features; with stacked
parameters every batched tensor has one more leading axis, the models (see `Model`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, final

import torch
from pydantic import Field
from torch import Tensor

from antiphon.base import kinds
from antiphon.base.extensions import Catalogue, synthetic_input
from antiphon.base.spec import Count
from antiphon.base.spec import Sequence as IsSequence
from antiphon.comms.examples import ContextSpec, Example
from antiphon.comms.model import LinearMaps, Model


class InputModel(Model):
    """A model of a message with its own optimiser; untrained, it predicts zeros (zero last layer).

    Args:
        size: M.
        context: The signals it predicts from, in the order of their features in the encoding.
    """

    class Options(kinds.Options):
        """Keys of every input.

        Attributes:
            sites: Whether one small model is applied at every token of messages [tokens, features], or every pixel of maps;
                None: at every token, but not at every pixel.
        """

        sites: bool | None = None

    def __init__(self, size: int, context: Sequence[ContextSpec], **settings: Any) -> None:
        self.size = size
        self.context = tuple(context)
        super().__init__(sum(spec.features for spec in context), size, **settings)

    @torch.no_grad()
    def predict(self, context: Tensor | None, rows: int, *, training: bool = True) -> Tensor:
        """Return the predicted message, [rows, M], without a graph: the receiver's loss does not train it.

        Args:
            context: [rows, C]; None for a model without context.
            rows: B, or for stacked models K * B.
            training: Whether batch norm uses the statistics of the batch; when deployed, it uses the running statistics.
        """
        if self.sites is not None:
            context, rows = self.sites.context_rows(context), rows * self.sites.count
        by_model = None if context is None else self.by_model(context)
        batch = rows // max(len(self.members), 1)
        messages = self.to_rows(self.forward(by_model, batch, move=False, training=training))
        return messages if self.sites is None else self.sites.close(messages)

    def _loss(self, example: Example) -> Tensor:
        """Return the mean over the batch of ||SI(c) - m||^2, of what arrived: where the example is `valid`."""
        message, rows = example.message, example.message.shape[-2]
        error = example.valid.zero_elsewhere(self.forward(example.context, rows, move=True) - message)
        return error.square().sum((-2, -1)) / rows

    def regression(self, example: Example) -> Example:
        inputs, received = example.context, example.message
        if inputs is None:
            inputs = received.new_zeros(*received.shape[:-1], 0)
        return replace(example, message=inputs, context=None, returned=received)

    def forward(self, context: Tensor | None, rows: int, *, move: bool, training: bool = True) -> Tensor:
        """Return the predicted message, [..., B, M]; running statistics are updated only if `move`."""
        if context is None:
            last = self.parameters["last.bias"]
            context = last.new_zeros(*last.shape[:-1], rows, 0)
        return self.run(context, move=move, training=training)


class _LayeredInput(InputModel):
    """A synthetic input by layers of antiphon's own."""

    def linear_maps(self) -> LinearMaps | None:
        return None if self.hidden or self.bf16 else LinearMaps.of(self.parameters, self.size)


@final
@synthetic_input("linear")
class LinearInput(_LayeredInput):
    """Linear model SI(c) = c W^T + b."""


@final
@synthetic_input("mlp")
class MlpInput(_LayeredInput):
    """One or two hidden layers of linear map, normalisation and ReLU, then a linear layer (the form of the paper)."""

    class Options(InputModel.Options):
        """Keys of a deep input.

        Attributes:
            hidden: Widths of the hidden layers, one or two.
            norm: Normalisation after each hidden layer.
        """

        hidden: Annotated[tuple[Count, ...], Field(min_length=1, max_length=2), IsSequence] = (1024,)
        norm: Literal["batch", "layer", "none"] = "batch"


INPUTS: Mapping[str, Any] = Catalogue("input")
"""Classes and factories of synthetic inputs by name."""
