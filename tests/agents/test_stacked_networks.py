"""Stacked networks: N of one signature in one call are the N alone, with their gradients, at no more operations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Network, Tensors
from antiphon.agents.objectives import OBJECTIVES
from antiphon.agents.pointer import Pointer
from antiphon.agents.recurrent import Recurrent
from tests.agents.made import numbers
from tests.tensors import DOUBLE, Counter, drawn, member, stack

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
        for norm, pool in itertools.product(NORMS, ("max", "avg", "none"))
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


def evaluated(
    network: Network, parameters: Tensors, buffers: Tensors, x: Tensor, state: Tensor | None, training: bool
) -> tuple[Tensors, Tensors, Tensors]:
    """Ports, new buffers, and the gradients of a sum of all ports' squares."""
    leaves = {k: v.clone().requires_grad_() for k, v in parameters.items()} | {
        "x": x.clone().requires_grad_()
    }
    if state is not None:
        leaves["state"] = state = state.clone().requires_grad_()
    own = {k: leaves[k] for k in parameters}
    ports, after = network(own, buffers, leaves["x"], training=training, state=state)
    # as after a normalisation the squares of a batch have a constant sum, each sample is weighed differently
    lead = x.dim() - len(network.input_shape)
    weights = torch.linspace(0.1, 2, x.shape[lead - 1], dtype=DOUBLE)
    total = torch.zeros((), dtype=DOUBLE)
    for port in ports.values():
        total = total + (port.square().flatten(lead).cumsum(-1).mean(-1) * weights).sum()
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    gradients = {
        k: torch.zeros_like(v) if g is None else g for (k, v), g in zip(leaves.items(), found, strict=True)
    }
    return ports, after, gradients


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [BATCH, 1])
@each_network
def test_stacked_networks_are_the_single_ones(network: Network, training: bool, batch: int) -> None:
    several = [numbers(network, 100 * seed) for seed in range(3)]
    x = drawn(7, 3, batch, *network.input_shape)
    state = drawn(8, 3, batch, network.state_size) if network.state_size else None
    parameters, buffers = (stack([pair[i] for pair in several]) for i in (0, 1))
    before = {k: v.clone() for k, v in buffers.items()}
    together = evaluated(network, parameters, buffers, x, state, training)
    assert all(torch.equal(buffers[k], v) for k, v in before.items()), "buffers are values"
    assert set(together[1]) == set(buffers)
    for name, port in together[0].items():
        assert port.shape == (3, batch, *network.port_shape(name))
    for i, (p, b) in enumerate(several):
        alone = evaluated(network, p, b, x[i], None if state is None else state[i], training)
        for ours, theirs in zip(together, alone, strict=True):
            torch.testing.assert_close(member(ours, i), theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("network", [NETWORKS["lstm batch"], NETWORKS["gru none"]], ids=["lstm", "gru"])
def test_a_stacked_network_without_a_state_begins_at_zeros(network: Network) -> None:
    several = [numbers(network, seed) for seed in range(2)]
    parameters, buffers = (stack([pair[i] for pair in several]) for i in (0, 1))
    x = drawn(7, 2, BATCH, *network.input_shape)
    zeros = torch.zeros(2, BATCH, network.state_size, dtype=DOUBLE)
    silent, _ = network(parameters, buffers, x, training=True)
    spoken, _ = network(parameters, buffers, x, training=True, state=zeros)
    assert torch.equal(silent[STATE], spoken[STATE])


@each_network
def test_the_number_of_operations_does_not_depend_on_the_number_of_networks(network: Network) -> None:
    counts = []
    for size in (2, 9):
        parameters, buffers = (stack([tensors] * size) for tensors in numbers(network, 0))
        x = drawn(7, size, BATCH, *network.input_shape)
        state = drawn(8, size, BATCH, network.state_size) if network.state_size else None
        with Counter() as counter:
            evaluated(network, parameters, buffers, x, state, training=True)
        counts.append(counter.count)
    assert counts[0] == counts[1]


def test_layers_of_a_stacked_conv_copy_their_maps_only_once() -> None:
    network = Conv((2, 8, 8), (4, 3), (), norm="batch", filter=3, pool=("max", "avg"))
    parameters, buffers = (stack([tensors] * 3) for tensors in numbers(network, 0))
    ports, _ = network(parameters, buffers, drawn(7, 3, BATCH, 2, 8, 8), training=True)
    assert ports[HIDDEN].transpose(0, 1).is_contiguous(), "they stay as the convolution wrote them"


def variants(make: Callable[..., Network], base: dict[str, Any], *changes: dict[str, Any]) -> list[Network]:
    return [make(**base), *(make(**(base | change)) for change in changes)]


DIFFERENT = {
    "mlp": variants(
        Mlp,
        {"input_shape": (6,), "hidden": (4,), "heads": HEADS},
        {"input_shape": (5,)},
        {"hidden": (5,)},
        {"hidden": (4, 4)},
        {"hidden": ()},
        {"norm": "layer"},
        {"activation": "tanh"},
        {"heads": HEADS[:2]},
        {"heads": (HEADS[1], HEADS[0], HEADS[2])},
        {"heads": (Head("to_a", (5,)), *HEADS[1:])},
        {"heads": (Head(OBJECTIVE, (5,)), Head("to_b", (4,), "none"), HEADS[2])},
        {"heads": (Head(OBJECTIVE, (5,)), Head("to_b", (3,), "batch"), HEADS[2])},
    ),
    "conv": variants(
        Conv,
        {"input_shape": (1, 6, 6), "filters": (4,), "heads": HEADS},
        {"input_shape": (1, 6, 7)},
        {"filters": (5,)},
        {"norm": "layer"},
        {"activation": "tanh"},
        {"filter": 3},
        {"pool": ("max",)},
        {"pool": ("avg",)},
    ),
    "recurrent": variants(
        Recurrent,
        {"input_shape": (6,), "size": 4, "heads": HEADS},
        {"input_shape": (5,)},
        {"size": 5},
        {"kind": "gru"},
        {"kind": "leaky"},
        {"kind": "leaky", "leak": 0.1},
        {"encoder": (3,)},
        {"encoder": (3,), "norm": "batch"},
        {"encoder": (3,), "activation": "tanh"},
        {"cell_norm": "layer"},
    ),
}


def test_networks_have_one_signature_only_where_they_are_one_function() -> None:
    every = list(itertools.chain(*DIFFERENT.values()))
    assert len({network.signature() for network in every}) == len(every)
    assert {network.stackable() for network in every} == {None}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Mlp((2, 3), (4,), HEADS), Mlp((6,), (4,), HEADS)),
        (Mlp((6,), (4,), HEADS), Mlp((6,), (4,), (HEADS[0], Head("to_c", (4,), "batch"), HEADS[2]))),
        (Mlp((6,), (), HEADS, norm="layer"), Mlp((6,), (), HEADS, activation="tanh")),
        (Conv((1, 6, 6), (4,), HEADS), Conv((1, 6, 6), (4,), HEADS, pool=("none",))),
        (Recurrent((6,), 4, HEADS), Recurrent((6,), 4, HEADS, norm="batch", leak=0.2)),
        (Recurrent((6,), 4, HEADS, encoder=(3,)), Recurrent((2, 3), 4, HEADS, encoder=(3,))),
    ],
)
def test_networks_that_are_one_function_have_one_signature(one: Network, other: Network) -> None:
    assert one.signature() == other.signature()
    assert hash(one.signature()) == hash(other.signature())


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("classification", torch.tensor([0, 3, 2, 1, 4, 4])),
        ("regression", drawn(5, BATCH, 5)),
        ("coding", torch.tensor([0, 3, 2, 1, 4, 4])),
        ("coding", drawn(5, BATCH, 5).sign().relu()),
    ],
    ids=["classification", "regression", "coding of a symbol", "coding of bits"],
)
def test_an_objective_looks_at_no_other_row(kind: str, target: Tensor) -> None:
    objective, output = OBJECTIVES[kind](), drawn(4, BATCH, 5)
    for measure in (objective.loss, objective.score):
        together = measure(output, target)
        assert together.shape == (BATCH,)
        alone = torch.cat([measure(output[i : i + 1], target[i : i + 1]) for i in range(BATCH)])
        assert torch.equal(together, alone)
        spoilt = output.clone()
        spoilt[1] = torch.nan
        rows = torch.arange(BATCH) != 1
        assert torch.equal(measure(spoilt, target)[rows], together[rows]), "nor at one that is no number"
