"""Seeds in one program: each is what it would be alone, and one that diverges takes nobody with it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario, load

SEEDS = [3, 4, 5]
STEPS = 12
SMALL = {"depth": 3, "width": 8, "batch": 8, "agents": 6}


def scenario(name: str = "digits-mlp", variant: str | None = None, **training: Any) -> Scenario:
    template = load(name)
    known = template.resolve_values(variant, {})
    small = {key: value for key, value in SMALL.items() if key in known}
    return template.resolve(variant, small).with_training(steps=STEPS, **training)


def far(one: Any, other: Any) -> float:
    """Return the largest difference between two states, relative to the tensor it is in; inf: they do not match.

    A flag of all environments is the same as a tensor of equal flags.
    """
    if isinstance(one, bool) != isinstance(other, bool):
        flag, flags = (one, other) if isinstance(one, bool) else (other, one)
        return 0.0 if isinstance(flags, torch.Tensor) and bool((flags == flag).all()) else math.inf
    if isinstance(one, torch.Tensor):
        if one.shape != other.shape:
            return math.inf
        one, other = one.detach().double(), other.detach().double()
        gap, scale = (one - other).abs(), one.abs()
        return float(gap.max() / scale.max().clamp(min=1.0)) if gap.numel() else 0.0
    if isinstance(one, Mapping):
        if one.keys() != other.keys():
            return math.inf
        return max((far(value, other[key]) for key, value in one.items()), default=0.0)
    if isinstance(one, Sequence) and not isinstance(one, str):
        return max((far(*pair) for pair in zip(one, other, strict=True)), default=0.0)
    if isinstance(one, float):
        return abs(one - other) / max(1.0, abs(one))
    return 0.0 if one == other else math.inf


def state(simulation: Simulation) -> dict[str, Any]:
    """Return what a simulation has come to; not what lies in its ledgers, some of which nobody will read."""
    state = simulation.state_dict()
    learned = {
        key: value for key, value in state["system"].items() if key not in ("ledgers", "moments", "units")
    }
    return {"losses": simulation.train_means.means(), "env": state["env"], "now": state["now"], **learned}


CASES = [
    ("digits-mlp", None),
    ("digits-mlp", "locked"),
    ("digits-mlp", "local"),
    ("corporation", None),
    ("lossy", None),
    ("eyes", None),
    ("two-timescales", None),
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
            assert far(dict(info["losses"]), dict(own["losses"])) <= 1e-9
        twin = together.simulations[place]
        assert (twin.seed, twin.now, twin.diverged) == (seed, STEPS, None)
        assert far(state(alone), state(twin)) <= 1e-9
        other = Simulation(made, seed=seed, dtype=torch.float64)
        other.load_state_dict(twin.state_dict())  # with what is under way, which is to go on alike
        alone.run(5)
        other.run(5)
        assert far(state(alone), state(other)) <= 1e-9


def test_in_single_precision_they_are_close_for_some_steps() -> None:
    together = Seeds(scenario(), SEEDS)
    together.run(5)
    for seed, twin in zip(SEEDS, together.simulations, strict=True):
        alone = Simulation(scenario(), seed=seed)
        alone.run(5)
        assert far(state(alone), state(twin)) <= 1e-5


def test_how_many_there_are_and_in_which_order_makes_no_difference() -> None:
    some = Seeds(scenario(), [3, 4], dtype=torch.float64)
    more = Seeds(scenario(), [5, 4, 3, 8], dtype=torch.float64)
    some.run()
    more.run()
    assert far(state(some.simulations[0]), state(more.simulations[2])) <= 1e-9


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
    assert far(state(alone), state(fork)) <= 1e-9
    assert far(state(alone), state(together.simulations[1])) <= 1e-9


def test_all_can_be_put_back() -> None:
    together = Seeds(scenario(), SEEDS)
    together.run(4)
    kept = [simulation.state_dict() for simulation in together.simulations]
    other = Seeds(scenario(), SEEDS)
    for simulation, saved in zip(other.simulations, kept, strict=True):
        simulation.load_state_dict(saved)
    together.run(5)
    other.run(5)
    pairs = zip(together.simulations, other.simulations, strict=True)
    assert max(far(state(one), state(twin)) for one, twin in pairs) == 0.0


def spoil(simulation: Simulation, value: float = math.nan) -> None:
    """Put a value into all parameters of an agent."""
    agent = next(iter(simulation.system.agents.values()))
    with torch.no_grad():
        for parameter in agent.learner.parameters.values():
            parameter.fill_(value)


@pytest.mark.parametrize("name", ["digits-mlp", "lossy", "corporation"])
def test_one_that_diverges_takes_nobody_with_it(name: str) -> None:
    whole, spoilt, other = (Seeds(scenario(name), SEEDS, dtype=torch.float64) for _ in range(3))
    for seeds in (whole, spoilt, other):
        seeds.run(4)
    spoil(spoilt.simulations[1])
    spoil(other.simulations[1], math.inf)
    for seeds in (whole, spoilt, other):
        seeds.run(6)
    ended = spoilt.simulations[1]
    assert ended.diverged is not None
    assert "@" not in ended.diverged
    assert ended.now < 10
    assert [whole.simulations[1].diverged, other.simulations[1].diverged is None] == [None, False]
    for place in (0, 2):
        own = state(spoilt.simulations[place])
        assert own["now"] == 10
        assert far(state(whole.simulations[place]), own) <= 1e-9
        assert far(state(other.simulations[place]), own) == 0.0  # whatever its numbers were


def test_nothing_moves_any_more_in_one_that_has_diverged() -> None:
    seeds = Seeds(scenario(), SEEDS)
    seeds.run(4)
    ended = seeds.simulations[1]
    last = list(ended.system.agents)[-1]
    with torch.no_grad():
        next(iter(ended.system.agents[last].learner.parameters.values())).fill_(math.inf)
    kept = {
        (name, key): value.detach().clone()
        for name, agent in ended.system.agents.items()
        for key, value in agent.learner.parameters.items()
    }
    seeds.run(5)
    assert ended.diverged is not None
    for (name, key), value in kept.items():
        assert torch.equal(value, ended.system.agents[name].learner.parameters[key])


def test_the_line_is_that_of_the_run_alone() -> None:
    together, alone = Seeds(scenario(), SEEDS), Simulation(scenario(), seed=SEEDS[1], backend="reference")
    together.run(3)
    alone.run(3)
    spoil(together.simulations[1])
    spoil(alone)
    together.run(3)
    with pytest.raises(DivergenceError) as caught:
        alone.run(3)
    assert together.simulations[1].diverged == str(caught.value)
    assert together.simulations[1].now == alone.now


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
    assert far(state(alone), state(together.simulations[-1])) == 0.0


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_are_different_ones(seeds: list[int]) -> None:
    with pytest.raises(ScenarioError, match="seeds: got"):
        Seeds(scenario(), seeds)
