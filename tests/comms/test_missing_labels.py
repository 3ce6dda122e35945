"""Labels of -100 in loops of one's own: they are no class of a context, and give no loss of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import comms
from antiphon.errors import ScenarioError

CLASSES, FEATURES = 3, 4


def trained(context: Any, signal: Tensor, gradient: Any, size: Any = FEATURES) -> tuple[Tensor, list[Tensor]]:
    """Return what a message is given after three steps of the predictor, [B, *size], and the predictor's parameters."""
    line = comms.Channel(size, context={"y": context}, gradient=gradient, lr=0.1, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    shape = len(signal), *([size] if isinstance(size, int) else size)
    weights, sent = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    sent.requires_grad_()
    for _ in range(4):
        sent.grad = None
        line.send(1.0 * sent, y=signal)
        loss = (line.receive() * weights).flatten(1).sum(1).mean()
        comms.learn(loss, [], received=[line])
        comms.learn(None, [sent], sent=[line])
        line.learn()
    assert sent.grad is not None
    assert line.predictor is not None
    return sent.grad, list(line.predictor.parameters.values())


@pytest.mark.parametrize("gradient", ["linear", {"kind": "mlp", "hidden": [8]}], ids=["linear", "mlp"])
def test_a_missing_label_is_no_class_of_a_context(gradient: Any) -> None:
    """It is the zeros of a one-hot context of floats."""
    labels = torch.tensor([0, 1, -100, 2, -100])
    one_hot = (labels[:, None] == torch.arange(CLASSES)).double()
    left, right = trained(CLASSES, labels, gradient), trained((CLASSES,), one_hot, gradient)
    torch.testing.assert_close(left, right, rtol=0, atol=0)


@pytest.mark.parametrize("sites", [(), (2,)], ids=["rows", "sites"])
def test_a_missing_label_gives_no_loss_of_its_own(sites: tuple[int, ...]) -> None:
    labels = torch.arange(6).reshape(-1, *[1] * len(sites)).expand(6, *sites) % CLASSES
    labels = labels.clone()
    labels[2:4] = -100
    context, size = ((sites, CLASSES), (*sites, FEATURES)) if sites else (CLASSES, FEATURES)
    given, parameters = trained(context, labels, {"kind": "local", "target": "y"}, size)
    assert bool((given[2:4] == 0).all())
    assert bool((given[[0, 1, 4, 5]] != 0).any())
    labels[2:4] = 0
    other, counted = trained(context, labels, {"kind": "local", "target": "y"}, size)
    assert bool((other[2:4] != 0).any())
    assert any(not torch.equal(mine, theirs) for mine, theirs in zip(parameters, counted, strict=True))


def test_other_numbers_below_zero_are_refused() -> None:
    line = comms.Channel(FEATURES, context={"y": CLASSES})
    with pytest.raises(ScenarioError, match="'y' has the value -1, but 3 classes; pass integers from 0 to 2"):
        line.send(torch.zeros(3, FEATURES), y=torch.tensor([-100, -1, 2]))
