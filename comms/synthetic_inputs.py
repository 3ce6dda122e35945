"""Synthetic inputs: models at the receiver that predict a message before it arrives, or replace it.

Jaderberg et al. 2017, "complete unlock".  Shapes: B batch, M message components, C context features; with stacked
parameters every batched tensor has one more leading axis, the models (see `Model`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, final

import torch
from torch import Tensor

from antiphon.base import kinds
from antiphon.base.extensions import synthetic_input
from antiphon.comms.examples import ContextSpec, Example
from antiphon.comms.predictors import MlpGradient, ModuleModel, Regression, SiteOptions, model_of
from antiphon.comms.sites import sites_of


class InputModel(Regression):
    """A regression of a message from signals alone; untrained, it predicts zeros (zero last layer).

    It learns from what arrived: where an example is `valid`.
    """

    Options: ClassVar[type[kinds.Options]] = SiteOptions

    def _sizes(self) -> tuple[int, int]:
        return sum(spec.features for spec in self.context), self.size

    def read(self, example: Example) -> Example:
        """Return an example that has the message as what is `returned`, and none that is read."""
        example = super().read(example)
        return replace(example, message=example.message[..., :0], returned=example.message)

    @torch.no_grad()
    def predict(self, context: Tensor | None, rows: int, *, training: bool = True) -> Tensor:
        """Return the predicted message, [rows, M], without a graph: the receiver's loss does not train it.

        Args:
            rows: B, or for stacked models K * B.
            training: Whether batch norm uses the statistics of the batch; when deployed, it uses the running statistics.
        """
        if self.sites is not None:
            context, rows = self.sites.context_rows(context), rows * self.sites.count
        if context is None:
            context = next(iter(self.parameters.values())).new_zeros(rows, 0)
        messages = self.to_rows(self.run(self.by_model(context), move=False, training=training))
        return messages if self.sites is None else self.sites.close(messages)


@final
@synthetic_input("linear")
class LinearInput(InputModel):
    """Linear model SI(c) = c W^T + b."""


@final
@synthetic_input("mlp")
class MlpInput(InputModel):
    """One or two hidden layers of linear map, normalisation and ReLU, then a linear layer (the form of the paper)."""

    Options = MlpGradient.Options


@final
class ModuleInput(ModuleModel, InputModel):
    """Synthetic input by a user's module."""

    point = "input"
    reads = "the signals of its context side by side"


def input_of(
    spec: kinds.KindSpec, shape: tuple[int, ...], context: Sequence[ContextSpec], **settings: Any
) -> InputModel:
    """Return a synthetic input of a built-in or a user's kind; for the arguments see `predictor_of`."""
    at_sites = sites_of(shape, context, use_sites=spec.get("sites"), point="input")
    own: InputModel = model_of(spec, shape, context, at_sites, **settings)
    return own
