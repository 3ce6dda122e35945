"""Mistakes in a training loop of one's own, which would otherwise train nothing in silence."""

from __future__ import annotations

import contextlib
import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import comms
from antiphon.errors import ScenarioError, ScenarioWarning

SIZE = 3


def _loop(steps: int, **changes: Any) -> list[str]:
    """Return the warnings of a loop of two layers joined by a channel, with some changes that are mistakes."""
    torch.manual_seed(0)
    eye, mind = nn.Linear(3, SIZE), nn.Linear(SIZE, 2)
    both = [*eye.parameters(), *mind.parameters()]
    optimiser, channel = torch.optim.SGD(both, 0.1), comms.Channel(SIZE, name="up")
    own = {"both": both, "mind": [*mind.parameters()], "eye": [*eye.parameters()]}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(steps):
            message = changes.get("message", lambda sent: sent)(eye(torch.randn(4, 3)))
            channel.send(message)
            objective = changes.get("objective", lambda loss: loss)(mind(channel.receive()).square().mean())
            comms.learn(objective, own[changes.get("parameters", "both")], sent=[channel], received=[channel])
            optimiser.step()
            optimiser.zero_grad()
            if changes.get("learn", True):
                channel.learn()
    return [str(warning.message) for warning in said]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, None),
        ({"learn": False}, "its sender's optimiser has taken 50 steps without a step of its predictor"),
        ({"parameters": "mind"}, "its messages depend on none of the parameters that were passed"),
        ({"parameters": "eye"}, "the objective depends on parameters, but on none that were passed"),
        ({"message": torch.Tensor.detach}, "none of its messages has needed a gradient"),
        (
            {"message": lambda sent: sent * math.nan},
            "learn: a message is not finite (row 0): the objective is not",
        ),
        ({"objective": torch.Tensor.detach}, "the objective needs no gradient"),
        (
            {"objective": lambda loss: loss * math.nan},
            "learn: the objective is not finite; its batch is left out",
        ),
    ],
    ids=[
        "right",
        "no-learn",
        "receiver-only",
        "sender-only",
        "detached-message",
        "nan-message",
        "detached-objective",
        "nan-gradient",
    ],
)
def test_a_mistake_in_a_loop_is_warned_of_once(changes: dict[str, Any], warning: str | None) -> None:
    warned = _loop(60, **changes)
    assert len(warned) == bool(warning), warned
    assert not warned or str(warning) in warned[0]


def test_a_first_step_by_nothing_but_a_detached_message_is_warned_of() -> None:
    eye, channel = nn.Linear(3, SIZE), comms.Channel(SIZE, name="up")
    channel.send(eye(torch.ones(2, 3)).detach())
    with pytest.warns(UserWarning, match="^channel up: learn: no message has needed a gradient"):
        comms.learn(None, eye.parameters(), sent=[channel])


def test_a_second_learning_rate_is_refused_and_a_context_that_is_not_read_warned_of() -> None:
    optimiser = {"kind": "sgd", "lr": 0.01}
    line = r"^channel up: lr: 0\.1, but gradient\.optimiser has lr 0\.01; leave one out$"
    with pytest.raises(ScenarioError, match=line):
        comms.Channel(SIZE, name="up", lr=0.1, gradient={"kind": "linear", "optimiser": optimiser})
    comms.Channel(SIZE, lr=0.1, gradient={"kind": "linear", "optimiser": {"kind": "sgd"}})
    local = {"kind": "local", "target": "label", "network": nn.Linear(SIZE, 2)}
    with pytest.warns(ScenarioWarning, match="^channel up: context image is not used by your own network"):
        comms.Channel(SIZE, name="up", gradient=local, context={"label": 2, "image": (3,)})
    comms.Channel(SIZE, gradient=local, context={"label": 2})


def test_steps_of_several_optimisers_are_not_added_up() -> None:
    eye, mind = nn.Linear(3, SIZE), nn.Linear(SIZE, 2)
    networks, channel = nn.ModuleList([eye, mind]), comms.Channel(SIZE)
    optimisers = [torch.optim.Adam(network.parameters()) for network in networks]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(1, 61):
            channel.send(eye(torch.randn(4, 3)))
            loss = mind(channel.receive()).square().mean()
            comms.learn(loss, networks.parameters(), sent=[channel], received=[channel])
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            if step % 30 == 0:
                channel.learn()


def test_an_iterator_of_parameters_that_is_used_up_is_refused() -> None:
    channel, network = comms.Channel(SIZE), nn.Linear(SIZE, SIZE)
    parameters = network.parameters()
    for error in (
        contextlib.nullcontext(),
        pytest.raises(ScenarioError, match="its first use; write network"),
    ):
        channel.send(network(torch.ones(2, SIZE)))
        with error:
            comms.learn(None, parameters, sent=[channel])


@pytest.mark.parametrize(
    ("call", "line"),
    [
        (lambda channel: channel.receive(), "no message has been sent; call send before receive"),
        (
            lambda channel: channel.learn(),
            "learn: no message has been sent; call send, then comms.learn, then learn",
        ),
        (
            lambda channel: channel.return_gradient(torch.ones(2, SIZE), torch.ones(2, SIZE)),
            "return_gradient: no message has been sent; call send and receive before",
        ),
        (
            lambda channel: comms.learn(None, [torch.ones(2, requires_grad=True)], sent=[channel]),
            "learn: it is in sent=, but no message has been sent; call send before comms.learn",
        ),
    ],
    ids=["receive", "learn", "return_gradient", "comms.learn"],
)
def test_what_is_called_before_a_message_has_been_sent_is_refused(call: Any, line: str) -> None:
    channel = comms.Channel(SIZE, name="up")
    with pytest.raises(ScenarioError) as refused:
        call(channel)
    assert str(refused.value) == f"channel up: {line}"
    channel.send(torch.ones(2, SIZE, requires_grad=True))
    for _ in range(2):  # without a returned gradient there is nothing to learn
        assert channel.learn() is None
    assert channel.alignment() is None


@pytest.mark.parametrize("objective", [torch.tensor(1.0), torch.ones(4)])
def test_an_objective_without_a_gradient_is_refused_where_no_channel_is(objective: torch.Tensor) -> None:
    mind = nn.Linear(SIZE, 2)
    with pytest.raises(
        ScenarioError, match=r"^learn: the objective needs no gradient, and nothing is learned"
    ):
        comms.learn(objective, mind.parameters())
    comms.learn(objective, [])


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"scale": -1.0}, "gradient.scale: must be at least 0"),
        ({"discount": -0.5}, "gradient.discount: must be at least 0"),
        ({"optimiser": {"clip": -1.0}}, "gradient.optimiser.clip: must be greater than 0"),
        ({"optimiser": {"clip": 0}}, "gradient.optimiser.clip: must be greater than 0"),
    ],
)
def test_numbers_of_a_gradient_have_the_bounds_of_a_scenario(keys: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        comms.Channel(SIZE, gradient={"kind": "linear", **keys})


@pytest.mark.parametrize("losses", [[1.0, 2.0], 1.0, torch.ones(3)])
def test_losses_of_another_form_are_refused_where_a_critic_learns_from_them(losses: Any) -> None:
    channel = comms.Channel(SIZE, gradient="critic")
    channel.send(torch.ones(2, SIZE, requires_grad=True))
    with pytest.raises(ScenarioError, match=r"its critic needs losses, a tensor \[2\]"):
        channel.return_gradient(channel.receive(), torch.ones(2, SIZE), losses)
    with pytest.raises(ScenarioError, match="the message is a list; pass what receive"):
        channel.return_gradient([1.0], torch.ones(2, SIZE), torch.ones(2))  # type: ignore[arg-type]
