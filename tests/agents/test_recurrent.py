"""Recurrent networks: as emitted, over time, stacked; the state comes in and goes out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, fx, nn

from antiphon.agents.network import HIDDEN, OBJECTIVE, STATE, Head, Tensors
from antiphon.agents.recurrent import Recurrent
from antiphon.errors import ScenarioError
from tests.agents.made import numbers
from tests.tensors import DOUBLE, drawn

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
