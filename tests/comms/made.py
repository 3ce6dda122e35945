"""Small predictors of every kind, and messages for them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.base.extensions import Catalogue
from antiphon.comms import Example, Predictor
from antiphon.comms.examples import ContextSpec
from antiphon.nets.schedules import Rate

DOUBLE = torch.float64
BATCH, CHANNELS, SIDE, CLASSES = 6, 2, 3, 3
SHAPE = (CHANNELS, SIDE, SIDE)
"""Of a message: a map, so that all kinds can read it."""
SIZE = CHANNELS * SIDE * SIDE
LABEL, PLACE = ContextSpec("label", (), CLASSES), ContextSpec("place", (2,))
CONTEXT = (LABEL, PLACE)
NUMBERS = ContextSpec("answer", (2,))


def draw(*shape: int, seed: int) -> Tensor:
    """Standard normal numbers that depend on the seed alone."""
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def make(
    kind: str,
    *,
    trained: bool = True,
    shape: tuple[int, ...] = SHAPE,
    context: tuple[ContextSpec, ...] = CONTEXT,
    regression: bool = False,
    sites: tuple[int, ...] = (),
    **given: Any,
) -> Predictor:
    """A predictor; `trained` fills what starts at zero with other numbers."""
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.01, run_steps=1),
        "dtype": DOUBLE,
        **({"size": 3} if kind == "conv" else {}),
        "target": (NUMBERS if regression else ContextSpec("answer", sites, 4))
        if "target" in Catalogue("gradient")[kind].Options.model_fields
        else None,
        "hidden": (4, 5) if kind == "mlp" else (),
        **given,
    }
    own = Catalogue("gradient")[kind](shape, context, **settings)
    if trained:
        for i, parameter in enumerate(own.trainable):
            if not parameter.any():
                with torch.no_grad():
                    parameter.copy_(0.3 * draw(*parameter.shape, seed=50 + i))
    return own


def example(
    seed: int = 1,
    *,
    batch: int = BATCH,
    size: int = SIZE,
    regression: bool = False,
    sites: tuple[int, ...] = (),
) -> Example:
    """A message that has come back, with all that any kind learns from, conditioned on `CONTEXT`."""
    classes = torch.arange(batch * torch.Size(sites).numel()).view(batch, *sites) % 4
    label = F.one_hot((torch.arange(batch) + seed) % CLASSES, CLASSES)
    return Example(
        draw(batch, size, seed=seed),
        torch.cat([label.to(DOUBLE), draw(batch, 2, seed=seed + 1)], 1),
        draw(batch, size, seed=seed + 2),
        target=draw(batch, 2, seed=seed + 3) if regression else classes,
        loss=draw(batch, seed=seed + 4).abs(),
    )


class PixelHead(nn.Module):
    """A smooth head on maps, or on their pooled features, whose last layer starts at zero."""

    def __init__(self, shape: tuple[int, ...], outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.mix = nn.Linear(shape[0], 5)
        self.last = nn.Linear(5, outputs[-1])
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2) if x.dim() > 2 else x.unsqueeze(1)
        found: Tensor = self.last(torch.tanh(self.mix(pixels))).mean(1)
        return found


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {}) for kind in Catalogue("gradient")},
    "conv, hidden filters": ("conv", {"hidden": (4, 3)}),
    "critic, a hidden layer": ("critic", {"hidden": (5,)}),
    "sobolev, a hidden layer": ("sobolev", {"hidden": (5,)}),
    "sobolev, two, layer norm": ("sobolev", {"hidden": (5, 4), "norm": "layer"}),
    "sobolev_label, a hidden layer": ("sobolev_label", {"hidden": (5,)}),
    "sobolev_label, regression": ("sobolev_label", {"regression": True}),
    "sobolev_label, sites": ("sobolev_label", {"sites": (2, 3)}),
    "local, a hidden layer": ("local", {"hidden": (5,)}),
    "local, regression": ("local", {"regression": True}),
    "local, sites": ("local", {"sites": (2, 3)}),
    "local, as many sites": ("local", {"sites": (6,)}),
    "local, a head": ("local", {"network": PixelHead}),
    "sobolev_label, a head": ("sobolev_label", {"network": PixelHead}),
}
"""Every kind in the forms that differ, by a name for test ids."""


def case(name: str, **given: Any) -> tuple[Predictor, Example]:
    """A predictor of `CASES` and an example for it."""
    kind, settings = CASES[name]
    return make(kind, **settings, **given), example(**targets(settings))


def targets(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a form that its examples depend on."""
    return {key: settings[key] for key in ("regression", "sites") if key in settings}
