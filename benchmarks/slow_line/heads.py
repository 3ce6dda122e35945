"""The model with the auxiliary heads that `antiphon.split` gives its parts, for backpropagation with the same losses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, relu

from antiphon.agents.models import GPT, ResidualBlock, ResNet


class WithHeads(nn.Module):
    """The model, and at each cut a head of the kind of `aug_local`: copies of a later block and of the last layers.

    The block is the next one; where later blocks change the shape, those are copied.

    Args:
        model: The model.
        cuts: The blocks before which it would be cut.
    """

    def __init__(self, model: GPT | ResNet, cuts: Sequence[int]) -> None:
        super().__init__()
        self.model, self.cuts = model, cuts
        layers = ([*self._copied(cut), *self._last()] for cut in cuts)
        self.heads = nn.ModuleList(nn.Sequential(*map(copy.deepcopy, each)) for each in layers)

    def _first(self, inputs: Tensor) -> Tensor:
        """Return what the first block reads."""
        model = self.model
        if isinstance(model, GPT):
            return model.drop(model.tokens(inputs) + model.positions(torch.arange(inputs.shape[1])))
        return relu(model.bn(model.conv(inputs)))

    def _copied(self, cut: int) -> list[nn.Module]:
        later = [*self.model.blocks][cut:]
        changing = (block for block in later if isinstance(block, ResidualBlock))
        return [block for block in changing if not isinstance(block.skip, nn.Identity)] or later[:1]

    def _last(self) -> list[nn.Module]:
        """Return the layers behind the last block."""
        model = self.model
        if isinstance(model, GPT):
            return [model.norm, model.head]
        return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head]

    def losses(self, inputs: Tensor, target: Tensor) -> Iterator[Tensor]:
        """Yield the loss of each head, then of the model, in nats: the mean over [batch, length] characters or [batch] images."""
        x = self._first(inputs)
        for number, block in enumerate(self.model.blocks):
            if number in self.cuts:
                scores = self.heads[self.cuts.index(number)](x)
                yield cross_entropy(scores.flatten(0, -2), target.flatten())
            x = block(x)
        yield cross_entropy(nn.Sequential(*self._last())(x).flatten(0, -2), target.flatten())
