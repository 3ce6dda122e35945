"""Convolutional synthetic gradients, for messages that are maps (Jaderberg et al. 2017, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, final

import torch
from torch import Tensor

from antiphon.comms.context import ContextSpec
from antiphon.comms.direct import DirectGradient
from antiphon.errors import ScenarioError
from antiphon.nets.layers import convolution

__all__ = ["ConvGradient"]


@final
class ConvGradient(DirectGradient):
    """Layers of same-padded convolution, normalisation per channel and ReLU, then a convolution to the message's channels.

    Every feature of the context is a channel of its own, the same at every pixel; floats that are maps of the
    message's height and width are channels as they are.

    Args:
        shape: (channels, height, width) of a message.
        context: As of `Predictor`, like the rest.
        filter: Side of the filters, odd.
        settings: The others.

    Raises:
        ScenarioError: The message is no map, or the filters' side is even; the line begins where the place is to
            stand: `size: …`, `filter: …`.
    """

    def __init__(
        self, shape: tuple[int, ...], context: Sequence[ContextSpec], *, filter: int = 5, **settings: Any
    ) -> None:
        if len(shape) != 3:
            raise ScenarioError(
                f"size: a conv gradient reads maps [channels, height, width], not {list(shape)}; use kind mlp"
            )
        if filter % 2 == 0:
            raise ScenarioError(
                f"gradient.filter: {filter} is even and cannot be centred on a pixel; use {filter + 1}"
            )
        super().__init__(shape, context, filter=filter, **settings)

    def _sizes(self) -> tuple[int, int]:
        return self.shape[0] + sum(self._channels(spec) for spec in self.context), self.shape[0]

    def _is_map(self, spec: ContextSpec) -> bool:
        return spec.classes is None and len(spec.shape) == 3 and spec.shape[1:] == self.shape[1:]

    def _channels(self, spec: ContextSpec) -> int:
        return spec.shape[0] if self._is_map(spec) else spec.features

    def _weight(self, outputs: int, inputs: int) -> torch.Size:
        return torch.Size((outputs, inputs, self.filter, self.filter))

    def _layer(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolution(x, weight, bias)

    def forward(self, message: Tensor, context: Tensor | None, *, move: bool) -> Tensor:
        channels = [message.view(*message.shape[:-1], *self.shape)]
        if context is not None:
            parts = torch.split(context, [spec.features for spec in self.context], -1)
            for spec, features in zip(self.context, parts, strict=True):
                if self._is_map(spec):
                    channels.append(features.reshape(*features.shape[:-1], *spec.shape))
                else:
                    channels.append(features[..., None, None].expand(*features.shape, *self.shape[1:]))
        return self.run(torch.cat(channels, -3), move=move).flatten(-3)
