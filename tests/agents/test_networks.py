"""Built-in networks against torch's layers over several ticks, as graphs, and N of one signature in one call."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Network
from antiphon.agents.pointer import Pointer
from antiphon.agents.recurrent import Recurrent
from tests.agents.made import composed, evaluated, numbers
from tests.agents.plain import Plain
from tests.kit.tensors import drawn, member, same, stack

BATCH, TICKS, SIZE = 6, 3, 5
NORMS = ("none", "layer", "batch")
HEADS = (Head(OBJECTIVE, (10,)), Head("to_b", (6,), "batch"), Head("map", (2, 3, 3), "layer"))


def networks() -> dict[str, Network]:
    """Every kind in the forms that differ."""
    found: dict[str, Network] = {
        f"mlp {norm} {activation}": Mlp((3, 4), (8, 7), HEADS, norm=norm, activation=activation)
        for norm, activation in zip(NORMS, ("gelu", "tanh", "relu"), strict=True)
    }
    found["mlp, no hidden layer"] = Mlp((12,), (), HEADS)
    found["mlp, identity"] = Mlp((12,), (8, 7), HEADS, norm="none", activation="identity")
    found |= {
        f"conv {norm} {pool}": Conv((2, 6, 5), (4, 3), HEADS, norm=norm, size=3, pool=(pool, "none"))
        for norm, pool in zip(NORMS, ("avg", "max", "none"), strict=True)
    }
    found["conv, maps last"] = Conv((1, 5, 7), (4,), HEADS, size=5, pool=("max",), activation="tanh")
    found["conv, filters of one pixel"] = Conv(
        (1, 6, 5), (4,), HEADS, norm="none", size=1, activation="identity"
    )
    found["conv, no layer"] = Conv((2, 4, 3), (), HEADS)
    found |= {
        f"{kind} {norm}": Recurrent((2, 4), SIZE, HEADS, kind=kind, encoder=(7,), norm=norm, cell_norm=norm)
        for kind, norm in itertools.product(("rnn", "leaky", "gru", "lstm"), NORMS)
    }
    found["lstm, no encoder"] = Recurrent((8,), SIZE, HEADS, kind="lstm", cell_norm="layer")
    found["leaky, a leak"] = Recurrent(
        (8,), SIZE, HEADS, kind="leaky", encoder=(7, 6), norm="layer", rate=0.2
    )
    found |= {
        f"pointer {norm}": Pointer(44, (10, 2, 2), 5, (8,), HEADS, norm=norm, activation="tanh")
        for norm in NORMS
    }
    found["pointer, no hidden layer"] = Pointer(21, (10, 2), 3, (), HEADS, norm="none")
    return found


NETWORKS = networks()
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def inputs(network: Network, batch: int = 8, seed: int = 1) -> Tensor:
    return drawn(seed, batch, *network.input_shape)


# --- beside torch's layers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
@each_network
def test_it_equals_torch_s_layers(network: Network, training: bool) -> None:
    parameters, buffers = numbers(network)
    before = {k: v.clone() for k, v in buffers.items()}
    module = Plain(network, parameters, buffers).train(training)
    state, after = None, buffers
    for x in drawn(50, TICKS, BATCH, *network.input_shape):
        theirs = module(x, state)
        ports, after = network(parameters, after, x, training=training, state=state)
        assert set(ports) == set(theirs) >= {HIDDEN, OBJECTIVE, "to_b", "map"}
        for name, port in ports.items():
            assert port.shape == (BATCH, *network.port_shape(name))
            torch.testing.assert_close(port, theirs[name], rtol=1e-11, atol=1e-11)
        state = ports.get(STATE)
    same(buffers, before)  # which are values
    moved = sorted(float(b.sum()) for name, b in module.named_buffers() if "running" in name)
    assert sorted(float(b.sum()) for b in after.values()) == pytest.approx(moved)


@each_network
def test_its_graph_is_for_any_number_of_rows_and_has_gradients(network: Network) -> None:
    parameters, buffers = numbers(network)
    leaves = {name: value.requires_grad_() for name, value in parameters.items()}
    module = composed(network, leaves, buffers)
    for rows in (1, BATCH):
        x = inputs(network, rows)
        ports, found = network(leaves, buffers, x, training=False)[0], module(x)
        same(ports, found)
        total = [sum(port.square().sum() for port in each.values()) for each in (ports, found)]
        own = torch.autograd.grad(total[0], list(leaves.values()))
        twins = [module.get_parameter(f"network.{name}") for name in leaves]
        same(own, torch.autograd.grad(total[1], twins))


@pytest.mark.parametrize(
    ("kind", "layers"),
    [("mlp batch relu", {"0", "1"}), ("conv batch none", {"0", "1"}), ("lstm batch", {"0"})],
)
def test_a_bias_before_batch_norm_has_a_gradient_of_zero(kind: str, layers: set[str]) -> None:
    """Rounding noise in its place would be blown up by Adam to steps of full length, other ones on each processor."""
    network = NETWORKS[kind]
    parameters, buffers = numbers(network)
    lost = {f"{name}.bias" for name in {*layers, "to_b"}}
    for rows in (8, 1):  # a single row is normalised by running statistics, to which a bias matters
        leaves = {key: p.clone().requires_grad_() for key, p in parameters.items()}
        ports, _ = network(leaves, buffers, inputs(network, rows), training=True)
        total = torch.stack([ports[port].square().sum() for port in (OBJECTIVE, "to_b", "map")]).sum()
        found = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values())), strict=True))
        assert [key for key in lost if bool(found[key].any())] == [] or rows == 1
        assert bool(found["to_b.bias"].any()) == (rows == 1)
        assert bool(found["map.bias"].any())


def test_a_pointer_scores_each_candidate_by_its_product_with_the_rest() -> None:
    network = Pointer(
        4 * 6 + 3, (4, 2, 3), 5, (7,), (Head(OBJECTIVE, (4,)), Head("value", (1,))), norm="none"
    )
    parameters, buffers = numbers(network)
    x = inputs(network)

    def embed(part: str, read: Tensor) -> Tensor:
        hidden = (read @ parameters[f"{part}.0.weight"].T + parameters[f"{part}.0.bias"]).relu()
        return hidden @ parameters[f"{part}.embedding.weight"].T + parameters[f"{part}.embedding.bias"]

    each, query = embed("candidate", x[:, :24].view(8, 4, 6)), embed("query", x[:, 24:])
    ports, _ = network(parameters, buffers, x, training=True)
    scores = torch.einsum("bkd,bd->bk", each, query)
    torch.testing.assert_close(ports[OBJECTIVE], scores)
    value = scores @ parameters["value.weight"].T + parameters["value.bias"]
    torch.testing.assert_close(ports["value"], value)


# --- stacked -------------------------------------------------------------------------------------------------


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


MLP = Mlp((6,), (4,), HEADS)
LSTM = Recurrent((6,), 4, HEADS)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (MLP, Mlp((2, 3), (4,), HEADS), True),
        (MLP, Mlp((6,), (4,), (HEADS[0], Head("to_c", (6,), "batch"), HEADS[2])), True),
        (MLP, Mlp((6,), (4,), (HEADS[1], HEADS[0], HEADS[2])), False),
        (MLP, Mlp((6,), (4,), HEADS, norm="layer"), False),
        (MLP, Mlp((6,), (4,), HEADS, activation="tanh"), False),
        (Mlp((6,), (), HEADS, norm="layer"), Mlp((6,), (), HEADS, activation="tanh"), True),
        (Conv((1, 6, 6), (4,), HEADS), Conv((1, 6, 6), (4,), HEADS, pool=("none",)), True),
        (Conv((1, 6, 6), (4,), HEADS), Conv((1, 6, 6), (4,), HEADS, size=3), False),
        (LSTM, Recurrent((6,), 4, HEADS, norm="batch", rate=0.2), True),
        (LSTM, Recurrent((6,), 4, HEADS, cell_norm="layer"), False),
        (Recurrent((6,), 4, HEADS, kind="leaky"), Recurrent((6,), 4, HEADS, kind="leaky", rate=0.1), False),
    ],
)
def test_networks_have_one_signature_where_they_are_one_function(
    one: Network, other: Network, alike: bool
) -> None:
    assert (one.signature() == other.signature()) == alike
    assert one.stacking_obstacle() is other.stacking_obstacle() is None
