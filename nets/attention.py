"""Attention over the messages of several senders: an aggregation, and an example of one."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from antiphon.base import extensions, kinds


@extensions.aggregation("attention")
class Attention(nn.Module):
    """Weighted means of the messages that have arrived, one per head, each with its own query.

    Multi-head attention (Vaswani et al. 2017) of learned queries over a set (Ilse et al. 2018; Lee et al. 2019): it does
    not depend on the order of the senders. Keys are linear maps of the messages, values are the messages themselves. The
    queries start at zero, so the result is at first the plain mean. It is zero if no message has arrived.

    Args:
        size: M, components of one message.
        senders: S, the number of channels that are joined.
        heads: H, the number of heads.
    """

    class Options(kinds.Options):
        """Keys of attention.

        Attributes:
            heads: Number of heads: weighted means, each with its own query.
        """

        heads: Annotated[int, Field(ge=1, le=1024)] = 1

    def __init__(self, size: int, senders: int, heads: int = 1) -> None:
        super().__init__()
        del senders
        self.key = nn.Linear(size, heads * size, bias=False)
        self.query = nn.Parameter(torch.zeros(heads, size))

    def forward(self, messages: Tensor, present: Tensor) -> Tensor:
        """Return [B, H * M] from messages [B, S, M] and which of them are present, [B, S]."""
        heads, size = self.query.shape
        keys = self.key(messages).unflatten(-1, (heads, size))
        scores = (keys * self.query).sum(-1) / math.sqrt(size)
        weights = scores.masked_fill(~present.unsqueeze(-1), -1e9).softmax(-2) * present.unsqueeze(-1)
        joined: Tensor = (weights.unsqueeze(-1) * messages.unsqueeze(-2)).sum(-3)
        return joined.flatten(-2)
