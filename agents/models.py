"""Small models in plain torch: a GPT and a residual network, which library scenarios split, and heads of local losses for
maps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class TransformerBlock(nn.Module):
    """Causal self-attention and a perceptron, each behind a layer norm and beside a skip connection.

    Args:
        width: Features of a token.
        heads: Attention heads; they divide the width.
        dropout: Dropout probability.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, tokens, width] from [batch, tokens, width]."""
        read = self.ln1(x)
        batch, tokens, width = read.shape
        shape = batch, tokens, self.heads, width // self.heads
        q, k, v = (projection.view(shape).transpose(1, 2) for projection in self.qkv(read).chunk(3, 2))
        dropout = self.dropout if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        x = x + self.drop(self.proj(mixed.transpose(1, 2).flatten(2)))
        y: Tensor = x + self.drop(self.mlp(self.ln2(x)))
        return y


class GPT(nn.Module):
    """A decoder-only transformer (Radford et al. 2019, "Language models are unsupervised multitask learners").

    Args:
        classes: Size of the vocabulary.
        length: Most tokens of a window.
        blocks: Number of transformer blocks.
        width: Features of a token.
        heads: Attention heads of each block.
        dropout: Dropout probability.
        tied: Whether the head shares its weight with the token embedding.
    """

    def __init__(
        self,
        classes: int,
        length: int,
        *,
        blocks: int = 4,
        width: int = 64,
        heads: int = 4,
        dropout: float = 0.0,
        tied: bool = False,
    ) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(classes, width), nn.Embedding(length, width)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(TransformerBlock(width, heads, dropout) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes, bias=False)
        self.apply(_initialise)
        if tied:
            self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at every position, [batch, length, classes], from tokens [batch, length]."""
        indices = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.drop(self.tokens(tokens) + self.positions(indices))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.norm(x))
        return logits


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class ResidualBlock(nn.Module):
    """Two convolutions with batch norm beside a skip connection (He et al. 2016, "Deep residual learning", figure 2).

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False), nn.BatchNorm2d(out)
        self.conv2, self.bn2 = nn.Conv2d(out, out, 3, 1, 1, bias=False), nn.BatchNorm2d(out)
        self.skip: nn.Module = nn.Identity()
        if stride > 1 or channels != out:
            self.skip = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, out, height / stride, width / stride] from [batch, channels, height, width]."""
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.skip(x))


class ResNet(nn.Module):
    """A residual network of stages; each stage after the first halves the image and doubles the channels.

    Args:
        colours: Colour planes of an image.
        classes: Number of classes.
        channels: Channels of the first stage.
        stages: Residual blocks of each stage.
    """

    def __init__(
        self, colours: int, classes: int, *, channels: int = 16, stages: tuple[int, ...] = (2, 2)
    ) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(colours, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        blocks: list[nn.Module] = []
        width = channels
        for stage, count in enumerate(stages):
            for block_index in range(count):
                out = channels * 2**stage
                blocks.append(ResidualBlock(width, out, 2 if stage and not block_index else 1))
                width = out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits [batch, classes] of images [batch, colours, height, width]."""
        x = F.relu(self.bn(self.conv(image)))
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


class MapHead(nn.Module):
    """A convolution, the mean over places and a linear map: the head of a local loss on maps (Belilovsky et al. 2020,
    "Decoupled greedy learning of CNNs"), and on the sequences of a `Conv1d`. Its last layer starts at zero.

    Args:
        shape: Shape of a message: channels, height, width; or channels, length.
        outputs: Shape of the head's output: [classes], or the shape of a float target.
        hidden: Channels of the convolution.
    """

    def __init__(self, shape: tuple[int, ...], outputs: tuple[int, ...], hidden: int = 32) -> None:
        super().__init__()
        convolution = nn.Conv2d if len(shape) == 3 else nn.Conv1d
        self.conv, self.linear = convolution(shape[0], hidden, 3, 2, 1), nn.Linear(hidden, math.prod(outputs))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, outputs] from [batch, channels, height, width] or [batch, channels, length]."""
        scores: Tensor = self.linear(F.relu(self.conv(x)).mean(tuple(range(2, x.dim()))))
        return scores
