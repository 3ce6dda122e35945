"""Policies beside everything else that learns: on both backends the same, whatever the channel, the state or the tie."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.acting import ONE, Stage
from tests.engine.scenes import scenario_of
from tests.engine.step.test_policies_stacked import equal, numbers

MLP: dict[str, Any] = {"kind": "mlp", "hidden": [4], "activation": "tanh", "norm": "none"}
GRU: dict[str, Any] = {"kind": "gru", "size": 3, "norm": "none"}
PPO: dict[str, Any] = {"kind": "ppo", "epochs": 3, "minibatches": 2}
ADAM: dict[str, Any] = {"kind": "adam", "lr": 0.01}
STEPS = 14


def pair(
    channel: dict[str, Any] | None = None,
    state: dict[str, Any] | None = None,
    clocks: tuple[Any, Any] = ({"unroll": 4}, {"unroll": 4}),
    sweep: bool = False,
    **motor: Any,
) -> Scenario:
    own = {"observes": ["place"], "network": MLP, "clock": clocks[1], "acts": True, "objective": PPO}
    agents = {"s": {"observes": ["view"], "network": MLP, "clock": clocks[0]}, "m": {**own, **motor}}
    channels = [{"from": "s", "to": "m", "size": 2, "norm": "none", **(channel or {})}]
    if state is not None:
        channels.append(
            {"from": "m", "to": "m", "carries": "state", "coupling": "decoupled", "gradient": state}
        )
    training: dict[str, Any] = {"batch": 8, "optimiser": ADAM, "predictor": ADAM, "sweep": sweep}
    return scenario_of(agents, channels, Stage(ONE), **training)


def several(objective: Any = PPO, tied: Any = (), **keys: Any) -> Scenario:
    own = {"observes": ["view"], "network": MLP, "clock": {"unroll": 4}, "objective": objective, **keys}
    agents = {name: {**own, "acts": name} for name in "ab"}
    space = spaces.Dict({name: spaces.Discrete(3) for name in "ab"})
    scenario = scenario_of(agents, (), Stage(space, rewards=("a",)), batch=8, optimiser=ADAM)
    fields = {name: getattr(scenario, name) for name in Scenario.model_fields}
    return Scenario(**{**fields, "tied": tied})


def gradient(kind: str, **keys: Any) -> dict[str, Any]:
    return {"gradient": {"kind": kind, "context": ["view"], **keys}}


LOCKED = {"coupling": "locked"}
TIED = (("a.0.weight", "b.0.weight"),)
SCENES: dict[str, Scenario] = {
    "critic": pair(gradient("critic", hidden=[4])),
    "sobolev": pair(gradient("sobolev", hidden=[4])),
    "mixed with what comes back": pair(gradient("linear", trace=0.5)),
    "delayed": pair({"coupling": "delayed"}),
    "delayed by the link": pair({"coupling": "delayed", "link": {"delay": 1}}, objective={"kind": "a2c"}),
    "locked with a delay": pair({**LOCKED, "link": {"delay": 1}}),
    "locked with noise": pair({**LOCKED, "link": {"noise": 0.1}}),
    "locked with a state": pair(LOCKED, network=GRU),
    "locked, sparse": pair(LOCKED, p_update=0.5),
    "locked, a slower motor": pair(LOCKED, clocks=({"unroll": 1}, {"period": 2, "unroll": 2})),
    "fixed feedback": pair({**LOCKED, "feedback": "fa"}),
    "symbols": pair({**LOCKED, "symbols": {"vocabulary": 3}, "size": 3, "norm": None}),
    "traced state": pair(state={"kind": "linear", "trace": 0.7, "span": 3}, network=GRU),
    "auxiliary task": pair(state={"kind": "linear", "auxiliary": 0.5}, network=GRU),
    "sweep": pair(sweep=True),
    "frozen": pair(learn=False),
    "weighed": pair(objective={**PPO, "weight": 2.0}),
    "its own critic": pair(LOCKED, objective={**PPO, "critic": {"observes": ["view"], "network": MLP}}),
    "shared": several(share="both"),
    "tied": several({"kind": "a2c"}, tied=TIED),
}


@pytest.mark.parametrize("name", SCENES)
def test_both_backends_agree(name: str) -> None:
    found = []
    for backend in ("cohort", "reference"):
        with Simulation(SCENES[name], seed=1, dtype=torch.float64, backend=backend) as simulation:
            before = numbers(simulation)
            simulation.run(STEPS)
            found.append(numbers(simulation))
    equal(*found, 1e-9)
    assert any(not torch.equal(before[key], value) for key, value in found[0].items())
