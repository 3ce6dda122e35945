"""What a channel of one's own loop has learned: its parameters, saved and loaded; and predictors of a user's in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import comms
from antiphon.errors import ScenarioError

BATCH, SIZE = 8, 4
KINDS: dict[str, Any] = {
    "linear": "linear",
    "normed": {"kind": "mlp", "hidden": [6]},
    "a module": lambda inputs, outputs: nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs)),
    "an optimiser of torch": {"kind": "linear", "optimiser": {"kind": "NAdam", "lr": 0.01}},
    "a class of an optimiser": {"optimiser": {"kind": torch.optim.RMSprop, "options": {"alpha": 0.8}}},
}


def channel_of(kind: Any, **settings: Any) -> comms.Channel:
    return comms.Channel(SIZE, gradient=kind, context={"label": 3}, lr=0.01, name="up", **settings)


def step(channel: comms.Channel, number: int) -> Tensor:
    """Send, receive and learn once, and return what the sender followed."""
    random = torch.Generator().manual_seed(number)
    message = torch.randn(BATCH, SIZE, generator=random).requires_grad_()
    label = torch.randint(3, (BATCH,), generator=random)
    channel.send(message * 1.0, label=label)
    loss = F.cross_entropy(channel.receive()[:, :3], label)
    comms.learn(None, [message], sent=[channel])
    comms.learn(loss, [], received=[channel])
    channel.learn()
    assert message.grad is not None
    return message.grad


@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_was_loaded_goes_on_to_the_same_bits(kind: str, tmp_path: Path) -> None:
    whole, other = channel_of(KINDS[kind]), channel_of(KINDS[kind], seed=1)
    for number in range(4):
        step(whole, number)
    torch.save(whole.state_dict(), tmp_path / "up.pt")
    step(other, 9)
    other.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    for number in range(4, 8):
        assert torch.equal(step(whole, number), step(other, number))
    for mine, theirs in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_state_is_a_copy() -> None:
    channel = channel_of("linear")
    state = channel.state_dict()
    step(channel, 0)
    assert not any(value.any() for value in state["parameters"].values())
    assert any(p.any() for p in channel.parameters())


def test_parameters_are_those_of_the_predictor_and_none_without_one() -> None:
    assert [tuple(p.shape) for p in channel_of("linear").parameters()] == [(SIZE, SIZE + 3), (SIZE,)]
    locked = comms.Channel(SIZE, coupling="locked")
    assert list(locked.parameters()) == []
    assert locked.state_dict() == {}
    locked.load_state_dict({})


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (
            comms.Channel(5, context={"label": 3}).state_dict(),
            "parameters 'last.weight' is [5, 8], the channel needs [4, 7]",
        ),
        ({}, "parameters 'last.weight' is None, the channel needs [4, 7]"),
        (
            channel_of(KINDS["normed"]).state_dict(),
            "parameters 'last.weight' is [4, 6], the channel needs [4, 7]",
        ),
    ],
)
def test_the_state_of_another_channel_is_refused_in_one_line(state: Any, line: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        channel_of("linear").load_state_dict(state)
    assert str(refused.value).startswith(f"channel up: state: {line}")


@pytest.mark.parametrize("coupling", ["locked", "detached"])
def test_a_channel_without_a_predictor_needs_no_context(coupling: str) -> None:
    channel = comms.Channel(SIZE, context={"label": 3}, coupling=coupling)
    channel.send(torch.ones(BATCH, SIZE))
    assert torch.equal(channel.receive(), torch.ones(BATCH, SIZE))
    channel.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
    with pytest.raises(ScenarioError, match="context: none is called 'lable'; did you mean 'label'"):
        channel.send(torch.ones(BATCH, SIZE), lable=torch.zeros(BATCH))


def test_a_predictor_with_a_loss_of_its_own_is_followed() -> None:
    class Scaled(nn.Linear):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__(inputs, outputs)

        def loss(self, prediction: Tensor, truth: Tensor) -> Tensor:
            return 3 * (prediction - truth).square().sum(1)

    def made(kind: Any) -> comms.Channel:
        channel = channel_of(kind)
        torch.nn.utils.vector_to_parameters(torch.full((32,), 0.1), list(channel.parameters()))
        return channel

    plain, scaled = made(lambda inputs, outputs: nn.Linear(inputs, outputs)), made(Scaled)
    losses = []
    for channel in (plain, scaled):
        channel.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
        comms.learn(channel.receive().square().mean(), [], received=[channel])
        losses.append(channel.learn())
    assert losses[0] is not None
    assert losses[1] is not None
    torch.testing.assert_close(losses[1], 3 * losses[0])
