"""Seeds in one program: each is what it would be alone, and one that diverges takes nobody with it."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario, load
from tests.engine.numbers import fill, one_line
from tests.engine.seeds_asked import close_to
from tests.engine.walks import Walk, walking

SEEDS = [3, 4, 5]
STEPS = 12
SMALL = {"depth": 3, "width": 8, "batch": 8, "agents": 6}


def scenario(name: str = "digits-mlp", variant: str | None = None, **training: Any) -> Scenario:
    template = load(name)
    known = template.resolve_values(variant, {})
    small = {key: value for key, value in SMALL.items() if key in known}
    return template.resolve(variant, small).with_training(steps=STEPS, **training)


def state(simulation: Simulation) -> dict[str, Any]:
    """Return what a simulation has come to; not what lies in its ledgers, some of which nobody will read."""
    state = simulation._state_dict()
    learned = {
        key: value for key, value in state["system"].items() if key not in ("ledgers", "moments", "units")
    }
    return {"losses": simulation.train_means.means(), "env": state["env"], "now": state["now"], **learned}


CASES = [
    ("digits-mlp", None),
    ("digits-mlp", "locked"),
    ("corporation", None),
    ("lossy", None),
    ("eyes", None),
    ("three-timescales", None),
]


@pytest.mark.parametrize(("name", "variant"), CASES)
def test_each_is_what_it_would_be_alone(name: str, variant: str | None) -> None:
    made = scenario(name, variant)
    together = Seeds(made, SEEDS, dtype=torch.float64)
    assert together.sequential_reason is None
    infos = list(together.steps(STEPS))
    for place, seed in enumerate(SEEDS):
        alone = Simulation(made, seed=seed, dtype=torch.float64)
        for step in range(STEPS):
            info, own = alone.step(), infos[step][place]
            assert (own["step"], own["ended"]) == (info["step"], info["ended"])
            assert close_to(dict(info["losses"]), dict(own["losses"]), 1e-9)
        twin = together.simulations[place]
        assert (twin.seed, twin.now, twin.diverged) == (seed, STEPS, None)
        assert close_to(state(alone), state(twin), 1e-9)
        other = Simulation(made, seed=seed, dtype=torch.float64)
        other._load_state_dict(twin._state_dict())  # with what is under way, which is to go on alike
        alone.run(5)
        other.run(5)
        assert close_to(state(alone), state(other), 1e-9)


def test_how_many_there_are_and_in_which_order_makes_no_difference() -> None:
    some = Seeds(scenario(), [3, 4], dtype=torch.float64)
    more = Seeds(scenario(), [5, 4, 3, 8], dtype=torch.float64)
    some.run()
    more.run()
    assert close_to(state(some.simulations[0]), state(more.simulations[2]), 1e-9)


def test_one_can_be_looked_at_forked_and_gone_on_with() -> None:
    together = Seeds(scenario(), SEEDS, dtype=torch.float64)
    together.run(6)
    fork = together.simulations[1].fork()
    alone = Simulation(scenario(), seed=SEEDS[1], dtype=torch.float64)
    alone.run(6)
    assert together.simulations[1].evaluate("test").accuracy == alone.evaluate("test").accuracy
    fork.run(6)
    together.run(6)
    alone.run(6)
    assert close_to(state(alone), state(fork), 1e-9)
    assert close_to(state(alone), state(together.simulations[1]), 1e-9)


def test_all_can_be_put_back() -> None:
    together = Seeds(scenario(), SEEDS)
    together.run(4)
    kept = [simulation._state_dict() for simulation in together.simulations]
    other = Seeds(scenario(), SEEDS)
    for simulation, saved in zip(other.simulations, kept, strict=True):
        simulation._load_state_dict(saved)
    together.run(5)
    other.run(5)
    pairs = zip(together.simulations, other.simulations, strict=True)
    assert all(close_to(state(one), state(twin), 0.0) for one, twin in pairs)


def spoil(simulation: Simulation) -> None:
    """Make all parameters of an agent no numbers."""
    fill(next(iter(simulation._system.agents.values())).learner, math.nan)


def test_where_all_have_diverged_there_is_no_step_left() -> None:
    together = Seeds(scenario(), SEEDS)
    for simulation in together.simulations:
        spoil(simulation)
    with pytest.raises(DivergenceError):
        together.run(6)
    assert all(simulation.diverged is not None for simulation in together.simulations)


@pytest.mark.parametrize(
    ("name", "seeds", "backend", "why"),
    [
        ("copy", [0, 1], "cohort", "how long an episode is differs from seed to seed"),
        ("digits-mlp", [0, 1], "reference", "the reference backend was asked for"),
        ("digits-mlp", [0], "cohort", "there is only one"),
    ],
)
def test_why_they_are_not_joined_is_said_and_they_run_all_the_same(
    name: str, seeds: list[int], backend: str, why: str
) -> None:
    made = load(name).resolve().with_training(steps=3)
    together = Seeds(made, seeds, backend=backend)
    assert together.sequential_reason == why
    together.run()
    alone = Simulation(made, seed=seeds[-1], backend=backend)
    alone.run()
    assert close_to(state(alone), state(together.simulations[-1]), 0.0)


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_are_different_ones(seeds: list[int]) -> None:
    with pytest.raises(ScenarioError, match="seeds: got"):
        Seeds(scenario(), seeds)


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
    before = stopped._state_dict()["env"]["env"]["at"].clone()
    seeds.run(3)
    assert torch.equal(stopped._state_dict()["env"]["env"]["at"], before)
