"""Many predictors asked or taught at once: each gets what it gets alone."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from antiphon.comms.stacked import gradients_all, predict_all
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


def test_predictions_are_those_of_each_alone() -> None:
    asked = crowd()
    together = predict_all(asked)
    assert len(together) == len(asked)
    for said, (own, each) in zip(together, asked, strict=True):
        torch.testing.assert_close(said, own.predict(each), rtol=1e-12, atol=1e-12)


def test_gradients_are_those_of_each_alone() -> None:
    asked = crowd()
    statistics = [dict(own.buffers) for own, _ in asked]
    together = gradients_all([(own, [each]) for own, each in asked])
    for (loss, gradients), (own, each), before in zip(together, asked, statistics, strict=True):
        own.buffers = before
        expected, alone = own.gradients([each])
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["linear", "sobolev"])
def test_one_with_several_messages_is_taught_by_all_of_them(kind: str) -> None:
    own, other = make(kind), make(kind)
    examples = [example(seed=1), example(seed=11)]
    several, single = gradients_all([(own, examples), (other, examples[:1])])
    for found, expected in ((several, own.gradients(examples)), (single, other.gradients(examples[:1]))):
        torch.testing.assert_close(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1])


def test_predictors_of_different_conditions_are_not_mixed() -> None:
    """One reads a context of five features, one none: their stacks have other shapes."""
    bare, full = make("linear", context=()), make("linear")
    alone = dataclasses.replace(example(), context=None)
    said = predict_all([(bare, alone), (full, example()), (bare, alone)])
    torch.testing.assert_close(said[0], bare.predict(alone))
    torch.testing.assert_close(said[1], full.predict(example()))
