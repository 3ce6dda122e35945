"""Synthetic inputs: zeros at first, then what the message is likely to be."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon.comms.model import ContextSpec
from antiphon.comms.synthetic_inputs import INPUTS, InputModel
from antiphon.nets.schedules import Rate
from tests.comms.made import DOUBLE, draw

CONTEXT = (ContextSpec("image", (3,)), ContextSpec("to.phase", (), 2))


def make(kind: str, context: tuple[ContextSpec, ...] = CONTEXT, **given: Any) -> InputModel:
    settings: dict[str, Any] = {
        "generator": torch.Generator().manual_seed(0),
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.02, horizon=1),
        "hidden": (8,),
        "dtype": DOUBLE,
        **given,
    }
    return INPUTS[kind](4, context, **settings)


def shown(seed: int, rows: int = 32) -> tuple[Tensor, Tensor]:
    """A context, and the message that goes with it."""
    context = torch.cat([draw(rows, 3, seed=seed), F.one_hot(torch.arange(rows) % 2, 2).to(DOUBLE)], 1)
    return context, F.linear(context, draw(4, 5, seed=99))


@pytest.mark.parametrize("kind", list(INPUTS))
def test_it_expects_zeros_at_first_and_learns_what_is_sent(kind: str) -> None:
    own = make(kind)
    context, message = shown(0)
    assert torch.equal(own.predict(context, 32), torch.zeros(32, 4, dtype=DOUBLE))
    first, _ = own.gradients([(context, message, None)])
    torch.testing.assert_close(first, message.square().sum(1).mean())
    for now in range(300):
        loss, gradients = own.gradients([(*shown(now), None)])
        own.step(gradients, now)
    assert loss < first / 20
    assert own.updates == 300


@pytest.mark.parametrize("kind", list(INPUTS))
def test_only_what_arrived_counts_and_the_mean_is_over_the_whole_batch(kind: str) -> None:
    own = make(kind, norm="none")
    with torch.no_grad():
        own.parameters["last.weight"].copy_(draw(*own.parameters["last.weight"].shape, seed=5))
    context, message = shown(0)
    arrived = torch.arange(32) < 8
    lost = torch.where(arrived.unsqueeze(1), message, torch.nan)
    loss, gradients = own.gradients([(context, lost, arrived)])
    few, gradients_few = own.gradients([(context[:8], message[:8], None)])
    torch.testing.assert_close(loss, few / 4)
    for mine, theirs in zip(gradients, gradients_few, strict=True):
        torch.testing.assert_close(mine, theirs / 4)


def test_examples_are_summed() -> None:
    own = make("linear")
    one, other = (*shown(1), None), (*shown(2), None)
    both, gradients = own.gradients([one, other])
    apart = [own.gradients([each]) for each in (one, other)]
    torch.testing.assert_close(both, apart[0][0] + apart[1][0])
    torch.testing.assert_close(gradients[0], apart[0][1][0] + apart[1][1][0])


def test_a_prediction_has_no_graph_and_moves_no_statistics() -> None:
    own = make("mlp")
    own.gradients([(*shown(0), None)])
    before = {k: v.clone() for k, v in own.buffers.items()}
    assert before
    assert not own.predict(shown(1)[0], 32).requires_grad
    assert all(torch.equal(own.buffers[k], v) for k, v in before.items())
    own.gradients([(*shown(1), None)])
    assert not any(torch.equal(own.buffers[k], v) for k, v in before.items())


def test_without_context_it_learns_the_mean() -> None:
    own = make("linear", context=())
    message = draw(64, 4, seed=1) + 3
    for now in range(600):
        own.step(own.gradients([(None, message, None)])[1], now)
    torch.testing.assert_close(own.predict(None, 2), message.mean(0).expand(2, 4), atol=1e-3, rtol=0)


def test_a_linear_one_has_no_hidden_layers_whatever_a_scenario_keeps() -> None:
    assert list(make("linear").parameters) == ["last.weight", "last.bias"]
    assert "0.weight" in make("mlp").parameters


def test_what_a_deployed_one_expects_of_a_sample_does_not_depend_on_the_others() -> None:
    own = make("mlp")
    for now in range(5):
        own.step(own.gradients([(*shown(now), None)])[1], 0)
    context, _ = shown(9, 6)
    deployed = own.predict(context, 6, training=False)
    torch.testing.assert_close(own.predict(context[:2], 2, training=False), deployed[:2])
    assert not torch.allclose(own.predict(context[:2], 2), own.predict(context, 6)[:2], atol=1e-3)
