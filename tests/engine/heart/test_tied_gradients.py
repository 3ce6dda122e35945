"""Tied parameters: what is one weight in several agents begins equal and stays equal, whatever is done to one (semantics 27c).

That it follows the sum of its gradients is in tests/numerics/test_tied.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon import Simulation
from tests.contracts.builders import Document, ring
from tests.contracts.documents import WEIGHTS, tied
from tests.contracts.twins import made
from tests.engine.numbers import equal
from tests.reference.backend import Chosen, reference

BACKENDS = pytest.mark.parametrize("backend", ["cohort", reference])
ONE = WEIGHTS[0]
"""One weight of n0, n2 and n3."""


def simulation_of(backend: Chosen, *ties: list[str], seed: int = 3, **keys: Any) -> Simulation:
    return made(tied(ring(**keys), *(ties or (ONE,))), backend, seed=seed)


def of(simulation: Simulation, name: str) -> Tensor:
    """A parameter as AGENT.PARAMETER."""
    agent, _, parameter = name.partition(".")
    return simulation.agents[agent].parameters[parameter].detach().clone()


def assert_tied(simulation: Simulation, *names: str) -> None:
    assert equal([of(simulation, name) for name in names[1:]], [of(simulation, names[0])] * (len(names) - 1))


class Overwriting(torch.optim.SGD):
    """Gradient descent that leaves zeros in the gradients that it was given."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.zero_()


@BACKENDS
def test_an_optimiser_that_overwrites_its_gradients_changes_no_other_agents(backend: Chosen) -> None:
    with simulation_of(backend, optimiser={"kind": Overwriting, "lr": 0.1}) as simulation:
        before = of(simulation, ONE[2])
        simulation.run(steps=3)
        assert not torch.equal(before, of(simulation, ONE[2]))
        assert_tied(simulation, *ONE)


@BACKENDS
def test_the_first_gives_the_values(backend: Chosen) -> None:
    with simulation_of(backend, *WEIGHTS) as simulation, made(ring(), backend) as alone:
        assert simulation.events == []
        assert_tied(simulation, *ONE)
        assert torch.equal(of(simulation, ONE[0]), of(alone, ONE[0]))
    layers = [nn.Linear(8, 7) for _ in range(2)]
    scene: Document = tied(ring(2), ["n0.module.weight", "n1.module.weight"])
    for agent, layer in zip(scene["agents"].values(), layers, strict=True):
        agent["network"] = layer
    with made(scene, backend) as simulation:
        assert torch.equal(of(simulation, "n1.module.weight"), layers[0].weight.double())


@BACKENDS
def test_all_of_a_tie_begin_with_new_moments_where_one_takes_weights(tmp_path: Path, backend: Chosen) -> None:
    """It takes its own, which are equal to those of the others; with moments of its own it would leave them."""
    with simulation_of(backend) as simulation:
        simulation.run(5)
        simulation.load_weights(simulation.save(tmp_path / "run"), ["n2"])
        for _ in range(3):
            simulation.step()
            assert_tied(simulation, *ONE)
