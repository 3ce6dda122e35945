"""What is not finite ends the run and moves nothing; the host waits for no number, and what was learned before is kept (semantics 32)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from antiphon import DivergenceError, Scenario, Simulation
from tests.contracts.builders import ring as scenes_ring
from tests.contracts.twins import facts, made
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import CLASSIFY, scenario_of
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


@pytest.mark.parametrize("sick", ["n0", "n3"])
def test_where_one_diverges_no_parameter_has_moved(sick: str) -> None:
    """Neither of its own stack nor of another, whichever is the first to step."""
    layers = [{"network": {"kind": "mlp", "hidden": [4], "norm": norm}} for norm in ("layer", "none")]
    with made(scenes_ring(agent=layers), "cohort") as simulation:
        simulation.run(5)
        for p in simulation.agents[sick].parameters.values():
            p.data.fill_(torch.nan)
        before = [p.clone() for agent in simulation.agents.values() for p in agent.parameters.values()]
        with pytest.raises(DivergenceError, match=f"agent '{sick}'"):
            simulation.step()
        after = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)


# --- the guard -------------------------------------------------------------------------------------------


WAITS = ("_local_scalar_dense", "nonzero", "is_nonzero", "aten.equal", "_unique")
"""Operations whose result the host has to wait for."""
NETWORKS: dict[str, dict[str, Any]] = {
    "batch norm": {"kind": "mlp", "hidden": [8], "norm": "batch"},
    "lstm": {"kind": "lstm", "size": 5},
}
stacked_and_lone = pytest.mark.parametrize("stacked", [True, False], ids=["stacked", "lone"])


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if any(name in str(func) for name in WAITS):
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def ring(network: str = "batch norm", *, stacked: bool = True, **channel: Any) -> Simulation:
    names = [f"n{i}" for i in range(6)]
    agent = {
        "observes": ["image"],
        "network": NETWORKS[network],
        "objective": CLASSIFY,
        "clock": {"unroll": 2},
    }
    plain = {"size": 4, "norm": "none", "link": {"delay": 1}}
    ends = zip(names, names[1:] + names[:1], strict=True)
    channels = [{"from": a, "to": b, **plain, **channel} for a, b in ends]
    scenario = scenario_of(
        dict.fromkeys(names, agent), channels, telemetry={"period": 10}, batch=4, steps=400
    )
    return Simulation(scenario, backend="cohort", stacked=stacked)


@pytest.mark.cases(1)
@pytest.mark.parametrize("network", NETWORKS)
@stacked_and_lone
def test_the_host_waits_for_no_number_and_no_bit_is_another(network: str, stacked: bool) -> None:
    # Without the label as context: torch's one_hot looks at its argument, but on the CPU alone.
    plain = {"gradient": {"kind": "mlp", "context": []}, "stacked": stacked}
    one, other = check_later(ring(network, **plain)), ring(network, **plain)
    for simulation, waits in ((one, False), (other, True)):
        for _ in range(3):
            simulation.step()
        with _Waits() as found:
            for _ in range(4):
                simulation.step()
        assert bool(found.found) == waits
    assert equal(all_parameters(one), all_parameters(other))
