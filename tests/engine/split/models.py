"""Small models of the kinds that people have."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """A block of two convolutions with batch norm, its last activation in place."""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        same = stride == 1 and channels == out
        self.downsample = (
            None if same else nn.Sequential(nn.Conv2d(channels, out, 1, stride), nn.BatchNorm2d(out))
        )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet(nn.Module):
    """Stages of residual blocks, as torchvision has them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.layer1 = nn.Sequential(Residual(4, 4), Residual(4, 4))
        self.layer2 = nn.Sequential(Residual(4, 8, 2), Residual(8, 8))
        self.fc = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(F.relu(self.stem(x), inplace=True)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Up(nn.Module):
    """Up one level, with what was there on the way down beside it."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return F.relu(self.conv(torch.cat([F.interpolate(x, scale_factor=2), skip], 1)))


class UNet(nn.Module):
    """Two levels; both skips cross the bottom."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1)
        self.bottom = nn.Conv2d(4, 4, 3, padding=1)
        self.up1, self.up2 = Up(8, 3), Up(6, 3)
        self.out = nn.Linear(3 * 64, 10)

    def forward(self, x: Tensor) -> Tensor:
        first = F.relu(self.down1(x))
        second = F.relu(self.down2(F.max_pool2d(first, 2)))
        y = F.relu(self.bottom(F.max_pool2d(second, 2)))
        y = self.up2(self.up1(y, second), first)
        return self.out(y.view(y.size(0), -1))


class Block(nn.Module):
    """A block of a transformer, its attention in the block itself."""

    def __init__(self, width: int, dropout: float, *, causal: bool) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.drop = nn.Dropout(dropout)
        self.dropout, self.causal = dropout, causal

    def attend(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.size()
        q, k, v = (
            t.view(batch, tokens, 2, width // 2).transpose(1, 2) for t in self.qkv(x).split(width, dim=2)
        )
        rate = self.dropout if self.training else 0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=self.causal)
        return self.proj(y.transpose(1, 2).contiguous().view(batch, tokens, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop(self.attend(self.ln1(x)))
        return x + F.dropout(self.mlp(self.ln2(x)), self.dropout, self.training)


class ViT(nn.Module):
    """Patches, a class token and learned positions, on [B, 1, 8, 8]."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.patch = nn.Conv2d(1, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.position = nn.Parameter(torch.randn(1, 5, 8))
        self.blocks = nn.ModuleList(Block(8, dropout, causal=False) for _ in range(3))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


class GPT(nn.Module):
    """nanoGPT's idioms: its own loss, positions, an assertion on the length, a mask in a buffer, a tied head if asked for."""

    def __init__(self, *, dropout: float = 0.1, tied: bool = False, blocks: int = 3) -> None:
        super().__init__()
        self.length = 6
        self.wte, self.wpe = nn.Embedding(7, 8), nn.Embedding(6, 8)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(8, dropout, causal=True) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 7, bias=False)
        if tied:
            self.head.weight = self.wte.weight

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        _, tokens = idx.size()
        assert tokens <= self.length, f"{tokens} tokens, at most {self.length}"
        positions = torch.arange(0, tokens, dtype=torch.long, device=idx.device)
        x = self.drop(self.wte(idx) + self.wpe(positions))
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if targets is None:
            return self.head(x[:, [-1], :]), None
        logits = self.head(x)
        return logits, F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


class Rotary(nn.Module):
    """A table in a buffer, a padding mask of the tokens and a residual bias, all read by late blocks; returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 8)
        self.register_buffer("table", torch.randn(6, 8), persistent=False)
        self.register_buffer("mask", torch.ones(6, 6, dtype=torch.bool).tril())
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 7)

    def forward(self, idx: Tensor) -> dict[str, Any]:
        length = idx.shape[1]
        table = self.table[:length].cos()
        keep = (idx != 0).unsqueeze(-1)
        x = self.embed(idx) * table
        x = x + self.first(x) * keep
        weights = self.mask[:length, :length].to(x.dtype)
        x = x + self.second(weights @ (x * table)) * keep
        return {"logits": self.head(x), "hidden": x}


class TwoInputs(nn.Module):
    """The second input is read late, and two streams cross as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.streams = Streams()
        self.mix = nn.Linear(9, 5)
        self.head = nn.Linear(5 + 4, 3)

    def forward(self, image: Tensor, side: Tensor) -> Tensor:
        both = self.streams(image)
        y = torch.tanh(self.mix(torch.cat(both, 1)))
        return self.head(torch.cat([y, side], 1))


class Streams(nn.Module):
    """Two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 4), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(x)
