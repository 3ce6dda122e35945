"""Models of vectors and of several inputs: branches, options, inputs that are read late, parameters nobody trains."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures.base import Architecture, numbers

__all__ = ["MIXED"]


class MLP(nn.Module):
    """A list of layers and a loop over a slice of it."""

    def __init__(self, sizes: tuple[int, ...] = (7, 8, 6, 5), dropout: float = 0.0) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers[:-1]:
            x = self.dropout(F.gelu(layer(x)))
        return self.layers[-1](x)


class ImageAndVector(nn.Module):
    """Two towers, joined by concatenation; the vector is read after the image."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, padding=1),
            nn.ReLU(True),
            nn.Conv2d(3, 4, 3, stride=2, padding=1),
            nn.ReLU(True),
        )
        self.tabular = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4), nn.Hardswish(inplace=True))
        self.fusion = nn.Bilinear(16, 4, 6)
        self.out = nn.Linear(6 + 4, 5)

    def forward(self, image: Tensor, vector: Tensor) -> Tensor:
        a = self.cnn(image).flatten(start_dim=1)
        b = self.tabular(vector)
        joint = torch.hstack((self.fusion(a, b).relu_(), b))
        return self.out(joint)


class Options(nn.Module):
    """Keyword arguments that are no tensors choose what is computed."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.mid, self.out = nn.Linear(7, 8), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(
        self, x: Tensor, *, steps: int = 1, scale: float = 0.5, mode: str = "tanh", residual: bool = True
    ) -> Tensor:
        h = self.inp(x) * scale
        act = getattr(torch, mode)
        skip = h if residual else torch.zeros_like(h)
        for _ in range(steps):
            h = act(h)
        h = self.mid(h) + skip
        return self.out(act(h))


class Film(nn.Module):
    """Conditions its last block on an input that nothing reads before, and scales by a third at the very end."""

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
        h = h * (1 + gamma) + beta
        return self.tail(h) * strength.view(-1, 1, 1, 1) + x


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


class Routes(nn.Module):
    """Stages in a ModuleDict, each a ModuleList of dicts; the route is a list of names."""

    def __init__(self) -> None:
        super().__init__()
        self.route = ["narrow", "wide"]
        self.stages = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    nn.ModuleDict(
                        {
                            "lin": nn.Linear(7, 7 * k),
                            "act": nn.ReLU(inplace=True),
                            "back": nn.Linear(7 * k, 7),
                        }
                    )
                    for _ in range(2)
                )
                for name, k in (("wide", 2), ("narrow", 1))
            }
        )
        self.heads = nn.ParameterDict(
            {"weight": nn.Parameter(torch.randn(5, 7) * 0.3), "bias": nn.Parameter(torch.zeros(5))}
        )

    def forward(self, x: Tensor) -> Tensor:
        for name in self.route:
            for cell in self.stages[name]:
                x = x + cell["back"](cell["act"](cell["lin"](x)))
        return F.linear(x, self.heads["weight"], self.heads["bias"])


class SqueezeExcite(nn.Module):
    """In-place arithmetic on an activation of its own, gates by `mul_`."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv1d(2, 6, 3, padding=1)
        self.bn = nn.BatchNorm1d(6)
        self.act = nn.ReLU6(inplace=True)
        self.squeeze = nn.Linear(6, 3)
        self.excite = nn.Linear(3, 6)
        self.project = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.act(self.bn(self.expand(x)))
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(h.mean(-1)), inplace=True)))
        h = h * gate.unsqueeze(-1)
        h.add_(1.0).mul_(0.5)
        return self.project(h.amax(-1))


VECTOR = {"x": numbers(7)}

MIXED = (
    Architecture(
        name="mlp",
        make=MLP,
        inputs=VECTOR,
        cuts=(("layers.1",), ("layers.2",), ("layers.1", "layers.2")),
        classes=5,
        dropout=True,
    ),
    Architecture(
        name="image_and_vector",
        make=ImageAndVector,
        inputs={"image": numbers(1, 8, 8), "vector": numbers(3)},
        cuts=(("cnn.2",), ("tabular",), ("cnn.1", "tabular.1", "fusion", "out")),
        classes=5,
    ),
    Architecture(name="options", make=Options, inputs=VECTOR, cuts=(("mid",), ("mid", "out")), classes=5),
    Architecture(
        name="film",
        make=Film,
        inputs={"x": numbers(1, 6, 6), "t": numbers(3), "strength": numbers(1)},
        cuts=(("body",), ("time",), ("stem.1", "body.1", "tail")),
    ),
    Architecture(
        name="fine_tuned",
        make=FineTuned,
        inputs=VECTOR,
        cuts=(("neck",), ("backbone.2", "head"), ("backbone.4", "neck")),
        classes=5,
    ),
    Architecture(
        name="routes",
        make=Routes,
        inputs=VECTOR,
        cuts=(("stages.wide.0.lin",), ("stages.narrow.1.lin", "stages.wide.1.back")),
        classes=5,
    ),
    Architecture(
        name="squeeze_excite",
        make=SqueezeExcite,
        inputs={"x": numbers(2, 6)},
        cuts=(("squeeze",), ("bn", "excite", "project"), ("act",)),
        classes=4,
    ),
)
