"""Stacked networks: N of one signature in one call are the N alone, with their gradients, at no more operations."""

from __future__ import annotations

import itertools

import pytest
import torch

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.network import OBJECTIVE, Head, Network
from antiphon.agents.pointer import Pointer
from antiphon.agents.recurrent import Recurrent
from tests.agents.made import evaluated, numbers
from tests.tensors import Counter, drawn, member, stack

BATCH = 6
NORMS = ("none", "layer", "batch")
HEADS = (Head(OBJECTIVE, (5,)), Head("to_b", (4,), "batch"), Head("map", (2, 3, 1), "layer"))


def networks() -> dict[str, Network]:
    found: dict[str, Network] = {
        f"mlp {norm} {activation}": Mlp((3, 4), (8, 7), HEADS, norm=norm, activation=activation)
        for norm, activation in zip(NORMS, ("gelu", "tanh", "relu"), strict=True)
    }
    found["mlp, no hidden layer"] = Mlp((12,), (), HEADS)
    found["mlp, identity"] = Mlp((12,), (8, 7), HEADS, norm="none", activation="identity")
    found |= {
        f"conv {norm} {pool}": Conv((2, 6, 5), (4, 3), HEADS, norm=norm, filter=3, pool=(pool, "none"))
        for norm, pool in zip(NORMS, ("avg", "max", "none"), strict=True)
    }
    found["conv, maps last"] = Conv((1, 5, 7), (4,), HEADS, filter=5, pool=("max",), activation="tanh")
    found["conv, no layer"] = Conv((2, 4, 3), (), HEADS)
    found |= {
        f"{kind} {norm}": Recurrent((2, 4), 5, HEADS, kind=kind, encoder=(7,), norm=norm, cell_norm=norm)
        for kind, norm in itertools.product(("rnn", "leaky", "gru", "lstm"), NORMS)
    }
    found |= {
        f"pointer {norm}": Pointer(27, (5, 2, 2), 3, (8,), HEADS, norm=norm, activation="tanh")
        for norm in NORMS
    }
    found["lstm, no encoder"] = Recurrent((8,), 5, HEADS, kind="lstm", cell_norm="layer")
    return found


NETWORKS = networks()
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@pytest.mark.parametrize(("training", "batch"), [(True, BATCH), (False, BATCH), (True, 1)])
@each_network
def test_stacked_networks_are_the_single_ones(network: Network, training: bool, batch: int) -> None:
    several = [numbers(network, 100 * seed) for seed in range(3)]
    x = drawn(7, 3, batch, *network.input_shape)
    state = drawn(8, 3, batch, network.state_size) if network.state_size else None
    parameters, buffers = (stack([pair[i] for pair in several]) for i in (0, 1))
    before = {k: v.clone() for k, v in buffers.items()}
    together = evaluated(network, parameters, buffers, x, training, state)
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    assert set(together[1]) == set(buffers)
    for name, port in together[0].items():
        assert port.shape == (3, batch, *network.port_shape(name))
    for i, (p, b) in enumerate(several):
        alone = evaluated(network, p, b, x[i], training, None if state is None else state[i])
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(member(ours, i), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp batch relu", "conv layer max", "lstm batch", "pointer none"])
def test_the_number_of_operations_does_not_depend_on_the_number_of_networks(name: str) -> None:
    network, counts = NETWORKS[name], []
    for size in (2, 9):
        parameters, buffers = (stack([tensors] * size) for tensors in numbers(network, 0))
        x = drawn(7, size, BATCH, *network.input_shape)
        state = drawn(8, size, BATCH, network.state_size) if network.state_size else None
        with Counter() as counter:
            evaluated(network, parameters, buffers, x, True, state)
        counts.append(counter.count)
    assert counts[0] == counts[1]


MLP = Mlp((6,), (4,), HEADS)
LSTM = Recurrent((6,), 4, HEADS)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (MLP, Mlp((2, 3), (4,), HEADS), True),
        (MLP, Mlp((6,), (4,), (HEADS[0], Head("to_c", (4,), "batch"), HEADS[2])), True),
        (MLP, Mlp((6,), (4,), (HEADS[1], HEADS[0], HEADS[2])), False),
        (MLP, Mlp((6,), (4,), HEADS, norm="layer"), False),
        (MLP, Mlp((6,), (4,), HEADS, activation="tanh"), False),
        (Mlp((6,), (), HEADS, norm="layer"), Mlp((6,), (), HEADS, activation="tanh"), True),
        (Conv((1, 6, 6), (4,), HEADS), Conv((1, 6, 6), (4,), HEADS, pool=("none",)), True),
        (Conv((1, 6, 6), (4,), HEADS), Conv((1, 6, 6), (4,), HEADS, filter=3), False),
        (LSTM, Recurrent((6,), 4, HEADS, norm="batch", leak=0.2), True),
        (LSTM, Recurrent((6,), 4, HEADS, cell_norm="layer"), False),
        (Recurrent((6,), 4, HEADS, kind="leaky"), Recurrent((6,), 4, HEADS, kind="leaky", leak=0.1), False),
    ],
)
def test_networks_have_one_signature_where_they_are_one_function(
    one: Network, other: Network, alike: bool
) -> None:
    assert (one.signature() == other.signature()) == alike
    assert one.stackable() is other.stackable() is None
