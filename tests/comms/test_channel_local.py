"""Channels of one's own loop with own losses: heads, reconstructions, and lenses on the receiver's live layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from antiphon.comms import Channel, learn
from antiphon.errors import ScenarioError

T, D, K, B = 3, 6, 4, 8


def sender() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(2, T * D)


def layers() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.LayerNorm(D), nn.Flatten(), nn.Linear(T * D, K))


def data() -> dict[str, torch.Tensor]:
    numbers = torch.Generator().manual_seed(2)
    return {"x": torch.randn(B, 2, generator=numbers), "label": torch.randint(0, K, (B,), generator=numbers)}


def test_a_lens_gives_the_sender_the_receiver_s_gradient_with_its_present_parameters() -> None:
    own, reader, some = sender(), layers(), data()
    gradient = {"kind": "lens", "head": reader, "target": "label"}
    channel = Channel([T, D], gradient=gradient, context={"label": K})
    for _ in range(3):
        channel.send(own(some["x"]), label=some["label"])
        message = channel.receive().unflatten(1, (T, D))
        loss = F.cross_entropy(reader(message), some["label"])
        whole = F.cross_entropy(reader(own(some["x"]).unflatten(1, (T, D))), some["label"])
        expected = torch.autograd.grad(whole, own.weight)[0]
        learn(None, own.parameters(), sent=[channel])
        torch.testing.assert_close(own.weight.grad, expected)
        assert torch.allclose(torch.as_tensor(channel.learn()), loss)
        with torch.no_grad():
            for p in reader.parameters():
                p.mul_(1.5)
    assert reader.training
    assert list(channel.parameters()) == []


@pytest.mark.parametrize(
    "keys",
    [
        {"head": layers()},
        {"pool": "mean"},
        {"pool": "mean", "hidden": [4], "norm": "layer"},
        {"reconstruct": {"target": "x", "weight": 0.5}},
        {
            "head": layers(),
            "reconstruct": {"target": "x", "head": nn.Sequential(nn.Flatten(), nn.Linear(T * D, 2))},
        },
    ],
)
def test_an_own_loss_is_learned_and_followed(keys: dict[str, Any]) -> None:
    own, some = sender(), data()
    gradient = {"kind": "local", "target": "label", **keys}
    channel = Channel([T, D], gradient=gradient, context={"label": K, "x": (2,)}, lr=0.02)
    optimiser = torch.optim.SGD(own.parameters(), lr=0.1)
    losses = []
    for _ in range(30):
        channel.send(own(some["x"]), label=some["label"], x=some["x"])
        learn(None, own.parameters(), sent=[channel])
        optimiser.step()
        losses.append(float(torch.as_tensor(channel.learn())))
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("gradient", "line"),
    [
        ({"kind": "lens", "target": "label"}, r"gradient\.head: a lens needs layers"),
        ({"kind": "lens", "head": nn.Flatten(), "target": "label"}, r"gradient\.head: Flatten turns"),
        ({"kind": "local", "target": "label", "pool": "max"}, r"gradient\.pool: there is no 'max'"),
        (
            {"kind": "local", "target": "label", "reconstruct": {"target": "y"}},
            r"gradient\.reconstruct\.target",
        ),
        (
            {"kind": "local", "target": "label", "head": layers(), "sites": True},
            r"gradient\.sites: a head, a lens",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(gradient: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        Channel([T, D], gradient=gradient, context={"label": K, "x": (2,)})
