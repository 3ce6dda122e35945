"""Losses of models of a named target: of linear maps and of heads, pooled, and with slopes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from antiphon.comms import Example
from tests.comms.made import (
    SIZE,
    case,
    example,
    make,
)


def test_a_head_runs_without_dropout_and_with_the_statistics_of_the_rows() -> None:
    head = nn.Sequential(nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.9), nn.Linear(SIZE, 4))
    own, each = make("local", network=head), example()
    assert torch.equal(own.predict(each), own.predict(each))
    shifted = Example(each.message * 3 + 5, each.context, None, target=each.target)
    torch.testing.assert_close(own.predict(shifted) * 3, own.predict(each), rtol=1e-4, atol=1e-6)
    before = {name: b.clone() for name, b in own.buffers.items()}
    own.loss_and_gradients([each])
    assert not torch.equal(own.buffers["module.0.running_mean"], before["module.0.running_mean"])


@pytest.mark.parametrize("name", ["local, a hidden layer", "local, a head"])
def test_slope_and_training_of_one_pass_are_those_of_two(name: str) -> None:
    own, each = case(name)
    each = dataclasses.replace(each, returned=None, loss=None)
    before = dict(own.buffers)
    slope = own.predict_sent(each)
    assert each.learned is not None
    assert all(own.buffers[key] is value for key, value in before.items())
    torch.testing.assert_close(slope, own.predict(each))
    loss, gradients = own.loss_and_gradients([dataclasses.replace(each, learned=None)])
    after, own.buffers = own.buffers, before
    again, same = own.loss_and_gradients([each])
    torch.testing.assert_close(loss, again)
    for one, other in zip(gradients, same, strict=True):
        torch.testing.assert_close(one, other)
    assert after.keys() == own.buffers.keys()
    assert all(torch.equal(after[key], own.buffers[key]) for key in after)


@pytest.mark.parametrize("form", [{}, {"regression": True}, {"sites": (2, 3)}])
def test_sobolev_label_adds_the_distance_of_the_slopes_to_the_loss_of_the_control(
    form: dict[str, Any],
) -> None:
    own, control = make("sobolev_label", **form), make("local", **form)
    each = example(**form)
    assert each.returned is not None
    bare = dataclasses.replace(each, returned=None, loss=None)
    expected = control.loss(bare) + (own.predict(each) - each.returned).abs().sum(1).mean()
    torch.testing.assert_close(own.loss(each), expected)
