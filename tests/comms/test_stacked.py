"""Lone predictors computed as stacks of one: what they compute by themselves."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms.stacked import gradients, predict
from antiphon.comms.synthetic_gradients import Example, Predictor
from tests.comms.made import CASES, case, draw, example, make

MASK = torch.tensor([True, True, False, True, False, True])


def crowd() -> list[tuple[Predictor, Example]]:
    """Three of every kind, with numbers and messages of their own; one of the three has a mask."""
    found = []
    for place, name in enumerate(CASES):
        for member in range(3):
            own, each = case(name)
            with torch.no_grad():
                for parameter in own.trainable:
                    parameter.add_(0.1 * draw(*parameter.shape, seed=7 * place + member))
            each.message = each.message + member
            each.valid = MASK if member == 1 else None
            found.append((own, each))
    return found


def test_predictions_are_those_of_the_predictor() -> None:
    for own, each in crowd():
        torch.testing.assert_close(predict(own, each), own.predict(each), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_the_predictor() -> None:
    for own, each in crowd():
        before = dict(own.buffers)
        loss, found = gradients(own, [each])
        own.buffers = before
        expected, alone = own.gradients([each])
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "sobolev"])
def test_one_with_several_messages_is_taught_by_all_of_them(kind: str) -> None:
    own, other = make(kind), make(kind)
    examples = [example(seed=1), example(seed=11)]
    several, single = gradients(own, examples), gradients(other, examples[:1])
    for found, expected in ((several, own.gradients(examples)), (single, other.gradients(examples[:1]))):
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])
