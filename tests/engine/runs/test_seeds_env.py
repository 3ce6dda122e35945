"""Seeds of a scenario that holds an environment object: each has one of its own."""

from __future__ import annotations

import threading

import pytest
import torch

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from tests.engine.numbers import one_line
from tests.engine.walks import Walk, walking

STEPS = 7


class Uncopied(Walk):
    """One that holds what cannot be copied."""

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self.lock = threading.Lock()


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_each_seed_has_an_environment_of_its_own(backend: str) -> None:
    seeds = Seeds(walking(Walk(4)), [3, 4, 5], backend=backend, dtype=torch.float64)
    seeds.run(STEPS)
    for seed, simulation in zip([3, 4, 5], seeds.simulations, strict=True):
        alone = Simulation(walking(Walk(4)), seed=seed, backend="reference", dtype=torch.float64)
        alone.run(STEPS)
        ours, theirs = simulation.world.step_signals.signals, alone.world.step_signals.signals
        assert torch.equal(ours["observation"], theirs["observation"])
        for name, handle in alone.agents.items():
            for key, parameter in handle.parameters.items():
                assert torch.allclose(
                    simulation.agents[name].parameters[key], parameter, rtol=1e-9, atol=1e-12
                )


def test_an_environment_that_cannot_be_copied_is_refused() -> None:
    with one_line(r"^env: Uncopied cannot be copied \(.*lock.*\), and every seed"):
        Seeds(walking(Uncopied(4)), [3, 4])
    assert len(Seeds(walking(Uncopied(4)), [3]).simulations) == 1  # one seed needs one environment


def test_a_fork_of_one_that_cannot_be_copied_is_refused() -> None:
    simulation = Simulation(walking(Uncopied(4)))
    with pytest.raises(ScenarioError, match=r"^env: Uncopied cannot be copied"):
        simulation.fork()


def test_a_seed_that_diverges_keeps_the_environment_as_it_was() -> None:
    seeds = Seeds(walking(Walk(4)), [3, 4, 5])
    seeds.run(3)
    with torch.no_grad():
        for parameter in seeds.simulations[1].agents["b"].parameters.values():
            parameter.fill_(float("nan"))
    seeds.step()
    stopped = seeds.simulations[1]
    assert stopped.diverged is not None
    before = stopped.state_dict()["env"]["env"]["at"].clone()
    seeds.run(3)
    assert torch.equal(stopped.state_dict()["env"]["env"]["at"], before)
