"""Critics: the synthetic gradient is the slope of the loss they expect, and the label chooses which."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from antiphon.comms import Example, Predictor
from antiphon.comms.examples import ContextSpec
from tests.comms.made import CLASSES, LABEL, PLACE, SIZE, example, make
from tests.kit.some import some

CRITICS = ("critic", "sobolev")


def values_by_hand(own: Predictor, each: Example) -> torch.Tensor:
    """The value of a critic without hidden layers, conditioned on LABEL and PLACE, row by row."""
    weight, bias, bilinear = (own.parameters[key].data for key in ("last.weight", "last.bias", "bilinear"))
    assert each.context is not None
    rows = []
    for message, context in zip(each.message, each.context, strict=True):
        label, place = int(context[:CLASSES].argmax()), context[CLASSES:]
        plain = weight[label] @ torch.cat([message, place]) + bias[label]
        rows.append(plain + message @ (bilinear @ place))
    return torch.stack(rows)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_first_categorical_signal_selects_and_real_ones_enter_twice(kind: str) -> None:
    own, each = make(kind), example()
    assert own.parameters["last.weight"].shape == (CLASSES, SIZE + 2)
    assert own.parameters["bilinear"].shape == (SIZE, 2)
    torch.testing.assert_close(own.value(each), values_by_hand(own, each))


def test_the_order_of_the_context_is_that_of_its_signals() -> None:
    own, turned = make("sobolev"), make("sobolev", context=(PLACE, LABEL))
    each = example()
    assert each.context is not None
    swapped = torch.cat([each.context[:, CLASSES:], each.context[:, :CLASSES]], 1)
    other = dataclasses.replace(each, context=swapped)
    assert torch.equal(turned.predict(other), own.predict(each))
    assert torch.equal(turned.value(other), own.value(each))


def test_of_several_categorical_signals_the_first_selects() -> None:
    second = ContextSpec("second", (), 2)
    own = make("sobolev", context=(second, LABEL))
    assert own.parameters["last.weight"].shape == (2, SIZE + CLASSES)
    assert "bilinear" not in own.parameters
    pair = ContextSpec("pair", (2,), 3)  # two choices at once are no single choice
    assert make("sobolev", context=(pair,)).parameters["last.weight"].shape == (1, SIZE + 6)
    assert make("critic", context=()).parameters["last.weight"].shape == (1, SIZE)


@pytest.mark.parametrize("kind", CRITICS)
def test_the_loss_is_the_mean_distance_from_what_came_back_and_of_sobolev_that_of_the_slopes(
    kind: str,
) -> None:
    own, each = make(kind, hidden=(5,)), example()
    slopes = (own.predict(each) - some(each.returned)).abs().sum(1).mean()
    values = (own.value(each) - some(each.loss)).abs().mean()
    expected = values + slopes if kind == "sobolev" else values
    torch.testing.assert_close(own.loss(each).detach(), expected)
