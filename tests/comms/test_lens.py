"""Lenses: the slope of a readout's loss, with its present parameters, and nothing of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import comms
from antiphon.comms import Example
from antiphon.comms.examples import ContextSpec
from antiphon.comms.label_gradients import LensGradient
from tests.comms.made import DOUBLE, NUMBERS, draw, example, make

CLASS = ContextSpec("answer", (), 4)

TOKENS = (3, 6)


def layers(outputs: int = 4) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.LayerNorm(6), nn.Flatten(), nn.Linear(18, outputs)).double()


def lens(**given: Any) -> LensGradient:
    own = make("lens", **{"shape": TOKENS, "target": CLASS, "context": (), **given})
    assert isinstance(own, LensGradient)
    return own


def slope(module: nn.Module, each: Example) -> Tensor:
    """Per sample, by autograd through the module itself."""
    message = each.message.clone().requires_grad_()
    assert each.target is not None
    output = module(message.unflatten(1, TOKENS))
    floats = each.target.is_floating_point()
    losses = (
        (output - each.target).square().mean(1)
        if floats
        else F.cross_entropy(output, each.target, reduction="none")
    )
    return torch.autograd.grad(losses.sum(), message)[0]


@pytest.mark.parametrize("regression", [False, True])
def test_it_is_the_gradient_of_the_loss_through_the_layers(regression: bool) -> None:
    module, each = layers(2 if regression else 4), example(regression=regression)
    own = lens(network=module, target=NUMBERS if regression else CLASS)
    torch.testing.assert_close(own.predict(each), slope(module, each))


def test_batch_norms_have_the_statistics_of_the_rows_and_keep_none() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(18), nn.Dropout(0.5), nn.Linear(18, 4)).double()
    own, each = lens(network=module), example()
    before = {name: b.clone() for name, b in module.named_buffers()}
    module.train()
    module[2].p = 0.0
    torch.testing.assert_close(own.predict(each), slope(module, each))
    own = lens(network=module)
    kept = {name: b.clone() for name, b in module.named_buffers()}
    own.predict(each)
    assert all(torch.equal(b, kept[name]) for name, b in module.named_buffers())
    assert not torch.equal(before["1.running_mean"], kept["1.running_mean"])


def test_in_a_loop_of_ones_own_it_follows_the_receivers_present_parameters() -> None:
    reader, below = layers(), nn.Linear(2, 18, dtype=DOUBLE)
    gradient = {"kind": "lens", "network": reader, "target": "label"}
    channel = comms.Channel(TOKENS, gradient=gradient, context={"label": 4}, dtype=DOUBLE)
    x, label = draw(6, 2, seed=1), torch.arange(6) % 4
    for _ in range(2):
        channel.send(below(x), label=label)
        whole = F.cross_entropy(reader(below(x).unflatten(1, TOKENS)), label)
        channel.credit().backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(below.weight.grad, torch.autograd.grad(whole, below.weight)[0])
        torch.testing.assert_close(channel.learn(), whole.detach())
        below.zero_grad()
        for p in reader.parameters():
            p.data.mul_(1.5)
    assert list(channel.parameters()) == []
