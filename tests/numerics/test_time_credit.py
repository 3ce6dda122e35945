"""How far credit reaches through predicted gradients of states: its norm at every distance, and lambda-returns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.nets.random import uniform
from tests.contracts.builders import Document
from tests.numerics.linear import assert_close, sgd
from tests.numerics.loops import Hand, HandGradient, Loop, distance, squared
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, GOAL, STATE, STEPS, make, played
from tests.numerics.whole import DOUBLE, drawn

SIZE, LENGTH, UNROLL = 4, 6, 2


def simulation_of(env: Played, cell: str, unroll: int, gradient: Document, lr: float) -> Simulation:
    """A recurrent agent that learns by Adam; at a rate of 0 it stays as it is."""
    optimiser = {"kind": "adam", "lr": lr} if lr else sgd(1e-300)
    own: Document = {"network": {"kind": cell, "size": SIZE}, "optimiser": optimiser}
    return make(env, gradient, unroll=unroll, training={"batch": env.batch}, **own)


# --- the norm of what comes back -----------------------------------------------------------------------------


def far_off(episodes: int) -> Played:
    """Something is seen at an episode's first step and asked for at its last; `due` says what and when.

    What is seen is small, so that tanh is the identity to eight digits and the network linear.
    """
    batch = 16
    x = torch.zeros(episodes, LENGTH, batch, SIZE, dtype=DOUBLE)
    x[:, 0] = 1e-4 * drawn(0, episodes, batch, SIZE)
    y = drawn(1, episodes, 1, batch, SIZE).expand(episodes, LENGTH, batch, SIZE)
    asked = torch.zeros(episodes, LENGTH, batch, dtype=torch.bool)
    asked[:, -1] = True
    left = torch.eye(LENGTH, dtype=DOUBLE).flip(0).view(1, LENGTH, 1, LENGTH, 1)
    due = (left * y.unsqueeze(3)).flatten(3)
    shown = {"x": x, "y": y, "_y": asked, "due": due}
    return Played(
        {name: values.flatten(0, 1) for name, values in shown.items()},
        ("y", "due"),
        lengths=(LENGTH,) * episodes,
    )


def turning(simulation: Simulation) -> None:
    """Make the recurrent weights and those of the output rotations: no distance shortens a gradient by itself."""
    own = simulation.agents["a"].parameters
    for name in ("cell.recurrent.weight", "objective.weight"):
        torch.nn.init.orthogonal_(own[name].data, generator=torch.Generator().manual_seed(3))
    own["objective.bias"].data.zero_()


@pytest.mark.long
@pytest.mark.parametrize(
    ("unroll", "discount", "scale"),
    [(1, 1.0, 0.1), pytest.param(1, 1.0, 10.0, marks=pytest.mark.nightly), (2, 1.0, 1.0), (1, 0.8, 0.1)],
)
def test_the_norm_of_a_predicted_gradient_at_every_distance(
    unroll: int, discount: float, scale: float
) -> None:
    """That of backpropagation whatever the scale; with a discount, it fades with every window."""
    source = far_off(30)
    counts = {"scale": scale, "discount": discount, "optimiser": sgd(0.4)}
    gradient = {"kind": "linear", "context": ["due"], **counts}
    with simulation_of(source, "rnn", unroll, gradient, 0.0) as simulation:
        turning(simulation)
        simulation.run(60 * LENGTH)
        hand, model = Hand(simulation, "a", "rnn"), HandGradient(simulation, STATE, 0.1)
    states = [torch.zeros(source.batch, SIZE, dtype=DOUBLE, requires_grad=True)]
    for step in range(LENGTH):
        hidden, state = hand.tick(source.at(step)["x"], states[-1])
        states.append(state)
    loss = squared(hand.head("objective", hidden), source.at(LENGTH - 1)).sum()
    true = torch.autograd.grad(loss, states[1:])
    with torch.no_grad():
        said = [model(state, source.at(step)["due"]) for step, state in enumerate(states[1:])]
    handed = range(unroll - 1, LENGTH - 1, unroll)
    ratios = [float(said[step].norm() / true[step].norm()) for step in handed]
    assert ratios == pytest.approx([discount**k for k in reversed(range(len(handed)))], rel=1e-3)
    for step in handed:
        assert float(torch.cosine_similarity(said[step], true[step]).min()) > 0.999
    assert float(said[-1].norm() / true[-1].norm()) < 1e-3  # after the last step nothing follows


# --- returns over several windows ------------------------------------------------------------------------------


def traced(trace: float, span: int, **more: Any) -> Document:
    own = {"kind": "adam", "lr": 0.01}
    return {"kind": "linear", "context": ["hint"], "trace": trace, "horizon": span, "optimiser": own, **more}


@pytest.mark.cases(1)
@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "leaky"])
def test_a_full_trace_over_the_episode_is_backpropagation(cell: str) -> None:
    """Whatever the predictor says, with its own learning on, on a network that stays as it is."""
    length = 10
    source = played(lengths=(length,) * 3)
    with simulation_of(source, cell, UNROLL, traced(1.0, 5), 0.0) as simulation:
        hand = Hand(simulation, "a", cell)
        recorded = simulation.channels[STATE].record(["delta"])
        simulation.run(STEPS)
    true = []
    for start in range(0, STEPS, length):
        states = [torch.zeros(BATCH, hand.state_size, dtype=DOUBLE, requires_grad=True)]
        losses = []
        for step in range(start, start + length):
            hidden, state = hand.tick(source.at(step)["x"], states[-1])
            losses.append(squared(hand.head("objective", hidden), source.at(step)).sum())
            states.append(state)
        for i in range(UNROLL, length, UNROLL):  # a state's own step is over when it is handed on
            true.append(torch.autograd.grad(torch.stack(losses[i:]).sum(), states[i], retain_graph=True)[0])
    found = [returned for returned in recorded.values["delta"] if returned.any()]
    assert len(found) >= len(true) - 4  # those of the last windows are not known yet
    for returned, expected in zip(found, true, strict=False):
        torch.testing.assert_close(returned, expected, atol=1e-10, rtol=0)


def check(trace: float, span: int, source: Played, *, lr: float, **counts: float) -> None:
    gradient = traced(trace, span, scale=0.3, **counts)
    with simulation_of(source, "lstm", UNROLL, gradient, lr) as simulation:
        hand, model = Hand(simulation, "a", "lstm"), HandGradient(simulation, STATE, 0.01)
        returns = {"scale": 0.3, "trace": trace, "span": span, **counts}
        loop = Loop(hand, squared, UNROLL, lr, model, lambda seen: seen["hint"], **returns)  # type: ignore[arg-type]
        simulation.run(STEPS)
        for step in range(STEPS):
            loop.step(source.at(step), *source.ends(step))
        assert_close(simulation.channels[STATE].synthetic_gradient, model.numbers, 1e-10)
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.cases(1)
@pytest.mark.parametrize("lr", [0.0, 0.01], ids=["frozen", "learning"])
@pytest.mark.parametrize(("trace", "span"), [(0.5, 1), (0.3, 2), (0.7, 4), (1.0, 3)])
def test_returns_follow_the_closed_form(trace: float, span: int, lr: float) -> None:
    check(trace, span, played(endless=True), lr=lr)


def test_a_return_counts_predictions_with_the_discount() -> None:
    check(0.4, 3, played(endless=True), lr=0.01, discount=0.8)


def test_returns_stop_where_an_episode_ends() -> None:
    flags = [torch.stack([uniform(seed, step, BATCH) < 0.12 for step in range(STEPS)]) for seed in (3, 4)]
    source = played(terminated=flags[0], truncated=flags[1] & ~flags[0])
    check(0.6, 3, source, lr=0.01)


@pytest.mark.parametrize(("trace", "span"), [(0.0, 4), (0.9, 1)])
def test_no_trace_is_the_bootstrapped_rule_and_so_is_one_over_a_single_window(
    trace: float, span: int
) -> None:
    found = []
    for own in (traced(trace, span), traced(0.0, 1)):
        with simulation_of(played(endless=True), "lstm", UNROLL, own, 0.01) as simulation:
            simulation.run(STEPS)
            found.append(simulation.channels[STATE].synthetic_gradient)
    assert_close(found[0], found[1].parameters, 1e-13)  # type: ignore[union-attr]


def test_errors_of_direct_feedback_are_averaged_in_returns_too() -> None:
    """With two targets in each window `reduction: mean` halves them."""
    way = {"from": "a", "to": "b", "coupling": "locked", "feedback": {"kind": "dfa", "of": "b"}}
    found = []
    for goal in ({"reduction": "mean"}, {"scale": 0.5}):
        b = {"network": {"kind": "mlp", "hidden": [5]}, "objective": {**GOAL, **goal}}
        others = {"b": {**b, "clock": {"unroll": UNROLL}}}
        with make(played(endless=True), traced(1.0, 2), others=others, channels=[way]) as simulation:
            recorded = simulation.channels[STATE].record(["delta"])
            simulation.run(4 * UNROLL)
        found.append(torch.stack(list(recorded.values["delta"])))
    assert found[0].any()
    assert torch.equal(*found)
