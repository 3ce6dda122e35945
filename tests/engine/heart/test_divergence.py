"""A loss or gradient that is not finite ends the run; what was learned before that step is kept (semantics 32)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import DivergenceError, Scenario, Simulation
from tests.contracts.twins import facts
from tests.engine.scenes import scenario_of
from tests.kit.running import check_later
from tests.reference.backend import Chosen, reference

GOAL = {"kind": "regression", "target": "right_half"}
BOTH = pytest.mark.parametrize("backend", ["cohort", reference])


def chain(coupling: Any = "decoupled", *, scale: float = 1.0, first: Any = None, **training: Any) -> Scenario:
    net = {"kind": "mlp", "hidden": [5], "norm": "none"}
    agents = {
        "a": {"observes": ["left_half"], "network": first or net},
        "b": {"network": net},
        "c": {"network": {"kind": "mlp", "hidden": []}, "objective": GOAL},
    }
    channel = {
        "coupling": coupling,
        "gradient": {"kind": "linear", "context": ["label"], "scale": scale, "discount": scale},
    }
    sizes = {} if first is None else {"size": 5}
    channels = [{"from": s, "to": r, **channel, **sizes} for s, r in ("ab", "bc")]
    return scenario_of(agents, channels, **{"batch": 4, "optimiser": {"kind": "sgd", "lr": 0.01}, **training})


def numbers(simulation: Simulation) -> dict[str, torch.Tensor]:
    """All of agents and predictors: parameters, running statistics, optimiser states."""
    found = facts(simulation)
    return {k: v.nan_to_num(7.0) for k, v in found.items() if isinstance(v, torch.Tensor) and "@" not in k}


def diverge(simulation: Simulation) -> str:
    """Take steps until one diverges, hold all numbers to those of before it, and return the line."""
    before: dict[str, torch.Tensor] = {}

    def go_on() -> None:
        while simulation.now < 60:
            before.update(numbers(simulation))
            simulation.step()

    with pytest.raises(DivergenceError) as found:
        go_on()
    line, after = str(found.value), numbers(simulation)
    assert all(torch.equal(before[name], value) for name, value in after.items())
    assert f"step {simulation.now + 1} " in line
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("coupling", "kind"), [("locked", "sgd"), ("decoupled", "adam"), ("delayed", "sgd"), ("detached", "sgd")]
)
def test_a_huge_rate_ends_the_run_with_what_was_learned_before(coupling: str, kind: str) -> None:
    line = diverge(Simulation(chain(coupling, optimiser={"kind": kind, "lr": 1e30})))
    assert line.endswith("lower its learning rate")
    assert line.startswith(("agent 'a'", "agent 'b'", "agent 'c'"))


def test_a_predictor_that_diverges_stops_the_agents_at_the_same_step() -> None:
    """Agents and predictors move together or not at all, whoever it was; a shadow leaves the agents finite."""
    line = diverge(Simulation(chain(scale=0.0, predictor={"kind": "sgd", "lr": 1e15})))
    assert line.startswith(("channel a->b: the synthetic gradient", "channel b->c: the synthetic gradient"))


@BOTH
def test_a_bad_gradient_from_one_agent_keeps_all_from_moving(backend: Chosen) -> None:
    simulation = Simulation(chain(), backend=backend)
    simulation.agents["c"].parameters["objective.weight"].data.fill_(torch.nan)
    line = diverge(simulation)
    assert "agent 'c': the loss at step 1 is not finite" in line


def overflowing(count: int, **optimiser: Any) -> Scenario:
    """Agents whose first step takes them to where the squares of their errors overflow: the loss is infinite, its gradient is not."""
    agent = {"observes": ["left_half"], "network": {"kind": "mlp", "hidden": []}, "objective": GOAL}
    well = {f"well{i}": agent for i in range(count)}
    sick = {"sick": {**agent, "optimiser": {"lr": 1e20, **optimiser}}}
    return scenario_of({**well, **sick}, optimiser={"kind": optimiser["kind"], "lr": 0.01})


@pytest.mark.parametrize("optimiser", [{"kind": "adam"}, {"kind": "sgd", "clip": 1.0}], ids=["adam", "clip"])
@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("backend", [reference, "cohort", "native", "device"])
def test_a_loss_that_is_infinite_ends_the_run_where_its_gradient_is_not(
    backend: Chosen, count: int, optimiser: dict[str, Any]
) -> None:
    name = "cohort" if backend == "device" else backend
    with Simulation(overflowing(count, **optimiser), backend=name) as simulation:
        if backend == "device":  # what is checked there is read later
            check_later(simulation)
        simulation.step()
        before = numbers(simulation)
        with pytest.raises(DivergenceError, match="agent 'sick': the loss at step 2 is not finite"):
            simulation.run(20)
        assert all(torch.equal(before[name], value) for name, value in numbers(simulation).items())


@BOTH
@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_agent_of_a_step_is_looked_at(place: int, backend: Chosen) -> None:
    agent = {"observes": ["left_half"], "objective": GOAL}
    agents = {f"a{i}": {**agent, "network": {"kind": "mlp", "hidden": [i + 2]}} for i in range(3)}
    agents[f"a{place}"]["optimiser"] = {"kind": "adam", "lr": 1e20}
    with Simulation(scenario_of(agents), backend=backend) as simulation:
        with pytest.raises(DivergenceError, match=f"agent 'a{place}': the loss at step 2 is not finite"):
            simulation.run(20)
        assert simulation.now == 1
