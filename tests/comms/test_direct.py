"""Predictors that regress the returned gradient: written-out gradients, and what reaches the sender of their error."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from antiphon.comms.synthetic_gradients import Example
from tests.comms.made import DOUBLE, PLACE, case, draw, example, make


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("conditioned", [True, False])
def test_the_written_out_gradient_of_linear_is_what_autograd_finds(conditioned: bool, masked: bool) -> None:
    own = make("linear") if conditioned else make("linear", context=())
    examples = [example(seed=1), example(seed=11)]
    for each in examples:
        each.context = each.context if conditioned else None
        each.valid = torch.tensor([True, False] * 3) if masked else None
    loss, gradients = own.gradients(examples)
    total = torch.stack([own.loss(each) for each in examples]).sum()
    expected = torch.autograd.grad(total, own.trainable)
    torch.testing.assert_close(loss, total.detach())
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["linear", "mlp", "conv", "conv, hidden filters"])
def test_what_is_propagated_is_the_slope_of_its_loss_in_the_message(name: str, masked: bool) -> None:
    """Czarnecki et al. 2017, Table 1: backpropagating L_SG with its target held constant."""
    own, each = case(name)
    if masked:
        each.valid = torch.tensor([True, False] * 3)
    said = own.propagated(each)
    rows, step = len(each.message), 1e-6
    for row, column in ((0, 0), (1, 3), (rows - 1, 7)):
        losses = []
        for sign in (1, -1):
            moved = each.message.clone()
            moved[row, column] += sign * step
            losses.append(
                own.loss(Example(moved, each.context, each.delta, valid=each.valid)).item(),
            )
        found = rows * (losses[0] - losses[1]) / (2 * step)
        assert float(said[row, column]) == pytest.approx(found, rel=1e-5, abs=1e-7)


def test_what_a_linear_one_propagates_is_twice_the_error_through_its_weights() -> None:
    own, each = make("linear"), example()
    assert each.delta is not None
    expected = 2 * (own.predict(each) - each.delta) @ own.parameters["last.weight"][:, : own.size]
    torch.testing.assert_close(own.propagated(each), expected.detach())
    assert not make("linear", trained=False).propagated(each).any()


def test_a_linear_predictor_has_no_hidden_layers_whatever_a_scenario_keeps() -> None:
    own = make("linear", hidden=(8,))
    assert list(own.parameters) == ["last.weight", "last.bias"]
    own.step(own.gradients([example()])[1], 0)


@pytest.mark.parametrize("name", ["linear", "mlp", "conv", "conv, hidden filters"])
def test_a_remembered_prediction_changes_no_number(name: str) -> None:
    own, each = case(name)
    fresh = own.gradients([each])
    each.prediction = own.predict(each).detach()
    again = own.gradients([each])
    for a, b in zip([fresh[0], *fresh[1]], [again[0], *again[1]], strict=True):
        assert torch.equal(a, b)


def test_a_conditioned_linear_gradient_learns_a_conditioned_rule() -> None:
    own = make("linear", shape=(4,), context=(PLACE,), trained=False)
    rule = draw(4, 6, seed=20)
    for now in range(1200):
        message, context = draw(64, 4, seed=100 + now), draw(64, 2, seed=9000 + now)
        delta = F.linear(torch.cat([message, context], 1), rule)
        loss, gradients = own.gradients([Example(message, context, delta)])
        own.step(gradients, now)
    assert loss < 1e-3
    torch.testing.assert_close(own.parameters["last.weight"].data, rule, atol=0.05, rtol=0)
    assert own.parameters["last.weight"].dtype == DOUBLE
