"""Lone predictors computed as stacks of one: what they compute by themselves."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms.stacked import gradients, predict
from antiphon.comms.synthetic_gradients import Example
from tests.comms.made import case, example, make

MASK = torch.tensor([True, True, False, True, False, True])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", ["linear", "linear, no context", "mlp", "sobolev", "local", "local, sites"])
def test_a_predictor_says_and_learns_what_it_does_by_itself(name: str, masked: bool) -> None:
    bare = Example(example().message, None, example().delta)
    own, each = (make("linear", context=()), bare) if "no context" in name else case(name)
    each.valid = MASK if masked else None
    torch.testing.assert_close(predict(own, each), own.predict(each), rtol=1e-12, atol=1e-12)
    before = dict(own.buffers)
    loss, found = gradients(own, [each])
    own.buffers = before
    expected, alone = own.gradients([each])
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


def test_several_messages_are_learned_from_together() -> None:
    own, examples = make("linear"), [example(seed=1), example(seed=11)]
    torch.testing.assert_close(gradients(own, examples), own.gradients(examples))
