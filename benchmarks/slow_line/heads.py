"""The model with the auxiliary heads that `antiphon.split` gives its parts, for backpropagation with the same losses."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from antiphon.agents.models import GPT


class WithHeads(nn.Module):
    """The model, and at each cut a head of the kind of `aug_local`: copies of the next block and of the last layers.

    Args:
        model: The model.
        cuts: The blocks before which it would be cut.
    """

    def __init__(self, model: GPT, cuts: Sequence[int]) -> None:
        super().__init__()
        self.model, self.cuts = model, cuts
        layers = ([model.blocks[cut], model.norm, model.head] for cut in cuts)
        self.heads = nn.ModuleList(nn.Sequential(*map(copy.deepcopy, each)) for each in layers)

    def losses(self, tokens: Tensor, following: Tensor) -> Iterator[Tensor]:
        """Yield the loss of each head, then of the model, in nats per character."""
        model, target = self.model, following.flatten()
        x = model.drop(model.tokens(tokens) + model.positions(torch.arange(tokens.shape[1])))
        for number, block in enumerate(model.blocks):
            if number in self.cuts:
                yield cross_entropy(self.heads[self.cuts.index(number)](x).flatten(0, 1), target)
            x = block(x)
        yield cross_entropy(model.head(model.norm(x)).flatten(0, 1), target)
