"""Lone predictors computed as stacks of one: what they compute by themselves."""

from __future__ import annotations

import torch

from antiphon.comms.stacked import gradients, predict
from antiphon.comms.synthetic_gradients import Example, Predictor
from tests.comms.made import case, draw, example, make

MASK = torch.tensor([True, True, False, True, False, True])


def crowd() -> list[tuple[Predictor, Example]]:
    """Three of several kinds, with numbers and messages of their own; one of the three has a mask."""
    found = []
    for place, name in enumerate(("linear", "mlp", "conv", "sobolev", "local", "local, sites")):
        for member in range(3):
            own, each = case(name)
            with torch.no_grad():
                for parameter in own.trainable:
                    parameter.add_(0.1 * draw(*parameter.shape, seed=7 * place + member))
            each.message = each.message + member
            each.valid = MASK if member == 1 else None
            found.append((own, each))
    bare = Example(example().message, None, example().delta)
    return [*found, (make("linear", context=()), bare)]


def test_each_says_and_learns_what_it_does_alone() -> None:
    asked = [(own, [each]) for own, each in crowd()]
    asked.append((make("linear"), [example(seed=1), example(seed=11)]))
    for said, (own, examples) in zip(predict_all([(own, e[0]) for own, e in asked]), asked, strict=True):
        torch.testing.assert_close(said, own.predict(examples[0]), rtol=1e-12, atol=1e-12)
    statistics = [dict(own.buffers) for own, _ in asked]
    for (loss, gradients), (own, examples), before in zip(
        gradients_all(asked), asked, statistics, strict=True
    ):
        own.buffers = before
        expected, alone = own.gradients(examples)
        torch.testing.assert_close(loss, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(gradients, alone, rtol=1e-12, atol=1e-12)
