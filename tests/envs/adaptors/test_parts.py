"""Parts of Gymnasium's observations and actions: which an agent needs, and how a scenario names them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Scenario, Simulation, envs
from antiphon.agents.distributions import distribution_of
from antiphon.envs import registry
from antiphon.errors import ScenarioError

BOX = spaces.Box(-1, 1, (2,), np.float32)
ODD = {
    "text": spaces.Text(3),
    "graph": spaces.Graph(spaces.Discrete(2), None),
    "several": spaces.Sequence(spaces.Discrete(2)),
    "_box": spaces.Discrete(2),
    "reward": BOX,
}


class Parts(gymnasium.Env[Any, Any]):
    """Episodes of five steps with any spaces."""

    def __init__(self, observed: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observed, action

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        self.count += 1
        return self.observation_space.sample(), 1.0, self.count == 5, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    yield
    registry._environments.pop("Parts", None)


def trained(
    observed: spaces.Space[Any], observes: str, action: spaces.Space[Any] | None = None, **agent: Any
) -> Simulation:
    envs.register("Parts", lambda: Parts(observed, action or spaces.Discrete(2)))
    mind = {"observes": [observes], "acts": True, "objective": "ppo", "clock": {"unroll": 4}, **agent}
    scenario = Scenario(scenario="s", env={"id": "Parts"}, agents={"a": mind}, training={"batch": 2})
    simulation = Simulation(scenario)
    simulation.run(steps=8, progress=False)
    return simulation


def test_a_part_that_no_agent_needs_may_be_anything() -> None:
    with trained(spaces.Dict({"box": BOX, **ODD}), "box") as simulation:
        assert simulation.now == 8
    registry._environments.pop("Parts")
    with trained(spaces.Tuple((BOX, spaces.Text(3))), "observation.0") as simulation:
        assert simulation.now == 8


@pytest.mark.parametrize("part", [0, "0", 1])
def test_a_part_of_a_tuple_is_named_by_its_number(part: int | str) -> None:
    action = spaces.Tuple((spaces.Discrete(2), spaces.Discrete(3)))
    with trained(BOX, "observation", action, acts=part) as simulation:
        assert simulation.scenario.agents["a"].acts == str(part)
        assert Scenario.from_yaml(simulation.scenario.to_yaml()).agents["a"].acts == str(part)


ACTIONS = spaces.Dict(
    {
        "which": spaces.Discrete(3, start=1),
        "where": spaces.Box(np.float32([0, 10]), np.float32([1, 20])),
        "several": spaces.MultiDiscrete([2, 4]),
        "count": spaces.Box(0, 5, (1,), np.int64),
    }
)


@pytest.mark.parametrize("action", [ACTIONS, spaces.Tuple((spaces.Discrete(2), BOX))])
def test_one_agent_acts_for_all_parts_of_an_action(action: spaces.Space[Any]) -> None:
    with trained(BOX, "observation", action) as simulation:
        assert simulation.agents["a"].updates > 0
        assert simulation.evaluate(episodes=1).return_ == 5
        assert action.contains(simulation.policy().act(np.zeros(2, np.float32)))


@pytest.mark.long
def test_an_agent_that_acts_for_a_part_acts_for_all_parts_below_it() -> None:
    found, same = [], spaces.Box(0, 0, (2,), np.float32)  # shows the same to both
    for acts in (True, "both"):
        with trained(same, "observation", spaces.Dict({"both": ACTIONS}), acts=acts) as simulation:
            found.append(simulation.agents["a"].parameters)
        registry._environments.pop("Parts")
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())
    apart = spaces.Dict({"both": ACTIONS, "one": spaces.Discrete(2)})
    with trained(BOX, "observation", apart, acts="both") as simulation:
        assert apart.contains(simulation.policy().act(np.zeros(2, np.float32)))
    twice = {name: {"observes": ["o"], "acts": name, "objective": "ppo"} for name in ("both", "both.which")}
    agents = {"a": twice["both"], "b": twice["both.which"]}
    with pytest.raises(
        ScenarioError, match=r"agents\.b\.acts: 'a' already acts for all of 'both'; name another part"
    ):
        Scenario(scenario="s", env={"id": "Parts"}, agents=agents)


def test_a_joint_distribution_is_the_product_of_its_parts() -> None:
    joint = distribution_of(ACTIONS)
    parts = [distribution_of(space) for space in ACTIONS.spaces.values()]
    assert [joint.parameters, joint.draws] == [3 + 4 + 6 + 2, 1 + 2 + 2 + 1]
    random = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, joint.parameters, generator=random, dtype=torch.float64)
    numbers = torch.rand(9, joint.draws, generator=random, dtype=torch.float64)
    action = joint.sample(outputs, numbers)
    own = outputs.split([part.parameters for part in parts], 1)
    drawn = numbers.split([part.draws for part in parts], 1)
    taken = [part.sample(mine, each) for part, mine, each in zip(parts, own, drawn, strict=True)]
    for found, wanted in zip(joint.by_part(action).values(), taken, strict=True):
        assert torch.equal(found, wanted)
    each = zip(parts, own, taken, strict=True)
    wanted = torch.stack([part.log_prob_and_entropy(mine, one)[0] for part, mine, one in each]).sum(0)
    assert torch.equal(joint.log_prob_and_entropy(outputs, action)[0], wanted)
