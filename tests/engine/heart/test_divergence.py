"""A loss or gradient that is not finite ends the run; what was learned before that step is kept (semantics 32)."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest
import torch

from antiphon import DivergenceError, Scenario, Simulation
from antiphon.comms import Coupling, CreditedMessage
from tests.contracts.builders import ring
from tests.contracts.twins import facts, made
from tests.engine.numbers import one_line
from tests.engine.scenes import scenario_of
from tests.kit.running import check_later, seeds_together
from tests.numerics.linear import simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import played
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
    channel = {"coupling": coupling, "gradient": {"context": ["label"], "scale": scale, "discount": scale}}
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
    rate = (
        "its learning rate," if "synthetic gradient of its channel" in line else "its learning rate (1e+30),"
    )
    assert f"lower {rate}" in line
    assert line.startswith(("agent 'a'", "agent 'b'", "agent 'c'"))


def test_a_predictor_that_diverges_stops_the_agents_at_the_same_step() -> None:
    """Agents and predictors move together or not at all, whoever it was; a shadow leaves the agents finite."""
    line = diverge(Simulation(chain(scale=0.0, predictor={"kind": "sgd", "lr": 1e15})))
    assert line.startswith(("agent 'a': the loss of the synthetic", "agent 'b': the loss of the synthetic"))


@BOTH
def test_a_bad_gradient_from_one_agent_keeps_all_from_moving(backend: Chosen) -> None:
    simulation = Simulation(chain(), backend=backend)
    simulation.agents["c"].parameters["objective.weight"].data.fill_(torch.nan)
    line = diverge(simulation)
    assert "agent 'c': the loss at step 1 is not finite" in line
    if backend == "cohort":
        assert "nothing was learned before: look for nan in its loss" in line


class Unbounded(torch.nn.Linear):
    """A network whose outputs are no numbers."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * torch.nan


def test_a_network_that_returns_no_numbers_is_named() -> None:
    line = diverge(Simulation(chain(first=Unbounded)))
    fix = "nothing was learned before: look for nan in its network's output"
    assert line.startswith(f"agent 'a': the gradient at step 1 is not finite; {fix}")


class Endless(Coupling):
    """A credit without numbers."""

    name = "endless"
    predicts = True

    def credit(self, message: CreditedMessage, step: int) -> torch.Tensor:
        return message.sent * torch.nan


@pytest.mark.parametrize("later", [False, True])
def test_a_coupling_of_ones_own_whose_credit_is_not_finite_is_named(later: bool) -> None:
    """Checked within the step, or as on a GPU after it."""
    simulation = Simulation(chain(Endless))
    with pytest.raises(DivergenceError) as found:
        (check_later(simulation) if later else simulation).run(2)
    line = str(found.value)
    assert line.startswith("agent 'a': the gradient at step 1 is not finite; nothing was learned before")
    places = "look for nan in what `credit` of its coupling 'Endless' returns, its network's output, its inputs and"
    assert places in line
    assert "coupling" not in diverge(Simulation(chain(first=Unbounded)))


@pytest.mark.parametrize("kind", ["gradient", "input"])
def test_a_predictor_of_ones_own_that_is_not_finite_is_named(kind: str) -> None:
    """NaN, which does not equal itself, is not taken for a state that the module keeps."""
    keys = {
        "gradient": {"gradient": {"kind": Unbounded}},
        "input": {"coupling": "unlocked", "input": {"kind": Unbounded, "context": ["left_half"]}},
    }
    agents = {"a": {"observes": ["left_half"]}, "b": {"objective": GOAL}}
    channels = [{"from": "a", "to": "b", "size": 5, **keys[kind]}]
    line = diverge(Simulation(scenario_of(agents, channels)))
    assert f"look for nan in what the synthetic {kind} of its channel a->b returns, its " in line


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


def test_a_seed_whose_loss_is_infinite_stops_with_the_line_that_it_has_alone() -> None:
    together = seeds_together(overflowing(0, kind="adam"), (0, 1))
    assert together is not None
    with closing(together) as seeds:
        with pytest.raises(DivergenceError):
            seeds.run(steps=5)
        for simulation in seeds.simulations:
            assert "agent 'sick': the loss at step 2 is not finite" in str(simulation.diverged)


def test_in_single_precision_what_is_finite_is_not_called_something_else() -> None:
    """Gradients whose squares are no numbers any more."""
    with made(ring(), "cohort", dtype=torch.float32) as simulation:
        simulation.run(4)
        predictor = simulation.channels["n0->n1"].synthetic_gradient
        assert predictor is not None
        predictor.parameters["last.bias"].data.fill_(1e21)
        # of the predictor's own loss that is so; the gradient that it puts on the sender is a number
        with one_line(
            "agent 'n0': the loss of the synthetic gradient of its channel n0->n1", DivergenceError
        ):
            simulation.step()


def test_who_returns_what_is_no_number_diverges_though_its_own_gradient_is_one() -> None:
    """The weights of two classes are of opposite signs and the largest there are: their difference overflows on the way back."""
    label = torch.zeros(30, 4, dtype=torch.long)
    label[:, 1:] = 1
    source = Played({"x": 1e-3 * played().shown["x"], "label": label}, ("label",), endless=True)
    agents = {"a": {"observes": ["x"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    channels = [{"from": "a", "to": "b"}]
    with simulation_of(agents, channels, source) as simulation:
        simulation.agents["a"].parameters["to_b.bias"].data.zero_()
        weight = simulation.agents["b"].parameters["objective.weight"].data
        weight.copy_(torch.tensor([[1.7e308], [-1.7e308]], dtype=torch.float64).expand(2, 2))
        with one_line("agent 'b': the gradient at step 1 is not finite", DivergenceError):
            simulation.step()
