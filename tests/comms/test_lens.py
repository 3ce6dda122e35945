"""Lenses: the slope of a readout's loss, with its present parameters, and nothing of their own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.comms.lens import LensGradient
from antiphon.comms.model import ContextSpec
from antiphon.comms.synthetic_gradients import Example
from antiphon.errors import ScenarioError
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
    own = lens(head=module, target=NUMBERS if regression else CLASS)
    torch.testing.assert_close(own.predict(each), slope(module, each))


def test_its_parameters_are_the_present_ones() -> None:
    module, each = layers(), example()
    own = lens(head=module)
    before = own.predict(each)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2.0)
    assert not torch.allclose(own.predict(each), before)
    torch.testing.assert_close(own.predict(each), slope(module, each))


def test_sources_take_the_place_of_the_parameters_of_a_copy() -> None:
    module, others, each = layers(), layers(), example()
    sources = {name: 2 * p.detach() for name, p in others.named_parameters()}
    own = lens(head=module, sources=sources)
    first = own.predict(each)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
    assert torch.equal(own.predict(each), first)
    with torch.no_grad():
        for p in others.parameters():
            p.mul_(2.0)
    torch.testing.assert_close(first, slope(others, each))


def test_a_loss_of_its_own_takes_the_place_of_the_target_s() -> None:
    module, each = layers(), example()
    own = lens(
        head=module, losses=lambda output, target: 3 * F.cross_entropy(output, target, reduction="none")
    )
    torch.testing.assert_close(own.predict(each), 3 * slope(module, each))


def test_it_has_nothing_to_learn_and_nothing_to_save() -> None:
    own, each = lens(head=layers()), example()
    assert own.parameters == own.buffers == {}
    assert own.trainable == []
    assert own.frozen
    loss, gradients = own.gradients([each, each])
    assert gradients == []
    torch.testing.assert_close(loss, 2 * own.loss(each))
    assert not own.learns_with(Example(each.message[:4], None, None, target=each.target))


def test_batch_norms_have_the_statistics_of_the_rows_and_keep_none() -> None:
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(18), nn.Dropout(0.5), nn.Linear(18, 4)).double()
    own, each = lens(head=module), example()
    before = {name: b.clone() for name, b in module.named_buffers()}
    module.train()
    module[2].p = 0.0
    torch.testing.assert_close(own.predict(each), slope(module, each))
    own = lens(head=module)
    kept = {name: b.clone() for name, b in module.named_buffers()}
    own.predict(each)
    assert all(torch.equal(b, kept[name]) for name, b in module.named_buffers())
    assert not torch.equal(before["1.running_mean"], kept["1.running_mean"])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({}, r"gradient\.head: a lens needs layers from the message to the target's outputs"),
        (
            {"head": layers(5)},
            r"gradient\.head: Sequential turns \[2, 18\] into \[2, 5\]; the graph needs \[2, 4\]",
        ),
        (
            {"head": layers(), "sources": {}},
            r"gradient\.parameters: nothing is named for '0.weight' of the head",
        ),
        (
            {"head": layers(), "sources": {n: draw(7, seed=1) for n, _ in layers().named_parameters()}},
            r"gradient\.parameters: '0.weight' of the head is \[6\], and what is named for it \[7\]",
        ),
    ],
)
def test_what_does_not_fit_is_one_line_with_its_key(given: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        lens(**given)


def test_it_is_computed_in_the_type_of_the_run() -> None:
    own = lens(head=layers().float(), sources=dict(layers().named_parameters()))
    assert own.predict(example()).dtype == DOUBLE
