"""Critics in a plain torch loop: what each learns is the loss of its receiver and what comes after it."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import comms
from antiphon.comms.loop.loop_channel import transit_of
from antiphon.errors import ScenarioError
from tests.kit.some import some

DOUBLE = torch.float64
ROWS = 8


class Three:
    """Two critics in a chain of three networks; the middle one has no objective of its own."""

    def __init__(self, *, discount: float = 1.0, scale: float = 1.0) -> None:
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Linear(n, m).double() for n, m in ((5, 4), (4, 4), (4, 3)))
        gradient = {"kind": "sobolev", "hidden": [6], "discount": discount, "scale": scale}
        self.near, self.far = (
            comms.Channel(4, gradient=gradient, context={"label": 3}, lr=0.05, name=name, dtype=DOUBLE)
            for name in ("near", "far")
        )

    def forward(self) -> tuple[Tensor, Tensor]:
        """Send both messages; return the losses [B] and the second network's message."""
        x, label = torch.randn(ROWS, 5, dtype=DOUBLE), torch.randint(3, (ROWS,))
        self.near.send(self.first(x), label=label)
        message: Tensor = self.second(self.near.receive())
        self.far.send(message, label=label)
        return F.cross_entropy(self.third(self.far.receive()), label, reduction="none"), message

    def step(self) -> None:
        losses, _ = self.forward()
        comms.learn(losses, self.third.parameters(), received=[self.far])
        comms.learn(None, self.second.parameters(), received=[self.near], sent=[self.far])
        comms.learn(None, self.first.parameters(), sent=[self.near])
        self.near.learn()
        self.far.learn()
        for network in (self.first, self.second, self.third):
            network.zero_grad()

    def returned(self, channel: comms.Channel) -> Tensor | None:
        """What came back as loss for its newest message."""
        return transit_of(channel).open_messages.messages[-1].example.loss


@pytest.mark.parametrize("discount", [1.0, 0.25])
def test_what_comes_back_is_the_receivers_loss_and_the_value_of_its_own_critics(discount: float) -> None:
    three = Three(discount=discount)
    for _ in range(5):
        three.step()
    losses, _ = three.forward()
    predictor = some(three.far.predictor)
    value = predictor.value(transit_of(three.far).open_messages.messages[-1].example)
    assert value.abs().max() > 0.01
    comms.learn(losses, three.third.parameters(), received=[three.far])
    comms.learn(None, three.second.parameters(), received=[three.near], sent=[three.far])
    assert torch.equal(three.returned(three.far), losses.detach())
    assert torch.equal(three.returned(three.near), value * discount)
    mine = losses.detach() + 1
    losses, _ = three.forward()
    comms.learn(losses * 0 + mine, three.second.parameters(), received=[three.near], sent=[three.far])
    again = some(three.returned(three.near))
    assert (again - mine).abs().max() > 0.01 * discount, "its own objective and the value of what it sent"


def test_a_shadow_adds_nothing_to_what_its_sender_returns() -> None:
    three = Three(scale=0, discount=0)
    for _ in range(5):
        three.step()
    three.forward()
    comms.learn(None, three.second.parameters(), received=[three.near], sent=[three.far])
    assert torch.equal(three.returned(three.near), torch.zeros(ROWS, dtype=DOUBLE))


def test_a_mean_is_not_enough_for_a_critic() -> None:
    three = Three()
    losses, _ = three.forward()
    with pytest.raises(ScenarioError) as refused:
        comms.learn(losses.mean(), three.third.parameters(), received=[three.far])
    assert str(refused.value) == (
        "channel far: its critic learns the receiver's loss of each sample; pass learn an objective [8], not its mean"
    )
    with pytest.raises(
        ScenarioError, match="the objective has 5 samples, but the channels carry batches of 8"
    ):
        comms.learn(losses[:5], three.third.parameters(), received=[three.far])
