"""A loss or gradient that is not finite ends the run; what was learned before that step is kept (semantics 32)."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import torch

from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import StackedBackend
from antiphon.errors import DivergenceError
from antiphon.scenarios import Scenario
from tests.engine.numbers import kept
from tests.engine.scenes import scenario_of


def chain(coupling: str = "decoupled", **training: Any) -> Scenario:
    net = {"kind": "mlp", "hidden": [5], "norm": "none"}
    agents = {
        "a": {"observes": ["left_half"], "network": net},
        "b": {"network": net},
        "c": {
            "network": {"kind": "mlp", "hidden": []},
            "objective": {"kind": "regression", "target": "right_half"},
        },
    }
    channel = {"coupling": coupling, "gradient": {"context": ["label"]}}
    channels = [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]
    return scenario_of(agents, channels, **{"batch": 4, "optimiser": {"kind": "sgd", "lr": 0.01}, **training})


def numbers(simulation: Simulation) -> dict[str, torch.Tensor]:
    """All of agents and predictors: parameters, running statistics, optimiser states."""
    state = simulation._state_dict()["system"]
    found = kept({key: state[key] for key in ("learners", "predictors")})
    return {place: value for place, value in found.items() if isinstance(value, torch.Tensor)}


def run_until_it_diverges(simulation: Simulation) -> tuple[str, int, dict[str, torch.Tensor]]:
    for step in range(60):
        before = numbers(simulation)
        try:
            simulation.step()
        except DivergenceError as error:
            return str(error), step, before
    raise AssertionError("it did not diverge")


@pytest.mark.parametrize("kind", ["sgd", "adam"])
@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed", "detached"])
def test_a_huge_rate_ends_the_run_with_what_was_learned_before(coupling: str, kind: str) -> None:
    simulation = Simulation(chain(coupling, optimiser={"kind": kind, "lr": 1e30}))
    message, step, before = run_until_it_diverges(simulation)
    assert f"step {step}" in message
    assert "lower" in message
    assert message.startswith(("agent 'a'", "agent 'b'", "agent 'c'"))
    assert "\n" not in message
    after = numbers(simulation)
    assert all(torch.equal(before[k].nan_to_num(7.0), v.nan_to_num(7.0)) for k, v in after.items())


def test_a_predictor_that_diverges_stops_the_agents_at_the_same_step() -> None:
    """Agents and predictors move together or not at all, whoever it was."""
    simulation = Simulation(chain(predictor={"kind": "sgd", "lr": 1e15}))
    for channel in simulation._system.channels.values():
        channel.apply = False  # a shadow: agents stay finite while it explodes
    message, step, before = run_until_it_diverges(simulation)
    assert message.startswith(
        ("agent 'a': the loss of the synthetic", "agent 'b': the loss of the synthetic")
    )
    assert f"step {step}" in message
    assert all(torch.equal(before[k], v) for k, v in numbers(simulation).items())


def test_a_bad_gradient_from_one_agent_keeps_all_from_moving() -> None:
    simulation = Simulation(chain())
    simulation.run(3)
    simulation.agents["c"].parameters["objective.weight"].data.fill_(torch.nan)
    before = numbers(simulation)
    with pytest.raises(DivergenceError, match=r"agent 'c': the gradient at step 3 is not finite"):
        simulation.step()
    for name, value in numbers(simulation).items():
        assert torch.equal(before[name], value) or name == "/learners/c/parameters/objective.weight"


def overflowing(count: int, **optimiser: Any) -> Scenario:
    """Agents whose first step takes them to where the squares of their errors overflow: the loss is infinite, its gradient is not."""
    goal = {"kind": "regression", "target": "right_half"}
    agent = {"observes": ["left_half"], "network": {"kind": "mlp", "hidden": []}, "objective": goal}
    well = {f"well{i}": agent for i in range(count)}
    sick = {"sick": {**agent, "optimiser": {"lr": 1e20, **optimiser}}}
    return scenario_of({**well, **sick}, optimiser={"kind": optimiser["kind"], "lr": 0.01})


@pytest.mark.parametrize("optimiser", [{"kind": "adam"}, {"kind": "sgd", "clip": 1.0}], ids=["adam", "clip"])
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("backend", ["reference", "cohort", "native", "device"])
def test_a_loss_that_is_infinite_ends_the_run_where_its_gradient_is_not(
    backend: str, count: int, optimiser: dict[str, Any]
) -> None:
    scenario = overflowing(count, **optimiser)
    with Simulation(scenario, backend="cohort" if backend == "device" else backend) as simulation:
        if backend == "device":  # what is checked there is read later
            assert isinstance(simulation.backend, StackedBackend)
            simulation.backend.check_later()
        simulation.step()
        before = numbers(simulation)
        with pytest.raises(DivergenceError, match="agent 'sick': the loss at step 1 is not finite"):
            simulation.run(20)
        assert all(torch.equal(before[name], value) for name, value in numbers(simulation).items())


@pytest.mark.parametrize("backend", ["reference", "cohort"])
def test_an_agent_whose_loss_is_infinite_goes_into_quarantine(backend: str) -> None:
    scenario = overflowing(2, kind="adam").with_training(on_divergence="quarantine")
    with Simulation(scenario, backend=backend) as simulation:
        simulation.run(5)
        assert [(step, line.partition(";")[0]) for step, line in simulation.events] == [
            (1, "agent 'sick': the loss at step 1 is not finite")
        ]
        assert simulation.agents["well0"].updates == 5


def test_a_seed_whose_loss_is_infinite_stops_with_the_line_that_it_has_alone() -> None:
    with closing(Seeds(overflowing(0, kind="adam"), [0, 1])) as seeds:
        assert seeds.sequential_reason is None
        with pytest.raises(DivergenceError):
            seeds.run(steps=5)
        for simulation in seeds.simulations:
            assert "agent 'sick': the loss at step 1 is not finite" in str(simulation.diverged)
