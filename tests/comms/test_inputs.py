"""Synthetic inputs: zeros at first, then what the message is likely to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms import Example, Mask
from antiphon.comms.examples import ContextSpec
from antiphon.comms.synthetic_inputs import INPUTS, InputModel
from antiphon.nets.schedules import Rate
from tests.comms.made import DOUBLE, draw

CONTEXT = (ContextSpec("image", (3,)), ContextSpec("to.phase", (), 2))


def make(kind: str, context: tuple[ContextSpec, ...] = CONTEXT, **given: Any) -> InputModel:
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.02, run_steps=1),
        "hidden": (8,),
        "dtype": DOUBLE,
        **given,
    }
    return INPUTS[kind](4, context, **settings)


def shown(seed: int, rows: int = 32) -> tuple[Tensor, Tensor]:
    """A context, and the message that goes with it."""
    context = torch.cat([draw(rows, 3, seed=seed), F.one_hot(torch.arange(rows) % 2, 2).to(DOUBLE)], 1)
    return context, F.linear(context, draw(4, 5, seed=99))


def taught(context: Tensor, message: Tensor, arrived: Tensor | bool = True) -> Example:
    """What it learns from a message."""
    return Example(message, context, None, valid=Mask.of(arrived))


@pytest.mark.parametrize("kind", list(INPUTS))
def test_it_expects_zeros_at_first_and_learns_what_is_sent(kind: str) -> None:
    own = make(kind)
    context, message = shown(0)
    assert torch.equal(own.predict(context, 32), torch.zeros(32, 4, dtype=DOUBLE))
    first, _ = own.loss_and_gradients([taught(context, message)])
    torch.testing.assert_close(first, message.square().sum(1).mean())
    for now in range(200):
        loss, gradients = own.loss_and_gradients([taught(*shown(now))])
        own.step(gradients, now)
    assert loss < first / 8


@pytest.mark.parametrize("kind", list(INPUTS))
def test_only_what_arrived_counts_and_the_mean_is_over_the_whole_batch(kind: str) -> None:
    own = make(kind, norm="none")
    with torch.no_grad():
        own.parameters["last.weight"].copy_(draw(*own.parameters["last.weight"].shape, seed=5))
    context, message = shown(0)
    arrived = torch.arange(32) < 8
    lost = torch.where(arrived.unsqueeze(1), message, torch.nan)
    loss, gradients = own.loss_and_gradients([taught(context, lost, arrived), taught(context, message)])
    few, gradients_few = own.loss_and_gradients([taught(context[:8], message[:8])])
    whole, gradients_whole = own.loss_and_gradients([taught(context, message)])
    torch.testing.assert_close(loss, few / 4 + whole)
    for mine, some, all_ in zip(gradients, gradients_few, gradients_whole, strict=True):
        torch.testing.assert_close(mine, some / 4 + all_)


def test_what_a_deployed_one_expects_of_a_sample_does_not_depend_on_the_others() -> None:
    own = make("mlp")
    for now in range(5):
        own.step(own.loss_and_gradients([taught(*shown(now))])[1], 0)
    context, _ = shown(9, 6)
    deployed = own.predict(context, 6, training=False)
    torch.testing.assert_close(own.predict(context[:2], 2, training=False), deployed[:2])
    assert not torch.allclose(own.predict(context[:2], 2), own.predict(context, 6)[:2], atol=1e-3)
