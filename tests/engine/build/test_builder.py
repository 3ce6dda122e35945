"""The builder: shapes, ports, values, predictors and clocks of what a document says."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from gymnasium import spaces

from antiphon import Simulation, load
from tests.engine.acting import Stage
from tests.engine.scenes import CLASSIFY, scenario_of

Document = dict[str, Any]
SMALL = {"width": 5, "size": 3, "batch": 4}
MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "none"}
SEES: Document = {"observes": ["image"]}


def eyes(**values: Any) -> Simulation:
    return Simulation(load("eyes").resolve(values={**SMALL, **values}))


def shapes(simulation: Simulation, agent: str) -> dict[str, list[int]]:
    """The shapes of an agent's weights."""
    found = simulation.agents[agent].parameters
    return {name: list(p.shape) for name, p in found.items() if name.endswith("weight")}


# --- networks ----------------------------------------------------------------------------------------------


def test_inputs_are_what_is_observed_and_received_and_heads_are_the_objective_and_the_ports() -> None:
    agents: Document = {
        "a": {"observes": ["image", "left_half"], "network": {"hidden": [7, 5]}},
        "b": {"observes": ["right_half"], "network": MLP, "objective": CLASSIFY},
        "c": {"fan_in": "sum", "network": MLP, "objective": CLASSIFY},
    }
    channels: list[Document] = [
        {"from": "a", "to": "b"},
        {"from": "a", "to": "b", "key": 1, "size": 3},
        {"from": "a", "to": "c", "size": 4, "port": "p"},
        {"from": "b", "to": "c", "size": 4},
    ]
    found = Simulation(scenario_of(agents, channels))
    own = {"0.weight": [7, 64 + 32], "1.weight": [5, 7], "to_b_1.weight": [3, 5], "port_p.weight": [4, 5]}
    assert shapes(found, "a") == own
    assert shapes(found, "b") == {
        "0.weight": [4, 32 + 5 + 3],
        "objective.weight": [10, 4],
        "to_c.weight": [4, 4],
    }
    assert shapes(found, "c") == {"0.weight": [4, 4], "objective.weight": [10, 4]}


def test_feature_maps_stay_feature_maps_and_hidden_messages_go_round_in_a_cycle() -> None:
    conv = {"kind": "conv", "hidden": [3, 4], "pool": ["none", "max"]}
    agents: Document = {"a": {**SEES, "network": conv}, "b": {"network": conv}, "c": {"objective": CLASSIFY}}
    found = Simulation(scenario_of(agents, [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]))
    assert shapes(found, "b")["0.weight"][1] == 4
    assert shapes(found, "c")["0.weight"] == [128, 4 * 2 * 2]
    agents = {"a": {**SEES, "network": {"hidden": [7]}}, "b": {"objective": CLASSIFY}}
    circle = [{"from": s, "to": r, "link": {"delay": 1}} for s, r in ("ab", "ba", "bb")]
    found = Simulation(scenario_of(agents, circle))
    assert [shapes(found, name)["0.weight"][1] for name in "ab"] == [64 + 128, 7 + 128]


# --- agents that act -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "space", "outputs"),
    [
        ("ppo", spaces.Discrete(5, start=2), 5),
        ("a2c", spaces.MultiDiscrete([2, 3]), 5),
        ("ppo", spaces.MultiBinary(3), 6),
        ("reinforce", spaces.Box(-1, 1, (2, 2)), 8),
    ],
)
def test_outputs_are_a_distributions_parameters_and_a_value(kind: str, space: Any, outputs: int) -> None:
    """No value of `reinforce`."""
    agent = {"observes": ["view"], "network": MLP, "clock": {"unroll": 4}, "acts": True}
    found = shapes(
        Simulation(scenario_of({"m": {**agent, "objective": {"kind": kind}}}, (), Stage(space))), "m"
    )
    value = {} if kind == "reinforce" else {"value.weight": [1, 4]}
    assert found == {"0.weight": [4, 3], "objective.weight": [outputs, 4], **value}


# --- channels ------------------------------------------------------------------------------------------------


def test_synthetic_gradients_may_have_an_optimiser_of_their_own() -> None:
    """Adam's first step is its rate; SGD keeps no state."""
    scenario = load("eyes").resolve(values=SMALL)
    channels = yaml.safe_load(scenario.to_yaml())["channels"]
    channels[0]["gradient"]["optimiser"] = {"kind": "sgd", "lr": 0.5}
    kinds = {"predictor": {"kind": "adamw", "lr": 0.25}, "optimiser": {"kind": "adam", "lr": 0.125}}
    simulation = Simulation(scenario_of(scenario.agents, channels, scenario.env, **kinds))
    mind = simulation.agents["mind"]
    before = mind.parameters["objective.bias"].detach().clone()
    simulation.step()
    one, other = (channel.synthetic_gradient for channel in simulation.channels.values())
    assert one is not None
    assert other is not None
    assert (bool(one.optimiser), bool(other.optimiser)) == (False, True)
    moved = {
        "predictor": other.parameters["last.weight"],
        "agent": mind.parameters["objective.bias"] - before,
    }
    largest = {name: float(value.detach().abs().max()) for name, value in moved.items()}
    assert largest == {"predictor": pytest.approx(0.25, rel=1e-3), "agent": pytest.approx(0.125, rel=1e-3)}
