"""Built-in networks against torch: as emitted, by hand, and stacked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.network import HIDDEN, OBJECTIVE, Head, Network
from antiphon.agents.pointer import Pointer
from antiphon.agents.recurrent import Recurrent
from antiphon.errors import ScenarioError
from tests.agents.made import emitted, numbers
from tests.tensors import drawn, same

HEADS = (Head(OBJECTIVE, (10,)), Head("to_b", (6,), "batch"), Head("map", (2, 3, 3), "layer"))


def networks() -> dict[str, Network]:
    return {
        "mlp": Mlp((3, 4), (8, 7), HEADS),
        "mlp, layer norm": Mlp((12,), (8,), HEADS, norm="layer", activation="tanh"),
        "mlp, no norm": Mlp((12,), (8,), HEADS, norm="none", activation="gelu"),
        "mlp, identity": Mlp((12,), (8, 7), HEADS, norm="none", activation="identity"),
        "mlp, no hidden layer": Mlp((12,), (), HEADS),
        "conv": Conv((2, 6, 5), (4, 3), HEADS, filter=3, pool=("max", "none")),
        "conv, layer norm": Conv((2, 6, 5), (4,), HEADS, norm="layer", pool=("avg",)),
        "pointer": Pointer(44, (10, 2, 2), 5, (8,), HEADS),
        "pointer, no hidden layer": Pointer(21, (10, 2), 3, (), HEADS, norm="none"),
        "conv, no norm": Conv((1, 6, 5), (4,), HEADS, norm="none", filter=1, activation="identity"),
    }


def inputs(network: Network, batch: int = 8, seed: int = 1) -> Tensor:
    return drawn(seed, batch, *network.input_shape)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", list(networks()))
def test_it_equals_the_torch_modules_it_emits(kind: str, training: bool) -> None:
    network = networks()[kind]
    parameters, buffers = numbers(network)
    module = emitted(network, parameters, buffers).train(training)
    x = inputs(network)
    before = {k: v.clone() for k, v in buffers.items()}
    ports, after = network(parameters, buffers, x, training=training)
    same(buffers, before)  # which are values
    theirs = module(x)
    assert set(ports) == set(theirs) == {HIDDEN, OBJECTIVE, "to_b", "map"}
    for name, port in ports.items():
        assert port.shape == (8, *network.port_shape(name))
        torch.testing.assert_close(port, theirs[name])
    moved = sorted(float(b.sum()) for name, b in module.named_buffers() if "running" in name)
    assert sorted(float(b.sum()) for b in after.values()) == pytest.approx(moved)


def test_an_mlp_equals_layers_written_by_hand() -> None:
    network = Mlp((12,), (8,), (Head(OBJECTIVE, (4,)),))
    parameters, buffers = numbers(network)
    norm = nn.BatchNorm1d(8).double()
    norm.load_state_dict(
        {"weight": parameters["0.norm.gain"], "bias": parameters["0.norm.bias"]}
        | {"running_mean": buffers["0.norm.mean"], "running_var": buffers["0.norm.var"]},
        strict=False,
    )
    x = inputs(network)
    hidden = torch.relu(norm(x @ parameters["0.weight"].T + parameters["0.bias"]))
    ports, after = network(parameters, buffers, x, training=True)
    torch.testing.assert_close(ports[HIDDEN], hidden)
    torch.testing.assert_close(
        ports[OBJECTIVE], hidden @ parameters["objective.weight"].T + parameters["objective.bias"]
    )
    torch.testing.assert_close(after["0.norm.mean"], norm.running_mean)
    torch.testing.assert_close(after["0.norm.var"], norm.running_var)


def test_a_conv_equals_layers_written_by_hand() -> None:
    network = Conv((2, 6, 5), (4,), (Head(OBJECTIVE, (3,)),), norm="none", pool=("max",))
    parameters, buffers = numbers(network)
    layer = nn.Conv2d(2, 4, 5, padding=2).double()
    layer.load_state_dict({"weight": parameters["0.weight"], "bias": parameters["0.bias"]})
    x = inputs(network)
    hidden = nn.MaxPool2d(3, 2, 1)(torch.relu(layer(x)))
    ports, _ = network(parameters, buffers, x, training=True)
    torch.testing.assert_close(ports[HIDDEN], hidden)
    flat = hidden.flatten(1) @ parameters["objective.weight"].T + parameters["objective.bias"]
    torch.testing.assert_close(ports[OBJECTIVE], flat)


@pytest.mark.parametrize(("height", "pool"), [(5, "max"), (6, "max"), (7, "avg"), (8, "none")])
def test_the_shapes_of_a_conv_are_those_it_computes(height: int, pool: str) -> None:
    network = Conv((1, height, 9), (2, 3), (), filter=3, pool=(pool, "none"))
    ports, _ = network(*numbers(network), inputs(network), training=True)
    assert ports[HIDDEN].shape == (8, *network.port_shape(HIDDEN))
    assert [shape[0] for shape in network.shapes()] == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "layers"), [("mlp", {"0", "1"}), ("conv", {"0", "1"}), ("recurrent", {"0"})]
)
def test_a_bias_before_batch_norm_has_a_gradient_of_zero(kind: str, layers: set[str]) -> None:
    """Rounding noise in its place would be blown up by Adam to steps of full length, other ones on each processor."""
    recurrent = Recurrent((12,), 5, HEADS, encoder=(8,), norm="batch", cell_norm="batch")
    network = {**networks(), "recurrent": recurrent}[kind]
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


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_messages_that_have_not_arrived_leave_no_rounding_behind_batch_norm(kind: str) -> None:
    """Rows of zeros have no variance: what rounding left of a bias there would come out 316 times as large."""
    network = networks()[kind]
    parameters = network.parameters(torch.Generator().manual_seed(0))
    x = torch.zeros(8, *network.input_shape)
    ports, _ = network(parameters, network.buffers(), x, training=True)
    assert torch.equal(ports[OBJECTIVE], parameters["objective.bias"].expand(8, -1))


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


def test_a_pointer_that_cannot_choose_is_refused() -> None:
    with pytest.raises(ScenarioError, match=r"one output to each of 4 candidates.*needs 3"):
        Pointer(27, (4, 6), 5, (), (Head(OBJECTIVE, (3,)),))
    with pytest.raises(ScenarioError, match="nothing but candidates"):
        Pointer(24, (4, 6), 5, (), (Head(OBJECTIVE, (4,)),))
