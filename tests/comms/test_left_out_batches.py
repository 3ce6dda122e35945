"""Batches of a loop that are not finite, or that the loop skips: nothing of them is left in networks, predictors or later gradients."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon import comms

DOUBLE = torch.float64
SIZE, BATCH = 3, 4
KINDS: dict[str, Any] = {
    "linear": "linear",
    "rescaled": {"kind": "linear", "rescale": "rms"},
    "mlp": {"kind": "mlp", "hidden": [5]},
    "critic": "critic",
    "local": {"kind": "local", "target": "label"},
}
BAD = {"message": math.nan, "infinite message": math.inf, "objective": math.nan}


class _Stop(Exception):
    """An error of a loop's own."""


class _Loop:
    """Two layers joined by a channel, trained in float64 by SGD."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.eye, self.mind = nn.Linear(3, SIZE).to(DOUBLE), nn.Linear(SIZE, 2).to(DOUBLE)
        context = {"label": 2} if kind == "local" else {"place": (2,)}
        self.channel = comms.Channel(
            SIZE, gradient=KINDS[kind], context=context, dtype=DOUBLE, name="up", lr=0.1
        )
        self.parameters = [*self.eye.parameters(), *self.mind.parameters()]
        self.optimiser = torch.optim.SGD(self.parameters, 0.1)

    def forward(self, number: int, bad: str | None) -> Tensor:
        generator = torch.Generator().manual_seed(number)
        message = self.eye(torch.randn(BATCH, 3, generator=generator, dtype=DOUBLE))
        if bad and "message" in bad:
            message = message * BAD[bad]
        place = torch.randn(BATCH, 2, generator=generator, dtype=DOUBLE)
        names = {"label": torch.tensor([0, 1, 1, 0])} if "label" in repr(self.channel) else {"place": place}
        self.channel.send(message, **names)
        losses = self.mind(self.channel.receive()).square().sum(1)
        return losses * BAD[bad] if bad == "objective" else losses

    def batch(self, number: int, bad: str | None = None, way: str = "step") -> None:
        losses = self.forward(number, bad)
        if way == "checked before":
            return
        if way == "exception":
            raise _Stop
        comms.learn(losses, self.parameters, sent=[self.channel], received=[self.channel])
        if way == "nothing":
            return
        if way == "zero_grad":
            self.optimiser.zero_grad()
            return
        if way == "channel.learn":
            self.channel.learn()
            return
        self.optimiser.step()
        self.channel.learn()

    def numbers(self) -> list[Tensor]:
        state = self.channel.state_dict()
        trees = [state["parameters"], state["buffers"], *state["optimiser"].values()]
        kept = [value for tree in trees if isinstance(tree, dict) for value in tree.values()]
        return [p.detach().clone() for p in self.parameters] + [t for t in kept if isinstance(t, Tensor)]


def _trained(kind: str, bad: str | None, way: str) -> _Loop:
    loop = _Loop(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(6):
            if number != 3:
                loop.batch(number)
            elif bad is not None:
                try:
                    loop.batch(number, bad, way)
                except _Stop:
                    continue
    return loop


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_that_is_not_finite_leaves_nothing_behind(kind: str, bad: str) -> None:
    expected = _trained(kind, None, "").numbers()
    assert any(t.abs().max() > 0 for t in expected[4:])
    for way in ("step", "channel.learn", "zero_grad", "nothing", "checked before", "exception"):
        if kind == "local" and bad == "objective":
            continue  # its messages are finite, and it learns from its sender's labels alone
        for of, without in zip(_trained(kind, bad, way).numbers(), expected, strict=True):
            assert torch.equal(of, without), way


@pytest.mark.parametrize("kind", ["linear", "rescaled", "mlp", "critic"])
def test_a_finite_batch_that_is_skipped_after_receive_is_not_learned_from(kind: str) -> None:
    expected = _trained(kind, None, "").numbers()
    loop = _Loop(kind)
    for number in range(6):
        if number == 3:
            loop.forward(number, None)
        else:
            loop.batch(number)
    for of, without in zip(loop.numbers(), expected, strict=True):
        assert torch.equal(of, without)


def test_a_message_that_nobody_received_is_learned_from_by_its_sender() -> None:
    loop = _Loop("linear")
    for number in range(3):
        loop.batch(number)
    gradients = []
    for count in (1, 2):
        for number in range(count):
            image = torch.full((BATCH, 3), 1.0 + number, dtype=DOUBLE)
            loop.channel.send(loop.eye(image), place=torch.ones(BATCH, 2, dtype=DOUBLE))
        loop.optimiser.zero_grad()
        comms.learn(None, loop.eye.parameters(), sent=[loop.channel])
        gradients.append(loop.eye.weight.grad)
    assert gradients[0] is not None
    assert gradients[1] is not None
    assert not torch.allclose(*gradients)


def test_a_returned_gradient_that_is_not_finite_is_left_out_in_one_line() -> None:
    channel = comms.Channel(SIZE, name="up")
    channel.send(torch.ones(BATCH, SIZE, requires_grad=True) * 2)
    message = channel.receive()
    line = "^channel up: return_gradient: the gradient, or a loss, is not finite; the message is left out: .* \\(lr=\\)$"
    with pytest.warns(UserWarning, match=line) as said:
        channel.return_gradient(message, torch.full_like(message, math.nan))
    assert [warning.filename for warning in said] == [__file__]
    assert channel.learn() is None
    assert all(bool(p.isfinite().all()) for p in channel.parameters())


@pytest.mark.parametrize("kind", ["rescaled", "mlp"])
def test_a_predictor_whose_loss_overflows_keeps_its_parameters_and_statistics(kind: str) -> None:
    loop = _Loop(kind)
    for number in range(3):
        loop.batch(number)
    before = loop.numbers()
    loop.forward(3, None)
    message = loop.channel.receive()
    loop.channel.return_gradient(message, torch.full_like(message, 1e300))
    with pytest.warns(UserWarning, match="^channel up: the loss of its predictor is not finite"):
        assert loop.channel.learn() is None
    for after, kept in zip(loop.numbers(), before, strict=True):
        assert torch.equal(after, kept)


def test_a_message_that_is_left_out_returns_no_gradient_of_zero_to_what_its_sender_read() -> None:
    first, second = (comms.Channel(SIZE, name=name, lr=0.5) for name in ("first", "second"))
    middle = nn.Linear(SIZE, SIZE)
    for factor in (1.0, math.nan):
        first.send(torch.ones(BATCH, SIZE, requires_grad=True) * 2)
        second.send(middle(first.receive()) * factor)
        if factor == 1.0:
            comms.learn(second.receive().sum(1).mean(), [], received=[second])
            comms.learn(None, middle.parameters(), sent=[second], received=[first])
            assert first.learn() is not None
            assert second.learn() is not None
            middle.zero_grad()
    with pytest.warns(
        UserWarning, match=r"^channel second: a message \(row 0\) is not finite; the message is left out"
    ):
        comms.learn(None, middle.parameters(), sent=[second], received=[first])
    assert middle.weight.grad is None
    assert first.learn() is None
    first.send(torch.ones(BATCH, SIZE, requires_grad=True) * 2)
    second.send(middle(first.receive()))  # nothing holds the message before any longer
    assert first.learn() is None


@pytest.mark.parametrize("sender_first", [True, False])
def test_a_sender_learns_from_its_prediction_where_only_the_objective_is_not_finite(
    sender_first: bool,
) -> None:
    """The ends learn in calls of their own: what the receiver leaves out is not the sender's."""
    gradients = []
    for factor in (1.0, math.nan):
        loop = _trained("linear", None, "")
        loop.optimiser.zero_grad()
        objective = loop.forward(6, None) * factor
        ends = [
            (None, loop.eye, {"sent": [loop.channel]}),
            (objective, loop.mind, {"received": [loop.channel]}),
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for loss, network, channels in ends if sender_first else ends[::-1]:
                comms.learn(loss, network.parameters(), **channels)
        gradients.append(loop.eye.weight.grad)
        assert (loop.mind.weight.grad is None) == math.isnan(factor)
    assert gradients[0].abs().max() > 0
    assert torch.equal(*gradients)


def test_a_complex_gradient_that_is_not_finite_is_left_out() -> None:
    """The objective is finite, and its gradient 0 * inf."""
    weight = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    with pytest.warns(UserWarning, match=r"^comms\.learn: a gradient of the parameters is not finite"):
        comms.learn((weight * 0).abs().sqrt().sum(), [weight])
    assert weight.grad is None
