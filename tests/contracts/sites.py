"""Scenarios whose predictors are applied at the tokens or pixels of messages."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from antiphon.base.kinds import fitting
from tests.contracts.builders import Document, Play, levels, ring

KINDS = ("linear", "mlp", "critic", "sobolev", "sobolev_label", "local")
LAYERS: Document = {"hidden": [4], "norm": "layer"}
LSTM: Document = {"network": {"kind": "lstm", "size": 3}, "clock": {"unroll": 3}}


ENDS = Play(share=0.15)
TOKENS: Document = {"size": [3, 2]}
PIXELS: Document = {"size": [2, 2, 2]}


def tokens(**keys: Any) -> Document:
    """A channel of three tokens, with these keys of its synthetic gradient."""
    usual = {"kind": "linear", "context": ["following", "label", "words", "returned"]}
    return {**TOKENS, "gradient": {**usual, **keys}}


def pixels(**keys: Any) -> Document:
    """A channel of maps, whose synthetic gradient is applied at every pixel."""
    usual = {"kind": "linear", "sites": True, "context": ["segments", "label", "sky", "returned"]}
    return {**PIXELS, "gradient": {**usual, **keys}}


def kind_of(kind: str, target: str) -> Document:
    """Keys of a gradient of a kind: a target of each token, and hidden layers, where it may have them."""
    layers = {} if kind == "local" else LAYERS
    return fitting("gradient", {"kind": kind, "target": target, **layers})


def module(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs))


class Head(nn.Module):
    """What tokens say together, of a message in its own shape, or flat as an agent gets it."""

    def __init__(self, **shapes: Any) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(2), nn.Linear(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.out(self.norm(x if x.dim() == 3 else x.unflatten(-1, (3, 2)))).mean(-2)
        return found


OWN_LOSSES: dict[str, Document] = {
    "head": {"kind": "local", "target": "label", "network": Head},
    "sobolev_label, head": {"kind": "sobolev_label", "target": "label", "network": Head},
}


def stands_in(channel: Document, signal: str, **keys: Any) -> Document:
    """A channel with a synthetic input at every site, in place of lost messages."""
    context = [signal, "x", "held", "age", "from.phase"]
    return {
        **channel,
        "input": {"kind": "linear", "sites": True, "context": context, **keys},
        "link": {"drop": 0.3},
    }


SITES: dict[str, Document] = {
    **{f"tokens, {kind}": ring(channel=tokens(**kind_of(kind, "following")), env=ENDS) for kind in KINDS},
    **{f"pixels, {kind}": ring(channel=pixels(**kind_of(kind, "segments")), env=ENDS) for kind in KINDS},
    "tokens, a label of all": ring(
        channel=[tokens(kind="sobolev_label", target="label"), tokens(kind="local", target="aim")],
        env=Play(gaps=0.3),
    ),
    "tokens, labels at times": ring(channel=tokens(kind="local", target="following"), env=Play(gaps=0.3)),
    "tokens, batch norm": ring(
        channel=tokens(kind="mlp", hidden=[4], norm="batch"), predictor={"kind": "sgd", "lr": 0.05}, env=ENDS
    ),
    "tokens, modules": ring(channel=tokens(kind=module), env=ENDS),
    "tokens, states": ring(
        agent=LSTM, channel=tokens(context=["from.state", "to.state", "to.phase", "following"]), env=ENDS
    ),
    "tokens, shares of windows": ring(
        agent={"learn": 0.5, "clock": {"unroll": 2}}, channel=tokens(kind="sobolev", **LAYERS), env=ENDS
    ),
    "tokens, shared port": ring(6, channel=[{**tokens(), "port": "out"}, tokens(scale=0.3)], env=Play()),
    "tokens, inputs": levels(channel=stands_in(tokens(), "words"), env=ENDS),
    "tokens, hidden layers of inputs": levels(
        channel=stands_in(tokens(), "words", kind="mlp", hidden=[4], norm="layer"), env=ENDS
    ),
    "pixels, inputs": levels(channel=stands_in(pixels(), "sky"), env=ENDS),
    "tokens, unlocked": levels(
        channel={
            **tokens(kind="mlp", **LAYERS),
            "coupling": "unlocked",
            "input": {"context": ["words", "x"]},
        },
        env=ENDS,
    ),
    "tokens, unlocked, without context": levels(
        channel={**tokens(context=[]), "coupling": "unlocked", "input": "linear"}, env=ENDS
    ),
    "one token": ring(channel={**tokens(context=["label", "returned"]), "size": [1, 4]}, env=ENDS),
    **{f"tokens, {name}": ring(channel=tokens(**keys), env=Play()) for name, keys in OWN_LOSSES.items()},
    "codes": ring(
        agent=[{"observes": ["codes"]}, {"observes": ["codes", "x"], "categories": "index"}], env=Play()
    ),
    "tokens as a whole": ring(channel=tokens(sites=False), env=ENDS),
}
"""Rings and levels by what they have."""
