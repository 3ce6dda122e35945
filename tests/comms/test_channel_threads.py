"""A channel whose receiver is in another thread or process: the same numbers as one loop, and what cannot be is refused."""

from __future__ import annotations

import copy
import os
import pickle
import queue
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from antiphon import comms
from antiphon.errors import ScenarioError

DOUBLE = torch.float64
BEHIND, STEPS, SIZE = 2, 12, 4


class Loop:
    """A sender and a receiver `BEHIND` messages behind; the receiver learns where `how` says."""

    def __init__(self, kind: str) -> None:
        torch.manual_seed(0)
        self.critic = kind == "sobolev"
        self.eye, self.mind = nn.Linear(5, SIZE).double(), nn.Linear(SIZE, 3).double()
        self.seen = comms.Channel(SIZE, gradient=kind, lr=0.05, dtype=DOUBLE)
        self.optimisers = [torch.optim.Adam(n.parameters(), lr=0.05) for n in (self.eye, self.mind)]
        self.batches = torch.randn(STEPS, 6, 5, dtype=DOUBLE)
        self.kept: list[Tensor] = []

    def losses(self, message: Tensor) -> Tensor:
        """Of the receiver, [B]."""
        losses: Tensor = self.mind(message).square().mean(1)
        return losses

    def received(self, message: Tensor) -> None:
        """Let the receiver learn with `comms.learn`."""
        comms.learn(self.losses(message), self.mind.parameters(), received=[self.seen])
        self.optimisers[1].step()

    def elsewhere(self, message: Tensor) -> None:
        """Let the receiver learn from a plain tensor, as in another process, and return what it would send back."""
        copied: Tensor = pickle.loads(pickle.dumps(message))
        losses = self.losses(copied)
        self.optimisers[1].zero_grad()
        losses.mean().backward()  # type: ignore[no-untyped-call]
        self.optimisers[1].step()
        self.seen.return_gradient(message, copied.grad, losses if self.critic else None)

    def send(self, x: Tensor) -> None:
        self.seen.send(self.eye(x))
        self.kept.append(self.seen.receive())
        comms.learn(None, self.eye.parameters(), sent=[self.seen])
        self.optimisers[0].step()

    def run(self, how: str) -> list[Tensor]:
        with ThreadPoolExecutor(1) as thread:
            for x in self.batches:
                self.send(x)
                if len(self.kept) > BEHIND:
                    message = self.kept.pop(0)
                    if how == "thread":
                        thread.submit(self.received, message).result()
                    else:
                        (self.received if how == "loop" else self.elsewhere)(message)
                self.seen.learn()
        return [
            p.detach() for p in (*self.eye.parameters(), *self.mind.parameters(), *self.seen.parameters())
        ]


@pytest.mark.parametrize("kind", ["linear", "sobolev"])
def test_a_receiver_elsewhere_gives_the_numbers_of_one_loop(kind: str) -> None:
    expected = Loop(kind).run("loop")
    for how in ("thread", "elsewhere"):
        for found, own in zip(Loop(kind).run(how), expected, strict=True):
            torch.testing.assert_close(found, own, atol=1e-12, rtol=0)


def test_two_threads_at_their_own_pace_lose_no_gradient() -> None:
    seen = comms.Channel(SIZE, gradient={"kind": "mean", "optimiser": {"kind": "sgd"}}, lr=0.0, dtype=DOUBLE)
    messages: queue.Queue[Tensor | None] = queue.Queue(maxsize=4)
    count = 300

    def receiver() -> None:
        while (message := messages.get()) is not None:
            comms.learn(message.sum(1).mean(), [], received=[seen])

    thread = threading.Thread(target=receiver)
    thread.start()
    total = 0.0
    for _ in range(count):
        seen.send(torch.zeros(2, SIZE, dtype=DOUBLE))
        messages.put(seen.receive())
        total += float(seen.learn() or 0)
    messages.put(None)
    thread.join()
    total += float(seen.learn() or 0)
    assert total == count * SIZE, "each gradient of ones is learned from once"


def test_a_returned_gradient_must_fit() -> None:
    channel = comms.Channel(SIZE, name="up")
    channel.send(torch.ones(2, SIZE))
    message = channel.receive()
    for gradient, line in (
        (
            None,
            r"the gradient is None, but the message \[2, 4\]; pass .* message.grad after loss.backward\(\)",
        ),
        ([[0.0] * 4] * 2, r"the gradient is a list, but the message \[2, 4\]; pass dL/dmessage"),
        (torch.ones(2, 3), r"the gradient is \[2, 3\], but the message \[2, 4\]; pass dL/dmessage"),
    ):
        with pytest.raises(ScenarioError, match=f"channel up: return_gradient: {line}"):
            channel.return_gradient(message, gradient)
    channel.return_gradient(message, torch.ones(2, SIZE))
    channel.learn()
    for stranger in (message, torch.ones(2, SIZE)):
        with pytest.raises(
            ScenarioError, match="channel up: return_gradient: no gradient is awaited for this"
        ):
            channel.return_gradient(stranger, torch.ones(2, SIZE))
    critic, line = comms.Channel(SIZE, gradient="critic"), comms.Channel(SIZE, coupling="locked")
    critic.send(torch.ones(2, SIZE))
    with pytest.raises(
        ScenarioError, match=r"its critic needs losses, a tensor \[2\]; give the loss of each sample"
    ):
        critic.return_gradient(critic.receive(), torch.ones(2, SIZE))
    with pytest.raises(
        ScenarioError, match=r"it is locked; pass both networks' parameters to one comms\.learn"
    ):
        line.return_gradient(torch.ones(2, SIZE), torch.ones(2, SIZE))


def test_a_copy_has_the_predictor_and_no_messages() -> None:
    channel = comms.Channel(SIZE, name="up")
    channel.send(torch.ones(2, SIZE, requires_grad=True) * 2)
    comms.learn(channel.receive().sum(), [], received=[channel])
    channel.learn()
    for twin in (copy.deepcopy(channel), pickle.loads(pickle.dumps(channel))):
        for mine, own in zip(twin.parameters(), channel.parameters(), strict=True):
            assert torch.equal(mine, own)
        with pytest.raises(ScenarioError, match="channel up: no message has been sent"):
            twin.receive()
        twin.send(torch.ones(2, SIZE))


def test_a_message_of_another_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = comms.Channel(SIZE, name="up")
    channel.send(torch.ones(2, SIZE))
    message = channel.receive()
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a process that was forked here
    line = "channel up: its message was sent in another process, to which no gradient returns; pass the message and"
    with pytest.raises(ScenarioError, match=line):
        channel.receive()
    with pytest.raises(ScenarioError, match=line):
        comms.learn(message.sum(), [], received=[channel])
    channel.send(torch.ones(2, SIZE))
    channel.receive()
