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
    "a class of an optimiser": {"optimiser": {"kind": torch.optim.RMSprop, "alpha": 0.8}},
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
    state = whole.state_dict()
    torch.save(state, tmp_path / "up.pt")
    step(other, 9)
    other.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
    other.receive()  # which the loaded state drops
    other.load_state_dict(torch.load(tmp_path / "up.pt", weights_only=True))
    for number in range(4, 8):
        assert torch.equal(step(whole, number), step(other, number))
    for mine, theirs in zip(whole.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    saved = torch.load(tmp_path / "up.pt", weights_only=True)["parameters"]
    assert all(torch.equal(value, saved[key]) for key, value in state["parameters"].items()), "a copy"


def test_the_state_of_another_channel_is_refused_in_one_line() -> None:
    line = r"channel up: state: parameters 'last.weight' is \[5, 8\], but the channel needs \[4, 7\]"
    with pytest.raises(ScenarioError, match=line):
        channel_of("linear").load_state_dict(comms.Channel(5, context={"label": 3}).state_dict())
    with pytest.raises(ScenarioError, match=r"parameters 'last.weight' is None"):
        channel_of("linear").load_state_dict({})


@pytest.mark.parametrize("coupling", ["locked", "detached"])
def test_a_channel_without_a_predictor_needs_no_context(coupling: str) -> None:
    channel = comms.Channel(SIZE, context={"label": 3}, coupling=coupling)
    channel.send(torch.ones(BATCH, SIZE))
    assert torch.equal(channel.receive(), torch.ones(BATCH, SIZE))
    channel.send(torch.ones(BATCH, SIZE), label=torch.zeros(BATCH, dtype=torch.int64))
    assert (list(channel.parameters()), channel.state_dict()) == ([], {})
