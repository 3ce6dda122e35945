"""A gradient belongs to the message that was read, whenever it returns: compared with a loop written out in plain torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import comms
from antiphon.comms.loop.loop_channel import transit_of
from antiphon.errors import ScenarioError
from tests.kit.some import some

DOUBLE = torch.float64
SIZE = 3
SGD = {"kind": "linear", "optimiser": {"kind": "sgd", "lr": 0.05}}


class Hand:
    """A channel written out: a linear predictor, and the messages whose gradients it waits for."""

    def __init__(self) -> None:
        self.weight = torch.zeros(SIZE, SIZE, dtype=DOUBLE)
        self.bias = torch.zeros(SIZE, dtype=DOUBLE)
        self.messages: dict[int, Tensor] = {}
        self.returned: dict[int, Tensor] = {}

    def injected(self, number: int, message: Tensor) -> Tensor:
        """What the sender follows for a message."""
        self.messages[number] = message.detach()
        return (message * (message.detach() @ self.weight.T + self.bias)).sum() / len(message)

    def back(self, number: int, gradient: Tensor) -> None:
        """Add dL/dmessage of one objective, per sample."""
        known = self.returned.get(number, torch.zeros_like(gradient))
        self.returned[number] = known + gradient * len(gradient)

    def learn(self) -> Tensor | None:
        """Take a step of SGD on all that has come back."""
        if not self.returned:
            return None
        weight, bias = self.weight.requires_grad_(), self.bias.requires_grad_()
        loss = sum(
            (self.messages[n] @ weight.T + bias - delta).square().sum() / len(delta)
            for n, delta in self.returned.items()
        )
        assert isinstance(loss, Tensor)
        steps = torch.autograd.grad(loss, [weight, bias])
        self.weight, self.bias = (p.detach() - 0.05 * g for p, g in zip((weight, bias), steps, strict=True))
        self.returned = {}
        return loss.detach()


Reads = Sequence[Sequence[int]]
SCHEDULES: dict[str, Callable[[int], Reads]] = {
    "at once": lambda t: [[t]],
    "one behind": lambda t: [[t - 1]] if t else [],
    "four behind": lambda t: [[t - 4]] if t >= 4 else [],
    "every third, and late": lambda t: [[t - 2]] if t >= 2 and t % 3 == 0 else [],
    "two objectives for one message": lambda t: [[t], [t]],
    "two receivers, both late": lambda t: [[t - 2], [t - 2]] if t >= 2 else [],
    "three messages in one objective": lambda t: [[t - 2, t - 1, t]] if t % 3 == 2 else [],
    "the newest first": lambda t: [[t], [t - 1]] if t % 2 else [],
    "none in the first rounds": lambda t: [[t]] if t > 4 else [],
}


@pytest.mark.parametrize("learns", ["each", "third"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_the_predictor_learns_the_gradient_of_the_message_that_was_read(name: str, learns: str) -> None:
    torch.manual_seed(0)
    schedule, hand = SCHEDULES[name], Hand()
    eye, mind = nn.Linear(5, SIZE).double(), nn.Linear(SIZE, 2).double()
    channel = comms.Channel(SIZE, gradient=SGD, dtype=DOUBLE)
    kept: dict[int, Tensor] = {}
    for t in range(18):
        message = eye(torch.randn(4 if t % 5 else 3, 5, dtype=DOUBLE))  # also smaller batches
        (expected,) = torch.autograd.grad(hand.injected(t, message), eye.weight, retain_graph=True)
        channel.send(message)
        kept[t] = channel.receive()
        comms.learn(None, eye.parameters(), sent=[channel])
        torch.testing.assert_close(eye.weight.grad, expected, atol=1e-12, rtol=0)
        for numbers in schedule(t):
            leaves = [hand.messages[n].clone().requires_grad_() for n in numbers]
            for number, gradient in zip(
                numbers, torch.autograd.grad(_loss(mind, leaves), leaves), strict=True
            ):
                hand.back(number, gradient)
            comms.learn(_loss(mind, [kept[n] for n in numbers]), mind.parameters(), received=[channel])
        if learns == "each" or t % 3 == 2:
            loss, by_hand = channel.learn(), hand.learn()
            assert (loss is None) == (by_hand is None)
            if by_hand is not None:
                torch.testing.assert_close(loss, by_hand, atol=1e-12, rtol=0)
            kept = {n: leaf for n, leaf in kept.items() if n > t - 5}
        for network in (eye, mind):
            network.zero_grad()
        state = channel.state_dict()["parameters"]
        torch.testing.assert_close(state["last.weight"], hand.weight, atol=1e-12, rtol=0)
        torch.testing.assert_close(state["last.bias"], hand.bias, atol=1e-12, rtol=0)
    assert hand.weight.abs().max() > 0.01


def _loss(mind: nn.Module, messages: Sequence[Tensor]) -> Tensor:
    return torch.stack([mind(m).square().mean() for m in messages]).sum()


def test_channels_whose_receivers_are_behind_differently_learn_their_own_gradients() -> None:
    torch.manual_seed(0)
    near, far = (comms.Channel(SIZE, gradient=SGD, dtype=DOUBLE, name=name) for name in ("near", "far"))
    message = nn.Parameter(torch.zeros(2, SIZE, dtype=DOUBLE))
    old: list[Tensor] = []
    for _ in range(200):
        for channel in (near, far):
            channel.send(message.detach() + 0)
        old.append(far.receive())
        objective = near.receive().sum(1).mean()
        if len(old) > 2:
            objective = objective + 2 * old.pop(0).sum(1).mean()
        comms.learn(objective, [], received=[near, far])
        near.learn()
        far.learn()
    for channel, true in ((near, 1.0), (far, 2.0)):
        predicted = some(channel.predictor).parameters["last.bias"]
        torch.testing.assert_close(
            predicted.detach(), torch.full((SIZE,), true, dtype=DOUBLE), atol=1e-6, rtol=0
        )


def ones(rows: int = 4) -> Tensor:
    return torch.ones(rows, SIZE, dtype=DOUBLE)


def bias(channel: comms.Channel) -> float:
    """Of the first component's predicted gradient."""
    return float(channel.state_dict()["parameters"]["last.bias"][0])


def made(**settings: Any) -> comms.Channel:
    return comms.Channel(SIZE, dtype=DOUBLE, name="up", **{"gradient": SGD, **settings})


def test_a_message_the_predictor_has_learned_from_takes_no_more_gradients() -> None:
    channel = made()
    channel.send(ones())
    message = channel.receive()
    comms.learn(message.sum(), [], received=[channel])
    channel.learn()
    before = bias(channel)
    line = "channel up: the objective depends on a message that the predictor has learned from; call the channel's learn"
    p = nn.Parameter(ones())
    for received in (message, channel.receive()):
        with pytest.raises(ScenarioError, match=line):
            comms.learn((received * p).sum(), [p], received=[channel])
    assert p.grad is None, "it is refused before anything is written"
    channel.send(ones())
    with pytest.raises(ScenarioError, match=line):
        comms.learn(message.sum(), [], received=[channel])
    assert channel.learn() is None
    assert bias(channel) == before


def test_an_objective_that_depends_on_no_message_is_a_gradient_of_zero() -> None:
    channel = made()
    for _ in range(3):
        channel.send(ones())
        comms.learn(channel.receive().sum(), [], received=[channel])
        channel.learn()
    predicted = bias(channel)
    channel.send(ones())
    kept = channel.receive()
    weight = nn.Parameter(ones())
    comms.learn(weight.sum(), [weight], received=[channel])
    assert channel.learn() is None, "a gradient may still return: the receiver has the message"
    del kept
    channel.send(ones())
    assert some(channel.learn()) > 0, "none can return any more"
    assert 0 < bias(channel) < predicted
    assert channel.learn() is None


def test_a_receiver_that_begins_with_zeros_one_message_behind() -> None:
    channel, before = made(), ones() * 0
    for _ in range(100):
        channel.send(ones())
        received = channel.receive()
        comms.learn(before.sum(1).mean(), [], received=[channel])
        channel.learn()
        before = received
    assert float(
        some(channel.predictor).predict(transit_of(channel).open_messages.messages[-1].example)[0, 0]
    ) == pytest.approx(1)


def test_messages_that_are_not_learned_from_leave_no_trace() -> None:
    channel = made()
    for number in range(30):
        channel.send(ones())
        if number % 3 == 0:
            channel.receive()  # and it is dropped
        assert len(transit_of(channel).open_messages) == 1
    assert channel.learn() is None


def test_gradients_add_up_as_in_torch_and_none_is_not_zero() -> None:
    torch.manual_seed(0)
    eye, mind, idle = nn.Linear(5, SIZE).double(), nn.Linear(SIZE, 2).double(), nn.Parameter(ones())
    networks = [*eye.parameters(), *mind.parameters()]
    for coupling, learns in (("locked", False), ("detached", False), ("decoupled", True)):
        channel = made(coupling=coupling)
        optimiser = torch.optim.SGD([*networks, idle], lr=0.1, weight_decay=0.1, fused=True)
        for zeroed in (False, True, False):
            expected = {p: torch.zeros_like(p) for p in networks}
            for _ in range(3):  # three batches, one step
                x = torch.randn(4, 5, dtype=DOUBLE)
                channel.send(eye(x))
                roots, received = [], channel.receive()
                if channel.predictor is not None:
                    weight, bias = channel.state_dict()["parameters"].values()
                    predicted = torch.nn.functional.linear(received.detach(), weight, bias)
                    roots.append((eye(x) * predicted).sum() / 4)
                inputs = eye(x) if coupling == "locked" else received.detach()
                roots.append(mind(inputs).square().mean())
                grads = torch.autograd.grad(torch.stack(roots).sum(), networks, allow_unused=True)
                for p, g in zip(networks, grads, strict=True):
                    expected[p] += 0 if g is None else g
                comms.learn(
                    mind(received).square().mean(), [*networks, idle], sent=[channel], received=[channel]
                )
            for p in networks:
                torch.testing.assert_close(
                    torch.zeros_like(p) if p.grad is None else p.grad, expected[p], atol=1e-12, rtol=0
                )
            optimiser.step()
            if learns:
                assert channel.learn() is not None
            if zeroed:
                optimiser.zero_grad()
    assert idle.grad is None
    assert torch.equal(idle.data, ones()), "without a gradient it does not decay"


@pytest.mark.parametrize("how", ["sgd", "fused", "by hand"])
def test_a_gradient_that_was_used_is_replaced_without_zero_grad(how: str) -> None:
    p = nn.Parameter(ones())
    optimiser = torch.optim.Adam([p], lr=0.1, fused=how == "fused")
    for _ in range(3):
        comms.learn(p.sum(), [p])
        comms.learn(p.sum(), [p])
        assert torch.equal(some(p.grad), 2 * ones())
        if how == "by hand":
            with torch.no_grad():
                p -= 0.1 * some(p.grad)
        else:
            optimiser.step()
    optimiser.zero_grad()
    p.sum().backward()  # type: ignore[no-untyped-call]
    comms.learn(p.sum(), [p])
    assert torch.equal(some(p.grad), 2 * ones()), "a gradient from elsewhere is kept"


class _Reads(TorchDispatchMode):
    """Count the numbers that are read from tensors, for each of which a GPU is waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_gradients_set_to_zeros_are_read_at_once_however_many() -> None:
    counts = []
    for number in (1, 9):
        parameters = [nn.Parameter(ones()) for _ in range(number)]
        optimiser = torch.optim.SGD(parameters, lr=0.1)
        for _ in range(2):
            with _Reads() as reads:
                comms.learn(sum((p.sum() for p in parameters), torch.zeros(())), parameters)
            optimiser.step()
            optimiser.zero_grad(set_to_none=False)
        counts.append(reads.count)
    assert counts == [counts[0]] * 2


@pytest.mark.parametrize("zeroed", ["left out", "to zeros", "to None"])
def test_a_backward_on_gradients_that_a_step_has_used_is_not_lost_in_silence(zeroed: str) -> None:
    p = nn.Parameter(ones())
    optimiser = torch.optim.SGD([p], lr=0.1)
    comms.learn(p.sum(), [p])
    optimiser.step()
    if zeroed != "left out":
        optimiser.zero_grad(set_to_none=zeroed == "to None")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        comms.learn(p.sum(), [p])
        assert not caught
        optimiser.step()
        if zeroed != "left out":
            optimiser.zero_grad(set_to_none=zeroed == "to None")
        p.sum().backward()  # type: ignore[no-untyped-call]
        comms.learn(p.sum(), [p])
    if zeroed == "to None":
        assert torch.equal(some(p.grad), 2 * ones())
    assert [str(one.message)[-12:] for one in caught] == ["None, before"] * (zeroed != "to None")


def test_a_gradient_that_no_step_has_used_is_not_replaced_in_silence() -> None:
    p, channel = nn.Parameter(ones()), made(gradient="mean")
    channel.send(p * 1)
    comms.learn(channel.receive().sum(), [p], sent=[channel], received=[channel])
    channel.learn()
    channel.send(p * 1)
    with pytest.warns(
        UserWarning, match="a gradient that no optimiser has used is replaced, because channel up"
    ):
        comms.learn(None, [p], sent=[channel])


def test_a_loop_without_learn_keeps_a_sum_that_the_next_step_takes() -> None:
    torch.manual_seed(0)
    batches, found = torch.randn(40, 4, SIZE, dtype=DOUBLE), []
    for keep in (False, True):
        channel = made(gradient={"kind": "mlp", "hidden": [4], "optimiser": {"kind": "sgd"}})
        kept = []
        for x in batches:
            channel.send(x)
            message = channel.receive()
            comms.learn(message.square().sum(), [], received=[channel])
            kept += [message] if keep else []
            del message
        assert len(transit_of(channel).open_messages) == (40 if keep else 17)
        found.append(
            [some(channel.learn()), *channel.parameters(), *some(channel.predictor).buffers.values()]
        )
        assert channel.learn() is None
    torch.testing.assert_close(*found, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", ["linear", "local"])
def test_a_loop_without_learn_is_flat_and_says_what_is_missing(kind: str) -> None:
    target = {"target": "label"} if kind == "local" else {}
    channel = made(gradient={"kind": kind, **target}, context={"label": 2})
    label = torch.zeros(4, dtype=torch.int64)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(600):
            channel.send(ones(), label=label)
            comms.learn(channel.receive().sum(), [], received=[channel])
    assert [str(w.message).split(";")[0] for w in said] == [
        "channel up: the gradients of 256 messages have returned without a step of its predictor"
    ]
    assert len(transit_of(channel).open_messages) <= 17
    channel.send(torch.ones(2, SIZE, dtype=DOUBLE), label=label[:2])  # and another batch size is no error
    comms.learn(channel.receive().sum(), [], received=[channel])


def test_a_sender_that_never_learns_is_told_and_flat() -> None:
    channel, p = made(), nn.Parameter(ones())
    for _ in range(1024):
        channel.send(p * 1)
    with pytest.warns(UserWarning, match="1024 messages were sent since its sender learned"):
        channel.send(p * 1)
    for _ in range(3):
        channel.send(p * 1)
    assert len(transit_of(channel).injections) == 1024


@pytest.mark.parametrize(
    ("given", "missing"), [({"received"}, "sent=[channel]"), ({"sent"}, "received=[channel]"), (set(), None)]
)
def test_a_loop_that_leaves_out_one_end_of_a_channel_is_warned_once(
    given: set[str], missing: str | None
) -> None:
    channel, p = made(gradient="mean"), nn.Parameter(ones())
    ends = {end: [channel] for end in given or {"sent", "received"}}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(50):
            channel.send(p * 1)
            comms.learn(channel.receive().sum(), [p], **ends)
            p.grad = None
            channel.learn()
    assert [str(w.message).split("; pass ")[1].split(" to the ")[0] for w in said] == [missing] * bool(
        missing
    )


def test_a_window_of_many_messages_is_not_taken_for_a_sender_that_does_not_learn() -> None:
    channel, p = made(gradient="mean"), nn.Parameter(ones())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(60):
            channel.send(p * 1)
            comms.learn(channel.receive().sum(), [], received=[channel])
            if step % 12 == 11:
                comms.learn(None, [p], sent=[channel])
                p.grad = None
            channel.learn()


def test_what_a_loop_does_wrong_is_one_line() -> None:
    channel, p = made(), nn.Parameter(ones())
    wrong: Mapping[str, Callable[[], object]] = {
        "learn: sent is not a list of channels; write sent=[channel]": lambda: comms.learn(
            None, [], sent=channel
        ),  # type: ignore[arg-type]
        "learn: parameters are not a list of tensors; write network.parameters()": lambda: comms.learn(
            None,
            nn.Linear(2, 2),  # type: ignore[arg-type]
        ),
        "learn: the objective is no tensor: 0.5; pass a tensor": lambda: comms.learn(0.5, []),  # type: ignore[arg-type]
        "learn: the objective is torch.int64; pass a tensor": lambda: comms.learn(torch.ones(4).long(), []),
        "learn: the graph of the objective or of a sent message was used": lambda: twice(p.square().sum(), p),
        "learn: a parameter or tensor was changed in place": lambda: stepped(p),
        "channel up: message: it was changed in place after it was sent; send a copy": lambda: changed(p),
        "learn: the objective was computed under torch.no_grad()": lambda: blind(p),
    }
    for line, call in wrong.items():
        with pytest.raises(ScenarioError) as refused:
            call()
        assert str(refused.value).startswith(line)
        assert "\n" not in str(refused.value)


def twice(loss: Tensor, p: nn.Parameter) -> None:
    comms.learn(loss, [p])
    comms.learn(loss, [p])


def stepped(p: nn.Parameter) -> None:
    loss = p.square().sum()
    with torch.no_grad():
        p += 1
    comms.learn(loss, [p])


def changed(p: nn.Parameter) -> None:
    channel, message = made(), p * 1
    channel.send(message)
    message += 1
    comms.learn(None, [p], sent=[channel])


def blind(p: nn.Parameter) -> None:
    with torch.no_grad():
        comms.learn(p.sum(), [p])
