"""How far credit reaches through predicted gradients of states: its norm at every distance, and lambda-returns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from antiphon.nets.random import uniform
from antiphon.scenarios import Scenario
from tests.numerics.loops import Hand, HandGradient, Loop, Signals, distance
from tests.numerics.played import Played
from tests.numerics.whole import DOUBLE, drawn

BATCH, SIZE, LENGTH, STATE = 16, 4, 6, "a->a:state"
FROZEN = {"kind": "sgd", "lr": 1e-300}


def scenario(
    env: Played, cell: str, unroll: int, gradient: dict[str, Any], optimiser: dict[str, Any]
) -> Scenario:
    a = {
        "observes": ["x"],
        "network": {"kind": cell, "size": SIZE},
        "clock": {"unroll": unroll},
        "objective": {"kind": "regression", "target": "y"},
        "optimiser": optimiser,
    }
    state = {"from": "a", "to": "a", "carries": "state", "coupling": "decoupled", "gradient": gradient}
    document = {"scenario": "credit", "env": env, "agents": {"a": a}, "channels": [state]}
    return Scenario.model_validate({**document, "training": {"batch": BATCH, "optimiser": optimiser}})


def squared(output: Tensor, seen: Signals) -> Tensor:
    loss = (output - seen["y"]).square().mean(1)
    return torch.where(seen["_y"], loss, 0.0) if "_y" in seen else loss


# --- the norm of what comes back -----------------------------------------------------------------------------


def far_off(episodes: int) -> Played:
    """Something is seen at an episode's first step and asked for at its last; `due` says what and when.

    What is seen is small, so that tanh is the identity to eight digits and the network linear.
    """
    x = torch.zeros(episodes, LENGTH, BATCH, SIZE, dtype=DOUBLE)
    x[:, 0] = 1e-4 * drawn(0, episodes, BATCH, SIZE)
    y = drawn(1, episodes, 1, BATCH, SIZE).expand(episodes, LENGTH, BATCH, SIZE)
    asked = torch.zeros(episodes, LENGTH, BATCH, dtype=torch.bool)
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


@pytest.mark.parametrize(
    ("unroll", "discount", "scale"), [(1, 1.0, 0.1), (1, 1.0, 10.0), (2, 1.0, 1.0), (1, 0.8, 0.1)]
)
def test_the_norm_of_a_predicted_gradient_at_every_distance(
    unroll: int, discount: float, scale: float
) -> None:
    """That of backpropagation whatever the scale; with a discount, it fades with every window."""
    source = far_off(60)
    sgd = {"kind": "sgd", "lr": 0.4}
    gradient = {"kind": "linear", "context": ["due"], "scale": scale, "discount": discount, "optimiser": sgd}
    with Simulation(scenario(source, "rnn", unroll, gradient, FROZEN), dtype=DOUBLE) as simulation:
        turning(simulation)
        simulation.run(110 * LENGTH)
        hand, model = Hand(simulation, "a", "rnn"), HandGradient(simulation, STATE, 0.1)
    states = [torch.zeros(BATCH, SIZE, dtype=DOUBLE, requires_grad=True)]
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

UNROLL, STEPS = 2, 36


def played(**ends: Any) -> Played:
    shown = {
        "x": drawn(0, STEPS, BATCH, 3),
        "y": drawn(1, STEPS, BATCH, 2),
        "hint": drawn(2, STEPS, BATCH, 2),
    }
    return Played(shown, ("y", "hint"), **ends)


def lessons_of(simulation: Simulation, steps: int) -> list[tuple[Tensor, Tensor]]:
    """The states that the synthetic gradient learns from, and what it learns of them, in order."""
    found = []
    for _ in range(steps):
        simulation.step()
        lesson = simulation.learned.predictor_updates.get(STATE)
        for example in lesson.examples if lesson is not None else []:
            assert example.delta is not None
            found.append((example.message, example.delta))
    return found


def traced(trace: float, span: int, **more: Any) -> dict[str, Any]:
    own = {"kind": "adam", "lr": 0.01}
    return {"kind": "linear", "context": ["hint"], "trace": trace, "span": span, "optimiser": own, **more}


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "leaky"])
def test_a_full_trace_over_the_episode_is_backpropagation(cell: str) -> None:
    """Whatever the predictor says, with its own learning on, on a network that stays as it is."""
    length = 9
    source = played(lengths=(length,) * 4)
    with Simulation(scenario(source, cell, UNROLL, traced(1.0, 5), FROZEN), dtype=DOUBLE) as simulation:
        hand = Hand(simulation, "a", cell)
        found = lessons_of(simulation, STEPS)
    true: list[tuple[Tensor, Tensor]] = []
    for start in range(0, STEPS, length):
        states = [torch.zeros(BATCH, hand.state_size, dtype=DOUBLE, requires_grad=True)]
        losses = []
        for step in range(start, start + length):
            hidden, state = hand.tick(source.at(step)["x"], states[-1])
            losses.append(squared(hand.head("objective", hidden), source.at(step)).sum())
            states.append(state)
        for i in range(1, length):  # a state's own step is over when it is handed on
            rest = torch.stack(losses[i:]).sum()
            true.append((states[i], torch.autograd.grad(rest, states[i], retain_graph=True)[0]))
        true.append((states[length], torch.zeros_like(states[length])))
    assert len(found) >= 12
    for message, delta in found:
        (expected,) = [d for state, d in true if torch.allclose(state, message, atol=1e-12, rtol=0)]
        assert torch.allclose(delta, expected, atol=1e-10, rtol=0)
    assert sum(bool(delta.abs().max() > 1e-2) for _, delta in found) >= 10


def check(trace: float, span: int, source: Played, *, lr: float, steps: int = STEPS, **counts: Any) -> None:
    optimiser = {"kind": "adam", "lr": lr} if lr else FROZEN
    gradient = traced(trace, span, scale=0.3, **counts)
    with Simulation(scenario(source, "lstm", UNROLL, gradient, optimiser), dtype=DOUBLE) as simulation:
        loop = Loop(
            Hand(simulation, "a", "lstm"),
            squared,
            UNROLL,
            lr,
            HandGradient(simulation, STATE, 0.01),
            lambda seen: seen["hint"],
            scale=0.3,
            trace=trace,
            span=span,
            **counts,
        )
        found = lessons_of(simulation, steps)
        for step in range(steps):
            loop.step(source.at(step), *source.ends(step))
        assert len(found) == len(loop.deltas) > 0
        for (_, own), theirs in zip(found, loop.deltas, strict=True):
            assert torch.allclose(own, theirs, atol=1e-10, rtol=0)
        assert distance(simulation, "a", loop.hand) < 1e-10


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


def test_no_trace_is_the_bootstrapped_rule_and_so_is_one_over_a_single_window() -> None:
    runs = []
    for trace, span in ((0.0, 4), (0.9, 1)):
        gradient, optimiser = traced(trace, span), {"kind": "adam", "lr": 0.01}
        with Simulation(
            scenario(played(endless=True), "lstm", UNROLL, gradient, optimiser), dtype=DOUBLE
        ) as simulation:
            runs.append(lessons_of(simulation, STEPS))
    assert len(runs[0]) == len(runs[1]) == STEPS // UNROLL - 1
    assert all(torch.allclose(a, b, atol=1e-14) for (_, a), (_, b) in zip(*runs, strict=True))
    check(0.0, 1, played(endless=True), lr=0.01)
