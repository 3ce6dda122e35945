"""Seeds in one program (`jobs/stacked_program.py`): what the documents of tests/contracts do not try of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from antiphon import DivergenceError, Population, Scenario, Simulation, load
from tests.contracts.builders import levels
from tests.contracts.twins import TOLERANCE, differences, facts
from tests.engine.scenes import CLASSIFY, LINEAR_MAP, scenario_of
from tests.engine.walks import walking
from tests.kit.running import newest_losses, state_of
from tests.running.left import poison

SEEDS = [3, 4, 5]
STEPS = 8


def scenario() -> Scenario:
    small = load("digits-mlp").resolve(None, {"depth": 3, "width": 8, "batch": 8})
    return small.with_training(steps=STEPS)


def assert_alike(one: Simulation, other: Simulation, tolerance: float = TOLERANCE) -> None:
    """Hold all that is known of two simulations to each other."""
    assert not list(differences(facts(one), facts(other), tolerance=tolerance))


def test_one_can_be_evaluated_forked_and_gone_on_with_whatever_stands_beside_it() -> None:
    together = Population(scenario(), [5, 4, 3, 8], dtype=torch.float64)
    alone = Simulation(scenario(), seed=4, dtype=torch.float64)
    for each in (together, alone):
        each.run(4)
    fork = together.simulations[1].fork()
    assert together.simulations[1].evaluate("test").accuracy == alone.evaluate("test").accuracy
    for one in (together, alone, fork):
        one.run(4)
    assert_alike(alone, fork)
    assert_alike(alone, together.simulations[1])


def test_a_seed_that_diverges_keeps_the_environment_as_it_was_and_there_is_no_step_without_any() -> None:
    together = Population(walking(), SEEDS)
    together.run(3)
    poison(stopped := together.simulations[1])
    together.step()
    assert stopped.diverged is not None
    assert not newest_losses(stopped)  # at the step that diverged; not what was at the one before
    before = stopped.signals["observation"].clone()
    together.run(3)
    assert torch.equal(stopped.signals["observation"], before)
    for simulation in together.simulations:
        poison(simulation)
    for _ in range(2):
        with pytest.raises(DivergenceError):
            together.run(2)
    assert all(simulation.diverged is not None for simulation in together.simulations)


@pytest.mark.parametrize(
    ("stopped", "gate", "learn"), [([1], "skill", 1.0), ([0, 2], "skill", 1.0), ([1], "none", 0.5)]
)
def test_the_others_of_a_seed_that_diverges_are_what_they_are_alone(
    stopped: list[int], gate: str, learn: float
) -> None:
    """Its own numbers and gates are those of before the step, and no other's are moved by it."""
    gradient = {"kind": "linear", "context": ["label"], "gate": gate}
    scenario = Scenario.model_validate(levels(low={"learn": learn}, channel={"gradient": gradient}))
    together = Population(scenario, SEEDS, dtype=torch.float64)
    together.run(3)
    for place in stopped:
        poison(together.simulations[place])
    before = [state_of(one)["system"] for one in together.simulations]
    together.run(STEPS - 3)
    for place, (seed, simulation) in enumerate(zip(SEEDS, together.simulations, strict=True)):
        if place in stopped:
            for kind, after in simulation.running.state_dict()["system"].items():
                if kind in ("learners", "predictors"):
                    torch.testing.assert_close(after, before[place][kind], rtol=0, atol=0, equal_nan=True)
            assert simulation.now == 3
            continue
        alone = Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(STEPS)
        assert_alike(alone, simulation)


class Scaled(nn.Module):
    """One that keeps a number of its own, which no stack could have for each seed."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, outputs)
        self.scale = float(torch.rand(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.flatten(1)) * self.scale


APART = {
    "modules that differ": ({"network": Scaled}, {}, "'a' is not the same function in all seeds"),
}


@pytest.mark.parametrize("name", APART)
def test_seeds_that_cannot_be_stacked_run_one_after_the_other(name: str) -> None:
    agent, channel, reason = APART[name]
    agents = {"a": {"observes": ["image"], **agent}, "b": {"network": LINEAR_MAP, "objective": CLASSIFY}}
    channels = [{"from": "a", "to": "b", "size": 4, "coupling": "decoupled", **channel}]
    made = scenario_of(agents, channels)
    seeds = Population(made, SEEDS, dtype=torch.float64)
    assert seeds.sequential_reason == reason
    seeds.run(3)
    alone = Simulation(made, seed=SEEDS[1], dtype=torch.float64)
    alone.run(3)
    assert_alike(alone, seeds.simulations[1], 0)
