"""Networks of policies whose choices are masked: those that are not legal have no probability."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Unpack, final

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE, CallSettings, Network, Tensors

NEVER = -1e9
"""The logit of a choice that is not legal; finite, so that entropies and their gradients are."""


@final
class Masked(Network):
    """A network of flat inputs whose choices are legal where the mask among its inputs is positive.

    Where no choice is legal, as for an agent that does not live, all are alike.

    Args:
        inner: The network; it reads the mask too.
        start: The place of the mask among the inputs; it has a number for each output of the objective.
    """

    def __init__(self, inner: Network, start: int) -> None:
        super().__init__(inner.input_shape, tuple(inner.heads.values()))
        self.inner, self.mask = inner, slice(start, start + inner.heads[OBJECTIVE].features)
        self.pure, self.state_size, self.user_prefixes = inner.pure, inner.state_size, inner.user_prefixes

    def parameters(self, generator: torch.Generator) -> Tensors:
        return self.inner.parameters(generator)

    def buffers(self) -> Tensors:
        return self.inner.buffers()

    def __call__(
        self, parameters: Tensors, buffers: Tensors, x: Tensor, **settings: Unpack[CallSettings]
    ) -> tuple[Tensors, Tensors]:
        ports, after = self.inner(parameters, buffers, x, **settings)
        logits = ports[OBJECTIVE]
        legal = x[..., self.mask] > 0
        return {**ports, OBJECTIVE: torch.where(legal, logits, torch.full_like(logits, NEVER))}, after

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.inner.port_shape(port)

    def row_split_obstacle(self) -> str | None:
        return self.inner.row_split_obstacle()

    def signature(self) -> Hashable:
        return Masked, self.mask.start, self.inner.signature()

    def stacking_obstacle(self) -> str | None:
        return self.inner.stacking_obstacle()
