"""Attention over the messages of several senders: an aggregation, and an example of how one is written."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from antiphon import extensions, kinds
from antiphon.errors import ScenarioError
from antiphon.spec import Count

__all__ = ["Attention"]

_MOST_HEADS = 1024
_MOST_WEIGHTS = 2**25
"""Of the keys' map; a copy of them is made to see what the aggregation returns."""


@extensions.aggregation("attention")
class Attention(nn.Module):
    """Weighted mean of the messages that have arrived, each head's weights by a query of its own.

    Multi-head attention (Vaswani et al. 2017) of learned queries over a set (Ilse et al. 2018; Lee et al. 2019): it does
    not depend on the order of the senders. Keys are linear maps of the messages, values the messages themselves. The
    queries start at zero: at first it is their mean. Where none has arrived it is zero.

    Args:
        size: M, components of one message.
        senders: S; the number of channels that are joined.
        heads: H.

    Raises:
        ScenarioError: There are too many heads, or more than 2^25 weights.
    """

    class Options(kinds.Options):
        """Keys of attention.

        Attributes:
            heads: Weighted means that are made, each by a query of its own.
        """

        heads: Count = 1

    def __init__(self, size: int, senders: int, heads: int = 1) -> None:
        super().__init__()
        del senders
        if heads < 1:
            raise ScenarioError(f"heads: must be at least 1, not {heads}")
        if heads > _MOST_HEADS:
            raise ScenarioError(f"heads: must be at most {_MOST_HEADS}, not {heads}")
        weights = heads * size * size
        if weights > _MOST_WEIGHTS:
            most = f"it may have {_MOST_WEIGHTS:,}; send smaller messages"
            raise ScenarioError(
                f"attention to messages of {size:,} components has {weights:,} weights, and {most}"
            )
        self.key = nn.Linear(size, heads * size, bias=False)
        self.query = nn.Parameter(torch.zeros(heads, size))

    def forward(self, messages: Tensor, present: Tensor) -> Tensor:
        """Return [B, H * M] of messages [B, S, M], of which some are present [B, S]."""
        heads, size = self.query.shape
        keys = self.key(messages).unflatten(-1, (heads, size))
        scores = (keys * self.query).sum(-1) / math.sqrt(size)
        weights = scores.masked_fill(~present.unsqueeze(-1), -1e9).softmax(-2) * present.unsqueeze(-1)
        joined: Tensor = (weights.unsqueeze(-1) * messages.unsqueeze(-2)).sum(-3)
        return joined.flatten(-2)
