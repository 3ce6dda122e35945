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
from antiphon.base.extensions import Catalogue, name_of, synthetic_input
from antiphon.base.spec import Count
from antiphon.base.spec import Sequence as IsSequence
from antiphon.comms.examples import ContextSpec, Example
from antiphon.comms.predictors import Model, ModuleModel, counted
from antiphon.comms.sites import sites_of


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

    @property
    def is_linear_map(self) -> bool:
        return not (self.hidden or self.bf16)


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


@final
class ModuleInput(ModuleModel, InputModel):
    """Synthetic input by a user's module."""

    point = "input"
    reads = "the signals of its context side by side"

    def _loss(self, example: Example) -> Tensor:
        rows = example.message.shape[-2]
        losses = self.losses(self.forward(example.context, rows, move=True), example.message)
        return counted(example, losses).sum(-1) / rows


INPUTS: Mapping[str, Any] = Catalogue("input")
"""Classes and factories of synthetic inputs by name."""


def input_of(
    kind: Any,
    options: Mapping[str, Any],
    shape: tuple[int, ...],
    context: Sequence[ContextSpec],
    *,
    sites: bool | None = None,
    **settings: Any,
) -> InputModel:
    """Return a synthetic input of a built-in or a user's kind; for the arguments see `predictor_of` and `InputModel`.

    Raises:
        ScenarioError: It does not fit; the line begins with the key.
    """
    source = INPUTS[kind] if isinstance(kind, str) else kind
    at_sites = sites_of(shape, context, use_sites=sites, point="input")
    size, specs = torch.Size(shape).numel(), list(context)
    if at_sites is not None:
        size, specs = at_sites.features, [at_sites.at_site(spec) for spec in context]
    if isinstance(source, type) and issubclass(source, InputModel):
        model = source(size, specs, **options, **settings)
    else:
        model = ModuleInput(size, specs, source=source, options=options, **settings)
    model.kind, model.sites = name_of(kind), at_sites
    return model
