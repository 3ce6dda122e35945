"""Learning with stashed weights, against a plain torch chain that keeps its versions."""

from __future__ import annotations

from contextlib import closing

import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation
from antiphon.engine.planning.rivals.learning_rules import LOCKED, with_rule
from antiphon.engine.planning.rivals.stashed_weights import StashedWeights
from antiphon.scenarios import load


def locked(**values: object) -> Scenario:
    return with_rule(load("digits-mlp").resolve(None, {"width": 8, "batch": 16, **values}), LOCKED)


def parameters(simulation: Simulation) -> dict[str, list[torch.Tensor]]:
    return {
        name: [p.detach().clone() for p in agent.learner.parameters.values()]
        for name, agent in simulation.system.agents.items()
    }


def test_nothing_stale_is_the_locked_run_bit_for_bit() -> None:
    scenario = locked()
    with (
        closing(Simulation(scenario, stacked=False)) as one,
        closing(Simulation(scenario, stacked=False)) as other,
    ):
        stashed = StashedWeights(one, {name: [0] for name in one.system.agents})
        for _ in range(5):
            stashed.step()
            other.step()
        for name, own in parameters(other).items():
            assert all(map(torch.equal, parameters(one)[name], own))


@pytest.mark.parametrize(
    "staleness", [([0, 1], [0]), ([0, 1, 2, 3, 4], [0, 1, 2]), ([0, 1, 0, 3, 2, 5, 1], [0, 0, 2, 1, 2])]
)
def test_it_learns_what_a_plain_chain_with_versions_learns(staleness: tuple[list[int], list[int]]) -> None:
    """SGD in float64: every update is the gradient at the weights of so many updates ago, added to the newest."""
    plain = load("digits-mlp").resolve(None, {"width": 8, "batch": 16, "depth": 2})
    optimiser = {"kind": "sgd", "lr": 0.1}
    scenario = with_rule(plain, LOCKED).with_training(optimiser=optimiser)
    with closing(Simulation(scenario, dtype=torch.float64, stacked=False)) as simulation:
        first, last = simulation.system.agents.values()
        versions = [
            [[p.detach().clone() for p in agent.learner.parameters.values()]] for agent in (first, last)
        ]
        stashed = StashedWeights(simulation, dict(zip(simulation.system.agents, staleness, strict=True)))
        for minibatch in range(12):
            signals = simulation.world.step_signals.signals
            x, y = signals["image"].flatten(1).double(), signals["label"]
            stashed.step()
            older = [
                [p.clone().requires_grad_() for p in own[minibatch - stale[min(minibatch, len(stale) - 1)]]]
                for own, stale in zip(versions, staleness, strict=True)
            ]
            weight, bias, gain, shift = older[0]
            message = nn.functional.batch_norm(
                x @ _as_rows(weight, x) + bias, None, None, gain, shift, training=True
            ).relu()
            output = message @ _as_rows(older[1][0], message) + older[1][1]
            flat = [p for own in older for p in own]
            gradients = iter(torch.autograd.grad(nn.functional.cross_entropy(output, y), flat))
            for own in versions:
                own.append([(p - 0.1 * next(gradients)).detach() for p in own[-1]])
            for found, own in zip(parameters(simulation).values(), versions, strict=True):
                for a, b in zip(found, own[-1], strict=True):
                    assert torch.allclose(a, b, atol=1e-12)


def _as_rows(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """A weight as [inputs, outputs]."""
    return weight if weight.shape[0] == x.shape[1] and weight.shape[1] != x.shape[1] else weight.T


def test_stale_weights_part_from_the_locked_run_after_the_first_update() -> None:
    scenario = locked()
    with (
        closing(Simulation(scenario, stacked=False)) as one,
        closing(Simulation(scenario, stacked=False)) as other,
    ):
        stashed = StashedWeights(one, {"n0": [0, 1, 2, 3], "n1": [0, 1, 2], "n2": [0, 1], "n3": [0]})
        stashed.step()
        other.step()
        together = [all(map(torch.allclose, parameters(one)[n], own)) for n, own in parameters(other).items()]
        assert all(together)  # nothing was stale yet
        for _ in range(3):
            stashed.step()
            other.step()
        assert not all(map(torch.allclose, parameters(one)["n0"], parameters(other)["n0"]))
