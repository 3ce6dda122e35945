"""Recurrent networks: as emitted, over time, stacked; the state comes in and goes out."""

from __future__ import annotations

import itertools
import pickle

import pytest
import torch
from torch import Tensor, fx, nn

from antiphon.agents.feedforward import Conv, Mlp
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Network, Tensors
from antiphon.agents.recurrent import Recurrent
from antiphon.errors import ScenarioError
from tests.agents.made import numbers
from tests.tensors import DOUBLE, drawn, same

BATCH, SIZE, TICKS = 6, 5, 3
HEADS = (Head(OBJECTIVE, (3,)), Head("to_b", (4,), "batch"), Head("map", (2, 2, 1), "layer"))
KINDS = ("rnn", "leaky", "gru", "lstm")
VARIETIES = [
    *(
        {"kind": kind, "cell_norm": norm}
        for kind, norm in itertools.product(KINDS, ("none", "layer", "batch"))
    ),
    {"kind": "lstm", "encoder": (7, 6), "norm": "batch", "activation": "tanh", "cell_norm": "layer"},
    {"kind": "gru", "encoder": (7,), "norm": "none", "activation": "gelu"},
    {"kind": "leaky", "encoder": (7,), "norm": "layer", "leak": 0.2},
]
each_variety = pytest.mark.parametrize("variety", VARIETIES, ids=lambda v: " ".join(map(str, v.values())))


def network(variety: dict[str, object], heads: tuple[Head, ...] = HEADS) -> Recurrent:
    return Recurrent((2, 4), SIZE, heads, **variety)  # type: ignore[arg-type]


def inputs(seed: int = 50) -> Tensor:
    """[ticks, batch, inputs]."""
    return drawn(seed, TICKS, BATCH, 8)


def unrolled(network: Recurrent, parameters: Tensors, buffers: Tensors) -> fx.GraphModule:
    """The network as plain torch modules, called once per tick by one graph."""
    root, graph = nn.Module(), fx.Graph()
    emitter = network.emit(root, "agent", parameters, buffers)
    xs = graph.placeholder("xs")
    state: fx.Node | None = None
    ticks = []
    for tick in range(TICKS):
        ports = emitter(graph, graph.call_method("select", (xs, 0, tick)), state)
        state = ports[STATE]
        ticks.append(ports)
    graph.output(ticks)
    return fx.GraphModule(root, graph)


@pytest.mark.parametrize("training", [False, True])
@each_variety
def test_it_equals_the_torch_modules_it_emits(variety: dict[str, object], training: bool) -> None:
    ours = network(variety)
    parameters, buffers = numbers(ours)
    module = unrolled(ours, parameters, buffers).train(training)
    xs = inputs()
    state: Tensor | None = None
    for x, theirs in zip(xs, module(xs), strict=True):
        ports, buffers = ours(parameters, buffers, x, training=training, state=state)
        assert set(ports) == set(theirs) == {HIDDEN, STATE, OBJECTIVE, "to_b", "map"}
        for name, port in ports.items():
            assert port.shape == (BATCH, *ours.port_shape(name))
            torch.testing.assert_close(port, theirs[name], rtol=1e-12, atol=1e-12)
        state = ports[STATE]
    moved = sorted(float(b.sum()) for name, b in module.named_buffers() if "running" in name)
    assert sorted(float(b.sum()) for b in buffers.values()) == pytest.approx(moved)


def test_what_it_emits_is_of_torch_alone() -> None:
    """Nothing that would be saved with it names antiphon: it runs where there is none."""
    ours = network(VARIETIES[-3])
    module = unrolled(ours, *numbers(ours)).eval()
    assert b"torch.nn.modules.linear" in pickle.dumps(module)
    assert b"antiphon" not in pickle.dumps(module)


@each_variety
def test_no_state_is_a_state_of_zeros(variety: dict[str, object]) -> None:
    ours = network(variety)
    own, x = numbers(ours), inputs()[0]
    zeros = torch.zeros(BATCH, ours.state_size, dtype=DOUBLE)
    silent, _ = ours(*own, x, training=True)
    spoken, _ = ours(*own, x, training=True, state=zeros)
    for name, port in silent.items():
        assert torch.equal(port, spoken[name])
    assert ours.state_size == (2 * SIZE if variety["kind"] == "lstm" else SIZE)


@pytest.mark.parametrize("encoder", [(), (9, 7)])
def test_an_lstm_over_time_equals_torch_modules_with_their_gradients(encoder: tuple[int, ...]) -> None:
    ours = network({"kind": "lstm", "encoder": encoder, "norm": "none"}, (Head(OBJECTIVE, (3,)),))
    parameters, _ = numbers(ours)
    layers = [module for a, b in itertools.pairwise((8, *encoder)) for module in (nn.Linear(a, b), nn.ReLU())]
    theirs = nn.ModuleDict(
        {
            "encoder": nn.Sequential(*layers),
            "cell": nn.LSTMCell((8, *encoder)[-1], SIZE),
            "head": nn.Linear(SIZE, 3),
        }
    ).double()
    renamed = {"head.weight": "objective.weight", "head.bias": "objective.bias"}
    renamed |= {
        f"cell.{n}_{s}": f"cell.{p}.{n}"
        for n in ("weight", "bias")
        for s, p in (("ih", "input"), ("hh", "recurrent"))
    }
    renamed |= {f"encoder.{2 * i}.{n}": f"{i}.{n}" for i in range(len(encoder)) for n in ("weight", "bias")}
    theirs.load_state_dict({name: parameters[own] for name, own in renamed.items()})
    for value in parameters.values():
        value.requires_grad_()
    state, expected = None, None
    ours_sum, their_sum = torch.zeros((), dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)
    for tick, x in enumerate(inputs()):
        ports, _ = ours(parameters, {}, x, training=True, state=state)
        state = ports[STATE]
        expected = theirs["cell"](theirs["encoder"](x), expected)
        ours_sum = ours_sum + (ports[OBJECTIVE] * drawn(tick, BATCH, 3)).sum()
        their_sum = their_sum + (theirs["head"](expected[0]) * drawn(tick, BATCH, 3)).sum()
    their_sum.backward()
    found = dict(zip(parameters, torch.autograd.grad(ours_sum, list(parameters.values())), strict=True))
    for name, own in renamed.items():
        torch.testing.assert_close(found[own], theirs.get_parameter(name).grad, rtol=1e-12, atol=1e-12)


@each_variety
def test_buffers_are_values_and_parameters_follow_the_generator(variety: dict[str, object]) -> None:
    ours = network(variety)
    parameters, buffers = numbers(ours)
    before = {k: v.clone() for k, v in buffers.items()}
    _, after = ours(parameters, buffers, inputs()[0], training=True)
    assert set(after) == set(buffers)
    same(buffers, before)
    first, again = (ours.parameters(torch.Generator().manual_seed(5)) for _ in range(2))
    same(first, again)
    fewer = network(variety, HEADS[1:]).parameters(torch.Generator().manual_seed(5))
    same({k: first[k] for k in fewer}, fewer)


@pytest.mark.parametrize(
    "forgetful",
    [
        Mlp((8,), (4,), ()),
        Conv((1, 4, 2), (2,), (), filter=3),
        ModuleNetwork(nn.Linear(8, 2), (8,), (Head(OBJECTIVE, (2,)),), 0),
    ],
    ids=["mlp", "conv", "module"],
)
def test_who_remembers_nothing_is_handed_nothing(forgetful: Network) -> None:
    assert forgetful.state_size == 0
    with pytest.raises(AssertionError):
        forgetful(
            forgetful.parameters(torch.Generator()),
            forgetful.buffers(),
            torch.zeros(2, *forgetful.input_shape),
            training=False,
            state=torch.zeros(2, 0),
        )
    with pytest.raises(KeyError):
        forgetful.port_shape(STATE)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "lstn"}, r"network\.kind: no cell 'lstn'; did you mean 'lstm'\?"),
        ({"kind": "leaky", "leak": 0.0}, r"network\.leak: 0\.0 is no share; give a number in \(0, 1\]"),
        ({"kind": "leaky", "leak": 1.5}, r"network\.leak: 1\.5 is no share"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        network(wrong)
