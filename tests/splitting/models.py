"""Small models of the kinds that people have, and how each is called: what tests of splitting cut, compose and train."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    """Up one level, padded to the size of what was there on the way down, and that beside it."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2)
        x = F.pad(x, [0, skip.size(3) - x.size(3), 0, skip.size(2) - x.size(2)])
        return F.relu(self.conv(torch.cat([x, skip], 1)))


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


class Logits(GPT):
    """The logits of all tokens alone."""

    def forward(self, idx: Tensor) -> Tensor:  # type: ignore[override]
        found: Tensor = super().forward(idx, idx)[0]
        return found


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


class MLP(nn.Module):
    """A list of layers and a loop over a slice of it."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise((7, 8, 6, 5)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.dropout(F.gelu(layer(x)))
        return self.layers[-1](x)


def convolutions(dropout: float = 0.0) -> nn.Sequential:
    """A convolutional network without a class of its own, its activations in place."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(4 * 4 * 4, 5),
    )


class Film(nn.Module):
    """Predicts an image; conditions its last block on an input that nothing reads before, and scales by a third."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4), nn.SiLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.SiLU())
        self.time = nn.Linear(3, 8)
        self.tail = nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor, strength: Tensor) -> Tensor:
        h = self.stem(x)
        h = h + self.body(h)
        gamma, beta = self.time(t)[:, :, None, None].chunk(2, dim=1)
        return self.tail(h * (1 + gamma) + beta) * strength.view(-1, 1, 1, 1) + x


class FineTuned(nn.Module):
    """A frozen backbone with batch norm, a head that learns, and a head that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(7, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6), nn.BatchNorm1d(6, affine=False)
        )
        self.neck = nn.Linear(6, 6)
        self.norm_factor = nn.Parameter(torch.full((6,), 2.0), requires_grad=False)
        self.old_head = nn.Linear(6, 12)
        self.head = nn.Linear(6, 5)
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.backbone.requires_grad_(False)
        self.neck.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.neck(self.backbone(x))) / self.norm_factor
        return self.head(x)


class Tagger(nn.Module):
    """An LSTM between an embedding and a classifier of its outputs and its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(7, 5)
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.norm = nn.LayerNorm(12)
        self.fc = nn.Linear(12, 4)

    def forward(self, text: Tensor) -> Tensor:
        out, (h_n, _) = self.lstm(self.embed(text))
        final = torch.cat([h_n[-2], h_n[-1]], dim=1)
        return self.fc(self.norm(out.mean(1) + final))


class Queries(nn.Module):
    """Learned queries attend to what it reads, as DETR's and a Perceiver's do: its first layers read no input."""

    def __init__(self) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(3, 4))
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.keys, self.head = nn.Linear(7, 4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        queries = self.second(torch.relu(self.first(self.queries.expand(x.shape[0], -1, -1))))
        return self.head((queries * self.keys(x).unsqueeze(1)).sum(1))


# --- how they are called -----------------------------------------------------------------------------------

Draw = Callable[[int, int], Tensor]


def numbers(*shape: int) -> Draw:
    """Normal numbers, [batch, *shape], by (batch, seed)."""
    return lambda batch, seed: torch.randn(batch, *shape, generator=torch.Generator().manual_seed(seed))


def tokens(vocabulary: int, *shape: int) -> Draw:
    """Whole numbers below `vocabulary`, [batch, *shape], by (batch, seed)."""

    def draw(batch: int, seed: int) -> Tensor:
        drawn = torch.randint(vocabulary, (batch, *shape), generator=torch.Generator().manual_seed(seed))
        drawn.view(batch, -1)[0, 0] = vocabulary - 1  # so that a column of them has as many classes
        return drawn

    return draw


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A model as its user would write it, and how to call it.

    Attributes:
        make: Makes one of random parameters.
        inputs: By argument of `forward`, a function of (batch, seed).
        cuts: Sets of submodules before which it may be cut.
        output: The key or position of the prediction in what `forward` returns; None: it returns the prediction.
        classes: Of the prediction's last axis; None: it is real numbers.
        dropout: Whether `make` takes a rate of dropout.
    """

    make: Callable[..., nn.Module]
    inputs: Mapping[str, Draw]
    cuts: tuple[tuple[str, ...], ...]
    output: str | int | None = None
    classes: int | None = None
    dropout: bool = False

    def model(self, dropout: float = 0.0) -> nn.Module:
        """Return the model of one fixed seed, whatever else draws random numbers."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            return self.make(**({"dropout": dropout} if self.dropout else {}))

    def example(self, batch: int, seed: int = 0) -> dict[str, Tensor]:
        """Return arguments of `forward`, [batch, …] each."""
        return {name: draw(batch, seed + i) for i, (name, draw) in enumerate(self.inputs.items())}

    def call(self, model: nn.Module, arguments: Mapping[str, Tensor]) -> Tensor:
        """Return the prediction of a model for arguments."""
        found = model(**arguments)
        value: Tensor = found if self.output is None else found[self.output]
        return value


VECTOR = {"x": numbers(7)}
PICTURE = {"x": numbers(1, 8, 8)}

ARCHITECTURES: dict[str, Architecture] = {
    "mlp": Architecture(
        make=MLP,
        inputs=VECTOR,
        cuts=(("layers.1", "layers.2"), ("layers.2",)),
        classes=5,
        dropout=True,
    ),
    "convolutions": Architecture(
        make=convolutions,
        inputs={"input": numbers(1, 8, 8)},
        cuts=(("2", "6"), ("1", "2", "3", "4", "5", "6", "7", "8")),
        classes=5,
        dropout=True,
    ),
    "resnet": Architecture(
        make=ResNet,
        inputs=PICTURE,
        cuts=(("layer1.1", "layer2.0.conv2", "fc"), ("layer2.0.downsample", "layer2.1.bn2")),
        classes=10,
    ),
    "unet": Architecture(
        make=UNet,
        inputs=PICTURE,
        cuts=(("down2", "bottom", "up1", "up2"), ("up1.conv",)),
        classes=10,
    ),
    "gpt": Architecture(
        make=lambda dropout: Logits(dropout=dropout, tied=True),
        inputs={"idx": tokens(7, 6)},
        cuts=(("blocks.1", "blocks.2"), ("blocks.0.mlp", "blocks.1.drop", "blocks.2.ln2", "head")),
        classes=7,
        dropout=True,
    ),
    "rotary": Architecture(
        make=Rotary,
        inputs={"idx": tokens(7, 6)},
        cuts=(("first", "second", "head"),),
        output="logits",
        classes=7,
    ),
    "lstm": Architecture(
        make=Tagger, inputs={"text": tokens(7, 6)}, cuts=(("lstm", "fc"), ("norm",)), classes=4
    ),
    "queries": Architecture(
        make=Queries, inputs=VECTOR, cuts=(("second", "keys"), ("keys", "head")), classes=5
    ),
    "film": Architecture(
        make=Film,
        inputs={"x": numbers(1, 6, 6), "t": numbers(3), "strength": numbers(1)},
        cuts=(("time",), ("stem.1", "body.1", "tail")),
    ),
    "fine_tuned": Architecture(
        make=FineTuned, inputs=VECTOR, cuts=(("backbone.2", "head"), ("backbone.4", "neck")), classes=5
    ),
}
