"""Feedback alignment: the way back of a message through fixed weights instead of its receiver's own."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.agents.feedforward import Conv, HeadedNetwork, Mlp
from antiphon.agents.network import OBJECTIVE, Head, Tensors
from antiphon.agents.recurrent import Recurrent
from antiphon.nets.layers import Transport
from tests.kit.tensors import drawn, same

HEADS = (Head(OBJECTIVE, (10,)), Head("to_b", (6,), "batch"))
OBSERVED, TOLD = 3, 4
"""Of the seven inputs of a flat network, and of the seven channels of a convolution's."""


def flat(hidden: tuple[int, ...]) -> HeadedNetwork:
    return Mlp((OBSERVED + TOLD,), hidden, HEADS, norm="layer", activation="tanh")


def conv() -> HeadedNetwork:
    return Conv((OBSERVED + TOLD, 6, 5), (4, 3), HEADS, size=3, pool=("max", "none"))


def recurrent(encoder: tuple[int, ...]) -> HeadedNetwork:
    return Recurrent((OBSERVED + TOLD,), 5, HEADS, kind="gru", encoder=encoder, cell_norm="layer")


NETWORKS = {
    "hidden layers": flat((8, 7)),
    "no hidden layer": flat(()),
    "conv": conv(),
    "recurrent": recurrent(()),
    "recurrent, encoder": recurrent((8,)),
}
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def message_shape(network: HeadedNetwork) -> tuple[int, ...]:
    return (TOLD, *network.input_shape[1:])


def weights_of(network: HeadedNetwork, seed: int = 3) -> Tensors:
    drawn = network.feedback_weights(message_shape(network), torch.Generator().manual_seed(seed))
    return {name: weight.double() for name, weight in drawn.items()}


def numbers(network: HeadedNetwork) -> tuple[Tensors, Tensors]:
    parameters = network.parameters(torch.Generator().manual_seed(0))
    return {k: v.double().requires_grad_() for k, v in parameters.items()}, {
        k: v.double() for k, v in network.buffers().items()
    }


def inputs(network: HeadedNetwork) -> tuple[Tensor, Tensor]:
    """An observation and a message, [8, …] each."""
    space = network.input_shape[1:]
    return drawn(1, 8, OBSERVED, *space).requires_grad_(), drawn(2, 8, TOLD, *space).requires_grad_()


def loss_of(network: HeadedNetwork, numbers: tuple[Tensors, Tensors], x: Tensor, *ways: Transport) -> Tensor:
    ports, _ = network(*numbers, x, training=True, transports=ways)
    return sum((ports[head.name] * drawn(5, *ports[head.name].shape)).sum() for head in HEADS)  # type: ignore[return-value]


def gradients(network: HeadedNetwork, weights: Tensors | None) -> dict[str, Tensor]:
    """Of the parameters, the observation and the message, by backpropagation or with feedback `weights`."""
    own = numbers(network)
    observed, told = inputs(network)
    if weights is None:
        loss = loss_of(network, own, torch.cat([observed, told], 1))
    else:
        x = torch.cat([observed, told.detach()], 1)
        loss = loss_of(network, own, x, Transport(told.flatten(1), weights))
    found = torch.autograd.grad(loss, [*own[0].values(), observed, told], allow_unused=True)
    return {name: g for name, g in zip([*own[0], "observed", "told"], found, strict=True) if g is not None}


@each_network
def test_with_the_networks_own_weights_it_is_backpropagation(network: HeadedNetwork) -> None:
    own, _ = numbers(network)
    weights = {name: own[name].data[:, OBSERVED:] for name in weights_of(network)}
    expected, found = gradients(network, None), gradients(network, weights)
    torch.testing.assert_close(found, expected)


@each_network
def test_only_what_the_message_is_told_depends_on_the_weights(network: HeadedNetwork) -> None:
    expected, found = gradients(network, None), gradients(network, weights_of(network))
    assert not torch.allclose(found.pop("told"), expected.pop("told"))
    torch.testing.assert_close(found, expected)


def test_weights_are_drawn_as_the_layer_they_replace_and_follow_the_generator() -> None:
    network = Mlp((400,), (50,), HEADS)
    (weight,) = network.feedback_weights((100,), torch.Generator().manual_seed(0)).values()
    assert weight.shape == (50, 100)
    assert 0.049 < float(weight.abs().max()) <= 0.05  # 1/sqrt(400): that of the whole layer
    first, again, other = (weights_of(flat(()), seed) for seed in (3, 3, 4))
    same(first, again)
    assert not torch.equal(first["to_b.weight"], other["to_b.weight"])
    fewer = Mlp((7,), (), HEADS[1:]).feedback_weights((TOLD,), torch.Generator().manual_seed(3))
    assert torch.equal(fewer["to_b.weight"].double(), first["to_b.weight"])  # another head changes nothing
