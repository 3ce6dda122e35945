"""Scenarios of vmas, whose tensors are taken as they are."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation, envs
from antiphon.errors import ScenarioError

BALANCE = {"id": "vmas/balance", "n_agents": 2, "max_steps": 7}
needs_vmas = pytest.mark.skipif(importlib.util.find_spec("vmas") is None, reason="vmas is not installed")


@pytest.mark.skipif(importlib.util.find_spec("vmas") is not None, reason="vmas is installed")
def test_without_the_package_the_line_says_so() -> None:
    with pytest.raises(ScenarioError, match=r"^env\.id: vmas is not installed; pip install vmas$"):
        envs.make(BALANCE, batch=2)


@needs_vmas
def test_signals_parts_and_ends() -> None:
    env = envs.make(BALANCE, batch=3)
    assert env.signals["agent_1.observation"] == envs.Signal(shape=(16,))
    assert list(env.single_action_space.spaces) == ["agent_0", "agent_1"]
    env.reset(seed=1)
    ends = []
    for _ in range(15):
        *_, truncated, info = env.step({"agent_0": torch.zeros(3, 2)})
        assert torch.equal(info["reward"], (info["reward.agent_0"] + info["reward.agent_1"]) / 2)
        ends.append(bool(truncated.all()))
        assert ("final_obs" in info) == ends[-1]
    assert [step for step, end in enumerate(ends) if end] == [6, 13]


@needs_vmas
def test_its_random_numbers_are_its_own() -> None:
    def seen(*others: Any) -> list[torch.Tensor]:
        env, found = envs.make(BALANCE, batch=2), []
        env.reset(seed=4)
        for _ in range(10):
            found.append(env.step()[0]["agent_0.observation"])
            for other in others:
                other.step()
        return found

    other = envs.make(BALANCE, batch=5)
    other.reset(seed=9)
    assert all(torch.equal(one, two) for one, two in zip(seen(), seen(other), strict=True))


@needs_vmas
def test_policies_learn_and_are_evaluated() -> None:
    agents = {
        f"agent_{n}": {"observes": [f"agent_{n}.observation"], "acts": f"agent_{n}", "objective": "ppo"}
        for n in range(2)
    }
    with Simulation(Scenario(scenario="v", env=BALANCE, agents=agents, training={"batch": 4})) as simulation:
        simulation.run(steps=20, progress=False)
        assert simulation.agents["agent_0"].updates > 0
        assert simulation.evaluate(episodes=1).episodes is not None


@needs_vmas
@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            {"id": "vmas/balance", "num_envs": 2},
            "env.num_envs: cannot be set in vmas' environments; leave it out",
        ),
        ({"id": "vmas/balanc"}, "env.id: vmas has no scenario 'balanc'; did you mean 'balance'"),
        (
            {"id": "vmas/balance", "agents": 2},
            "env.id: 'balance' cannot be made: Scenario kwargs: {'agents': 2} passed but",
        ),
    ],
)
def test_what_it_does_not_have_is_refused_in_one_line(env: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        envs.make(env, batch=2)
    assert line in str(caught.value)
