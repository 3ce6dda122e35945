"""How far credit reaches through predicted gradients of states: its norm at every distance."""

from __future__ import annotations

import pytest
import torch

from antiphon import Simulation
from tests.contracts.builders import Document
from tests.numerics.linear import sgd
from tests.numerics.loops import Hand, HandGradient, squared
from tests.numerics.played import Played
from tests.numerics.recurring import STATE, make
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
