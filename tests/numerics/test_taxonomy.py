"""Rows of table 1 of Czarnecki et al. 2017 through channels: what backpropagating L_SG into a message gives.

h is a message, g = h W + b the receiver's first pre-activation, p an objective's output, y its target. Gradients are per
sample: N times those of a loss that is a mean over the N examples.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon import Simulation
from tests.contracts.builders import Document
from tests.numerics.linear import LINEAR, Numbers, leaves, said, sgd
from tests.numerics.whole import Whole, drawn, followed, run_of

N, RATE = 30, 0.01
EXACT: dict[str, Any] = {"atol": 1e-11, "rtol": 0}
TANH = {"kind": "mlp", "hidden": [4], "norm": "none", "activation": "tanh"}


def inner(target: Tensor, said: Tensor) -> Tensor:
    """L_SG(t, s) = -<t, s> of the rows in which SG does not train, with the target a constant."""
    return -(target.detach() * said).sum()


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_the_rows_of_the_taxonomy_give_the_gradients_of_our_couplings(coupling: str) -> None:
    """SG: dL/dh is SG(h, y), whose target is dL/dh. Bprop: what -<t, h> gives for the target t = -dL/dh."""
    source = Whole(drawn(5, N, 3), drawn(6, N, 2))
    training = {"optimiser": sgd(RATE)}
    simulation = run_of(source, {"f": LINEAR}, nn.Linear(2, 2), (coupling,), sizes=(2,), training=training)
    simulation.run(20)
    probe, f = simulation.probe()["f->judge"], leaves(simulation.agents["f"])
    told = probe.synthetic if coupling == "decoupled" else probe.true
    assert told is not None
    expected = torch.autograd.grad(inner(-told, said(f, "to_judge", source.x)) / N, list(f.values()))
    found = followed(simulation, RATE)["f"]
    for own, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(own, wanted, **EXACT)
    if coupling == "decoupled":
        gradient = simulation.channels["f->judge"].messages[20].gradient
        torch.testing.assert_close(gradient, probe.true, **EXACT)


def chain(feedback: str | None, rate: float = RATE, network: Document = TANH) -> tuple[Simulation, Whole]:
    """f, a and the judge, each with a hidden layer, learning as one network."""
    x = drawn(5, N, 3)
    source = Whole(x, torch.sin(x @ drawn(6, 3, 2)))
    layers, how = {"f": network, "a": network}, {"sizes": (3, 3), "weight": 7.0, "feedback": feedback}
    training = {"optimiser": sgd(rate)}
    return run_of(source, layers, network, ("locked", "locked"), **how, training=training), source  # type: ignore[arg-type]


def layer(p: Numbers, x: Tensor, port: str) -> tuple[Tensor, Tensor]:
    """The first pre-activation and the output of an agent, by hand."""
    g = said(p, "0", x)
    return g, said(p, port, torch.tanh(g))


def told_by(simulation: Simulation, source: Whole, feedback: str, numbers: dict[str, Numbers]) -> Numbers:
    """What the two messages are told, per sample, by hand and with the matrices of the channels."""
    _, first = layer(numbers["f"], source.x, "to_a")
    on_a, second = layer(numbers["a"], first, "to_judge")
    on_judge, p = layer(numbers["judge"], second, "objective")
    loss = 7.0 * (p - source.y).square().mean()
    to_judge, to_p = (N * g for g in torch.autograd.grad(loss, [on_judge, p], retain_graph=True))
    ways = {name: channel.feedback for name, channel in simulation.channels.items()}
    if feedback != "fa":
        found = {name: way["direct"] for name, way in ways.items()}
        assert all(bool((way == 1).all()) == (feedback == "kickback") for way in found.values())
        return {name: to_p @ way.T for name, way in found.items()}
    back = to_judge @ ways["a->judge"]["0.weight"]
    (to_a,) = torch.autograd.grad(second, on_a, back)  # the error that reaches a by feedback too
    return {"a->judge": back, "f->a": to_a @ ways["f->a"]["0.weight"]}


@pytest.mark.parametrize("feedback", ["fa", "dfa", "kickback"])
def test_feedback_inside_a_locked_group_gives_the_gradients_of_its_row(feedback: str) -> None:
    """FA: h A with the target -dL/dg. DFA: h A with the target -dL/dp; kickback is DFA with A of ones."""
    simulation, source = chain(feedback)
    simulation.run(3)
    numbers = {name: leaves(agent) for name, agent in simulation.agents.items()}
    told, x, expected = told_by(simulation, source, feedback, numbers), source.x, {}
    for agent, port, channel in (("f", "to_a", "f->a"), ("a", "to_judge", "a->judge")):
        _, h = layer(numbers[agent], x, port)
        gradients = torch.autograd.grad(inner(-told[channel], h) / N, list(numbers[agent].values()))
        expected[agent] = dict(zip(numbers[agent], gradients, strict=True))
        x = h.detach()
    loss = 7.0 * F.mse_loss(layer(numbers["judge"], x, "objective")[1], source.y)
    gradients = torch.autograd.grad(loss, list(numbers["judge"].values()))
    expected["judge"] = dict(zip(numbers["judge"], gradients, strict=True))  # its own, as without feedback
    found = followed(simulation, RATE)
    for agent, wanted in expected.items():
        for name, gradient in wanted.items():
            torch.testing.assert_close(found[agent][name], gradient, **EXACT)


@pytest.mark.parametrize(("feedback", "network"), [("fa", TANH), ("dfa", LINEAR)])
def test_feedback_through_the_weights_on_the_way_is_backpropagation(feedback: str, network: Document) -> None:
    (fed, _), (locked, _) = (chain(kind, network=network) for kind in (feedback, None))
    a, judge = (fed.agents[name].parameters for name in ("a", "judge"))
    ways = [fed.channels[name].feedback for name in ("f->a", "a->judge")]
    if feedback == "fa":
        for way, own in zip(ways, (a, judge), strict=True):
            way["0.weight"].copy_(own["0.weight"].detach())
    else:
        head = judge["objective.weight"].detach()
        ways[0]["direct"].copy_((head @ a["to_judge.weight"].detach()).T)
        ways[1]["direct"].copy_(head.T)
    one, other = followed(fed, RATE), followed(locked, RATE)
    for agent, gradients in other.items():
        for name, gradient in gradients.items():
            torch.testing.assert_close(one[agent][name], gradient, **EXACT)


@pytest.mark.long
@pytest.mark.parametrize("feedback", ["fa", "dfa"])
def test_feedback_teaches_the_senders(feedback: str) -> None:
    """By a fifth at least: a yardstick is told nothing that is of use."""
    (fed, _), (alone, _) = chain(feedback, 0.05), chain("kickback", 0.05)
    for channel in alone.channels.values():
        channel.feedback["direct"].zero_()
    for simulation in (fed, alone):
        simulation.run(100)
    reached = [float(simulation.step()["losses"]["judge"]) for simulation in (fed, alone)]
    assert reached[0] < 0.8 * reached[1]
