"""A small GPT and its plain training loop, without antiphon: what a split of it is compared with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

VOCABULARY = 64


class Block(nn.Module):
    """Pre-norm attention and feed-forward network, each added to the residual stream [B, T, D]."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(rows, length, width))
        stream: Tensor = x + self.mlp(self.norm2(x))
        return stream


class Gpt(nn.Module):
    """Token and position embeddings, blocks, norm and head: [B, T] tokens to [B, T, V] logits.

    Args:
        recompute: Whether the activations of each block are computed again in the backward pass (gradient checkpointing).
    """

    def __init__(self, blocks: int, width: int, length: int, *, recompute: bool = False) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(VOCABULARY, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        self.register_buffer("places", torch.arange(length), persistent=False)
        self.recompute = recompute

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(self.places)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


class GptByHand:
    """A plain training loop with Adam."""

    def __init__(self, model: Gpt, lr: float = 1e-3) -> None:
        self.model = model
        self.optimiser = torch.optim.Adam(model.parameters(), lr=lr)

    def step(self, tokens: Tensor, following: Tensor) -> Tensor:
        loss = F.cross_entropy(self.model(tokens).flatten(0, 1), following.flatten())
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        return loss.detach()
