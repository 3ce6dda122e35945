"""Table 1 of Czarnecki et al. 2017 as identities: what backpropagating L_SG into a message gives, kind by kind.

h is a message [B, M], g = h W + b the receiver's first pre-activation, p its output [B, P], y the target. Gradients are
per sample: B times those of a loss that is a mean over the batch.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.agents.feedforward import Mlp
from antiphon.agents.network import OBJECTIVE, Head
from antiphon.comms.backward_requests import value_of
from antiphon.comms.feedback import DirectFeedback
from antiphon.comms.model import ContextSpec
from antiphon.comms.synthetic_gradients import PREDICTORS, Example, Predictor
from antiphon.engine.probes.truth import true_gradients
from antiphon.engine.simulation import Simulation
from antiphon.nets.layers import Transport
from antiphon.nets.schedules import Rate
from tests.numerics.whole import DOUBLE, LINEAR, Whole, adam, drawn, run_of, updates_of

B, M, H, P = 6, 5, 7, 3
EXACT: dict[str, Any] = {"atol": 1e-12, "rtol": 0}


def head(g: Tensor) -> Tensor:
    """From the first pre-activation to the output."""
    return torch.tanh(g) @ drawn(11, P, H).T + drawn(12, P)


WEIGHT, BIAS = drawn(13, H, M), drawn(14, H)


def truth() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """h and y, and the gradients dL/dh, dL/dg and dL/dp of a squared error, per sample."""
    h, y = drawn(15, B, M).requires_grad_(), drawn(16, B, P)
    g = F.linear(h, WEIGHT, BIAS)
    p = head(g)
    loss = (p - y).square().sum(1).mean()
    return h, y, *(B * gradient for gradient in torch.autograd.grad(loss, [h, g, p]))


def inner(target: Tensor, said: Tensor) -> Tensor:
    """L_SG(t, s) = -<t, s> of the rows in which SG does not train, with the target a constant."""
    return -(value_of(target) * said).sum()


def predictor(kind: str) -> Predictor:
    hidden = {"linear": (), "mlp": (8,)}[kind]
    made = PREDICTORS[kind](
        (M,),
        [ContextSpec("y", (P,))],
        generator=torch.Generator().manual_seed(0),
        optimiser={"kind": "sgd"},
        rate=Rate(base=0.1, horizon=1),
        hidden=hidden,
        norm="none",
        dtype=DOUBLE,
    )
    for i, parameter in enumerate(made.parameters.values()):
        parameter.data.copy_(drawn(20 + i, *parameter.shape))
    return made


# --- SG and SG+prop: SG(h, y) is a model, its target dL/dh, L_SG = ||t - s||^2 ------------------------------


def test_sg_says_what_its_model_says() -> None:
    h, y, to_h, _, _ = truth()
    model = predictor("linear")
    weight, bias = model.parameters["last.weight"], model.parameters["last.bias"]
    said = model.predict(Example(h, y, to_h))
    torch.testing.assert_close(said, torch.cat([h, y], 1) @ weight.T + bias, **EXACT)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_sg_with_propagation_adds_the_gradient_of_its_own_loss(kind: str) -> None:
    """To the share a: SG(h, y) + a dL_SG/dh."""
    h, y, to_h, _, _ = truth()
    model = predictor(kind)
    squared = (model.forward(h, y, move=False) - to_h).square().sum(1).mean()
    (expected,) = torch.autograd.grad(squared, h)
    found = model.propagated(Example(value_of(h), y, to_h))
    torch.testing.assert_close(found, B * expected, **EXACT)
    assert float(found.abs().max()) > 1


def test_the_loss_of_a_linear_sg_propagates_through_its_weight_alone() -> None:
    h, y, to_h, _, _ = truth()
    model = predictor("linear")
    example = Example(value_of(h), y, to_h)
    error = model.predict(example) - to_h
    expected = 2 * error @ model.parameters["last.weight"][:, :M]
    torch.testing.assert_close(model.propagated(example), expected, **EXACT)


# --- Bprop, DFA, FA, Kickback: SG does not train, L_SG = -<t, s> -------------------------------------------


def test_backpropagation_is_the_identity_with_the_target_minus_dl_dh() -> None:
    h, _, to_h, _, _ = truth()
    (found,) = torch.autograd.grad(inner(-to_h, h), h)
    torch.testing.assert_close(found, to_h, **EXACT)


def test_direct_feedback_is_h_a_with_the_target_minus_dl_dp() -> None:
    h, _, _, _, to_p = truth()
    feedback = DirectFeedback(M, P, torch.Generator().manual_seed(1), dtype=DOUBLE)
    (expected,) = torch.autograd.grad(inner(-to_p, h @ feedback.weight), h)
    torch.testing.assert_close(feedback.signal(to_p), expected, **EXACT)


def test_kickback_is_h_1_with_the_target_minus_dl_dp_and_is_direct_feedback_with_ones() -> None:
    h, _, _, _, to_p = truth()
    kickback = DirectFeedback(M, P, None, dtype=DOUBLE)
    (expected,) = torch.autograd.grad(inner(-to_p, h @ torch.ones(M, P, dtype=DOUBLE)), h)
    torch.testing.assert_close(kickback.signal(to_p), expected, **EXACT)
    direct = DirectFeedback(M, P, torch.Generator().manual_seed(1), dtype=DOUBLE)
    assert not torch.allclose(direct.signal(to_p), expected)
    direct.weight.fill_(1.0)
    assert torch.equal(direct.signal(to_p), kickback.signal(to_p))


def receiver() -> tuple[Mlp, dict[str, Tensor]]:
    """Our network of the same function."""
    network = Mlp((M,), (H,), (Head(OBJECTIVE, (P,)),), norm="none", activation="tanh")
    numbers = {"0.weight": WEIGHT, "0.bias": BIAS}
    numbers |= {"objective.weight": drawn(11, P, H), "objective.bias": drawn(12, P)}
    return network, numbers


def by_feedback(weight: Tensor) -> Tensor:
    """What the message is told by feedback alignment through `weight`, [H, M]."""
    network, numbers = receiver()
    h, y, _, _, _ = truth()
    way = Transport(h, {"0.weight": weight})
    ports, _ = network(numbers, {}, value_of(h), training=True, transports=[way])
    (found,) = torch.autograd.grad((ports[OBJECTIVE] - y).square().sum(1).mean(), h)
    return B * found


def test_feedback_alignment_is_h_a_with_the_target_minus_dl_dg() -> None:
    h, _, _, to_g, _ = truth()
    (weight,) = receiver()[0].feedback_weights((M,), torch.Generator().manual_seed(1)).values()
    weight = weight.to(DOUBLE)
    (expected,) = torch.autograd.grad(inner(-to_g, h @ weight.T), h)
    torch.testing.assert_close(by_feedback(weight), expected, **EXACT)


def test_feedback_alignment_through_the_receivers_own_weight_is_backpropagation() -> None:
    torch.testing.assert_close(by_feedback(WEIGHT), truth()[2], **EXACT)


def test_direct_feedback_through_all_that_a_linear_receiver_does_is_backpropagation() -> None:
    h, y = drawn(15, B, M).requires_grad_(), drawn(16, B, P)
    first, second = drawn(17, H, M), drawn(18, P, H)
    p = h @ first.T @ second.T
    to_h, to_p = torch.autograd.grad((p - y).square().sum(1).mean(), [h, p])
    feedback = DirectFeedback(M, P, torch.Generator(), dtype=DOUBLE)
    feedback.weight.copy_((second @ first).T)
    torch.testing.assert_close(feedback.signal(B * to_p), B * to_h, **EXACT)


# --- The same through channels -----------------------------------------------------------------------------


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_the_rows_of_the_taxonomy_give_the_gradients_of_our_couplings(coupling: str) -> None:
    """SG: dL/dh is SG(h, y), whose target is dL/dh. Bprop: what -<t, h> gives for the target t = -dL/dh."""
    source = Whole(drawn(5, 30, 3), drawn(6, 30, 2))
    simulation = run_of(source, {"f": LINEAR}, nn.Linear(2, 2), (coupling,), sizes=(2,))
    simulation.run(20)
    probe = true_gradients(simulation)["f->judge"]
    f = {name: p.clone().requires_grad_() for name, p in simulation.agents["f"].parameters.items()}
    h = F.linear(source.x, f["to_judge.weight"], f["to_judge.bias"])
    told = probe.synthetic if coupling == "decoupled" else probe.true
    assert told is not None
    expected = torch.autograd.grad(inner(-told, h) / 30, list(f.values()))
    simulation.step()
    for own, wanted in zip(updates_of(simulation)["f"], expected, strict=True):
        torch.testing.assert_close(own, wanted, **EXACT)
    if coupling == "decoupled":
        lesson = simulation.learned.predictor_updates["f->judge"]
        torch.testing.assert_close(lesson.examples[0].delta, probe.true, **EXACT)
        error = (told - probe.true).square().sum() / 30
        assert float(lesson.loss) == pytest.approx(float(error), rel=1e-12)


def chain(feedback: str | None) -> Simulation:
    """f, a and the judge, each with a hidden layer, learning as one network."""
    x = drawn(5, 30, 3)
    source = Whole(x, torch.sin(x @ drawn(6, 3, 2)))
    hidden = {"kind": "mlp", "hidden": [4], "norm": "none", "activation": "tanh"}
    return run_of(
        source,
        {"f": hidden, "a": hidden},
        hidden,
        ("locked", "locked"),
        sizes=(3, 3),
        weight=7.0,
        feedback=feedback,
        training={"optimiser": adam(0.01)},
    )


def layer(simulation: Simulation, agent: str, x: Tensor, port: str) -> tuple[Tensor, Tensor]:
    """The first pre-activation and the output of an agent, by hand."""
    own = {name: p.clone() for name, p in simulation.agents[agent].parameters.items()}
    g = F.linear(x, own["0.weight"], own["0.bias"])
    return g, F.linear(torch.tanh(g), own[f"{port}.weight"], own[f"{port}.bias"])


def told(simulation: Simulation, feedback: str) -> dict[str, Tensor]:
    """What the two messages are told, per sample, by hand and with the matrices of the channels."""
    source = simulation.scenario.env
    assert isinstance(source, Whole)
    channels = simulation._system.channels
    _, first = layer(simulation, "f", source.x, "to_a")
    on_a, second = layer(simulation, "a", first, "to_judge")
    on_judge, p = layer(simulation, "judge", second, OBJECTIVE)
    loss = 7.0 * (p - source.y).square().mean()
    to_judge, to_p = (30 * g for g in torch.autograd.grad(loss, [on_judge, p], retain_graph=True))
    if feedback != "fa":
        weights = {n: c.direct.weight for n, c in channels.items() if c.direct is not None}
        if feedback == "kickback":
            assert all(bool((weight == 1).all()) for weight in weights.values())
        return {name: to_p @ weight.T for name, weight in weights.items()}
    ways = {
        name: c.feedback_weights["0.weight"] for name, c in channels.items() if c.feedback_weights is not None
    }
    back = {"a->judge": to_judge @ ways["a->judge"]}
    (to_a,) = torch.autograd.grad(second, on_a, back["a->judge"])  # the error that reaches a by feedback too
    return {**back, "f->a": to_a @ ways["f->a"]}


@pytest.mark.parametrize("feedback", ["fa", "dfa", "kickback"])
def test_feedback_inside_a_locked_group_gives_the_gradients_of_its_row(feedback: str) -> None:
    simulation = chain(feedback)
    simulation.run(3)
    source, expected = simulation.scenario.env, {}
    assert isinstance(source, Whole)
    signals = told(simulation, feedback)
    x = source.x
    for agent, port, channel in (("f", "to_a", "f->a"), ("a", "to_judge", "a->judge")):
        own = {name: p.clone().requires_grad_() for name, p in simulation.agents[agent].parameters.items()}
        h = F.linear(torch.tanh(F.linear(x, own["0.weight"], own["0.bias"])), own[f"{port}.weight"])
        h = h + own[f"{port}.bias"]
        expected[agent] = torch.autograd.grad(inner(-signals[channel], h) / 30, list(own.values()))
        x = value_of(h)
    simulation.step()
    found = updates_of(simulation)
    for agent, wanted in expected.items():
        for gradient, other in zip(found[agent], wanted, strict=True):
            torch.testing.assert_close(gradient, other, **EXACT)


@pytest.mark.parametrize("feedback", ["fa", "dfa"])
def test_feedback_teaches_the_senders_though_it_is_not_their_gradient(feedback: str) -> None:
    fed, locked = chain(feedback), chain(None)
    for simulation in (fed, locked):
        first = float(simulation.step()["losses"]["judge"])
    for one, other in zip(updates_of(locked)["judge"], updates_of(fed)["judge"], strict=True):
        torch.testing.assert_close(one, other, **EXACT)
    assert not torch.allclose(updates_of(locked)["f"][0], updates_of(fed)["f"][0])
    alone = chain("kickback")  # a yardstick: told nothing that is of use
    for channel in alone._system.channels.values():
        assert channel.direct is not None
        channel.direct.weight.zero_()
    fed.run(300)
    alone.run(301)
    reached = [float(simulation.step()["losses"]["judge"]) for simulation in (fed, alone)]
    assert reached[0] < 0.8 * reached[1] < 0.8 * first
