"""State over time against loops by hand: locked and detached, predicted across the window's end, and how far credit reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.envs import from_tensors
from antiphon.nets.random import uniform
from antiphon.scenarios import Scenario
from tests.contracts.builders import Document
from tests.numerics.linear import assert_close, sgd
from tests.numerics.loops import Hand, HandGradient, Loop, distance, squared
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, GOAL, LENGTHS, STATE, STEPS, make, played
from tests.numerics.whole import DOUBLE, drawn
from tests.reference.backend import Chosen, reference

# --- locked and detached states --------------------------------------------------------------------------


KINDS = ("rnn", "leaky", "gru", "lstm")
LR = 0.01


def simulation_of(
    env: Any, kind: str, coupling: str | None, unroll: int | str, goal: Document = GOAL, **agent: Any
) -> Simulation:
    """One recurrent agent; without a coupling its state is what the agent has by itself."""
    network = {"kind": kind, "size": 5, "hidden": [7], "norm": "layer"}
    return make(env, coupling, unroll=unroll, network=network, objective=goal, **agent)


def adam(hand: Hand) -> torch.optim.Adam:
    return torch.optim.Adam(hand.numbers.values(), lr=LR, fused=True)


def follow(optimiser: torch.optim.Adam, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


def nothing(hand: Hand) -> tuple[Tensor, Tensor]:
    """The state and the loss of an episode that begins."""
    return torch.zeros(BATCH, hand.state_size, dtype=DOUBLE), torch.zeros((), dtype=DOUBLE)


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_state_is_backpropagation_through_the_episode(kind: str) -> None:
    """Also where episodes differ in length."""
    source = played(lengths=LENGTHS)
    with simulation_of(source, kind, "locked", "episode") as simulation:
        hand = Hand(simulation, "a", kind)
        optimiser = adam(hand)
        for length in LENGTHS:
            state, loss = nothing(hand)
            for step in range(simulation.now, simulation.now + length):
                seen = source.at(step)
                hidden, state = hand.tick(seen["x"], state)
                loss = loss + squared(hand.head("objective", hidden), seen).sum() / BATCH
                info = simulation.step()
            follow(optimiser, loss)
            assert float(info["losses"]["a"]) == pytest.approx(loss.item(), abs=1e-10)
        assert simulation.agents["a"].updates == len(LENGTHS)
        assert distance(simulation, "a", hand) < 1e-10


def test_an_example_that_is_an_episode_is_learned_as_one() -> None:
    """A stream of held examples: only the last step's loss counts, and its gradient reaches the first."""
    label = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(1))
    source = from_tensors(x=drawn(0, 60, 4), y=label, hold=5, episode="example")
    goal = {"kind": "classification", "target": "y"}
    with simulation_of(source, "gru", "locked", "episode", goal) as simulation:
        hand = Hand(simulation, "a", "gru")
        optimiser = adam(hand)
        for _ in range(6):
            state, _ = nothing(hand)
            for _ in range(5):
                seen = simulation.signals
                hidden, state = hand.tick(seen["x"], state)
                simulation.step()
            follow(optimiser, F.cross_entropy(hand.head("objective", hidden), seen["y"]))
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "unroll", "coupling"),
    [*((kind, 4, "detached") for kind in KINDS), ("gru", 1, "detached"), ("lstm", 4, None)],
)
def test_a_detached_state_is_truncated_backpropagation(kind: str, unroll: int, coupling: str | None) -> None:
    source = played(endless=True)
    with simulation_of(source, kind, coupling, unroll) as simulation:
        hand = Hand(simulation, "a", kind)
        loop = Loop(hand, squared, unroll, LR)
        for step in range(STEPS):
            simulation.step()
            loop.step(source.at(step), *source.ends(step))
        assert distance(simulation, "a", hand) < 1e-10


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_locked_agents_of_different_windows_learn_in_the_longest(backend: Chosen) -> None:
    """One that is locked to an agent whose window is the episode trains as one whose own is (rule 14)."""
    found = []
    for unroll in (3, "episode"):
        cell = {"kind": "gru", "size": 4}
        agents = {
            "ear": {"observes": ["symbol"], "network": cell, "clock": {"unroll": unroll}},
            "mouth": {
                "network": cell,
                "clock": {"unroll": "episode"},
                "objective": {"kind": "coding", "target": "target"},
            },
        }
        document = {
            "scenario": "mixed",
            "env": {"id": "antiphon/Copy-v0"},
            "agents": agents,
            "channels": [{"from": "ear", "to": "mouth", "size": 3, "coupling": "locked"}],
            "training": {"batch": 4},
        }
        with Simulation(Scenario.model_validate(document), seed=0, backend=backend) as simulation:
            simulation.run(40)
            found.append(
                [one.clone() for name in agents for one in simulation.agents[name].parameters.values()]
            )
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


# --- predicted gradients of states -----------------------------------------------------------------------


RATE, SG_LR, UNROLL = 0.01, 0.003, 3
PREDICTED: dict[str, Document] = {
    "linear": {"kind": "linear"},
    "mlp": {"kind": "mlp", "hidden": [9], "norm": "layer"},
    "deep": {"kind": "mlp", "hidden": [9, 8], "norm": "none"},
}


def ending(share: float, seed: int) -> Tensor:
    return torch.stack([uniform(seed, step, BATCH) < share for step in range(STEPS)])


def check(
    source: Played, cell: str = "lstm", kind: str = "mlp", unroll: int = UNROLL, **counts: float
) -> None:
    """Let an agent and its loop by hand learn side by side: all that either has learned is the same.

    Args:
        source: What both see.
        cell: Of the agent.
        kind: Of the synthetic gradient.
        unroll: Steps in a window.
        **counts: `scale`, `discount`, `auxiliary`.
    """
    network = {"kind": cell, "size": 5, "hidden": [7], "norm": "layer"}
    gradient = {
        "kind": "linear",
        "context": ["hint"],
        "optimiser": {"kind": "adam", "lr": SG_LR},
        **PREDICTED[kind],
        **counts,
    }
    with make(source, gradient, unroll=unroll, network=network) as simulation:
        hand, model = Hand(simulation, "a", cell), HandGradient(simulation, STATE, SG_LR)
        start = {key: p.detach().clone() for key, p in model.numbers.items()}
        loop = Loop(hand, squared, unroll, RATE, model, lambda seen: seen["hint"], **counts)
        for step in range(STEPS):
            loop.step(source.at(step), *source.ends(step))
            simulation.step()
        assert distance(simulation, "a", hand) < 1e-10
        assert_close(simulation.channels[STATE].synthetic_gradient, model.numbers, 1e-10)
        assert all((p - start[key]).abs().max() > 1e-3 for key, p in model.numbers.items())


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("cell", "kind"),
    [*(("lstm", kind) for kind in PREDICTED), ("gru", "linear"), ("rnn", "mlp"), ("leaky", "mlp")],
)
def test_a_decoupled_state_is_learned_as_by_hand(cell: str, kind: str) -> None:
    check(played(endless=True), cell, kind, scale=0.1)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("unroll", "scale", "discount"), [(4, 1.0, 1.0), (1, 0.5, 0.9), (4, 2.0, 0.0), (2, 0.0, 1.0)]
)
def test_scale_and_discount_count_where_they_should(unroll: int, scale: float, discount: float) -> None:
    check(played(endless=True), unroll=unroll, scale=scale, discount=discount)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("mlp", {"terminated": ending(0.2, 3)}),
        ("deep", {"truncated": ending(0.2, 4)}),
        ("linear", {"terminated": ending(0.15, 3), "truncated": ending(0.15, 4) & ~ending(0.15, 3)}),
        ("mlp", {"lengths": LENGTHS}),
    ],
    ids=["terminated", "truncated", "both", "together"],
)
def test_episodes_end_per_environment_within_a_window(kind: str, ends: dict[str, Any]) -> None:
    """Terminated: the state is taught that nothing follows; cut short: it is taught nothing; both begin anew."""
    at_ends, within = range(UNROLL - 1, STEPS, UNROLL), range(0, STEPS, UNROLL)
    for flags in ends.values():
        if isinstance(flags, Tensor):
            assert flags[list(at_ends)].any()
            assert flags[list(within)].any()
    check(played(**ends), "lstm", kind, scale=0.1)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "ends", [{"endless": True}, {"terminated": ending(0.2, 3)}], ids=["endless", "episodes"]
)
def test_the_auxiliary_task_reaches_the_core_and_no_delta(ends: dict[str, Any]) -> None:
    check(played(**ends), scale=0.5, auxiliary=0.7)


# --- how far credit reaches ------------------------------------------------------------------------------


SIZE, LENGTH, SPAN = 4, 6, 2


def turned(env: Played, cell: str, unroll: int, gradient: Document, lr: float) -> Simulation:
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


@pytest.mark.nightly
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
    with turned(source, "rnn", unroll, gradient, 0.0) as simulation:
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
