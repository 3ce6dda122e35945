"""Critics: the synthetic gradient is the slope of the loss they expect, and the label chooses which."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms import Example, Predictor
from tests.comms.made import CLASSES, SIZE, example, make
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


@pytest.mark.parametrize("kind", CRITICS)
def test_the_loss_is_the_mean_distance_from_what_came_back_and_of_sobolev_that_of_the_slopes(
    kind: str,
) -> None:
    own, each = make(kind, hidden=(5,)), example()
    slopes = (own.predict(each) - some(each.returned)).abs().sum(1).mean()
    values = (own.value(each) - some(each.loss)).abs().mean()
    expected = values + slopes if kind == "sobolev" else values
    torch.testing.assert_close(own.loss(each).detach(), expected)
