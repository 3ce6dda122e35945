"""PettingZoo's parallel worlds: signals and parts by agent, agents that die, resets in the same step."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Scenario, Simulation, envs
from tests.envs.adaptors.parallel_worlds import Mines, SavedMines
from tests.kit.worlds import batch_of

WALK = {"low": torch.tensor([2, 1]), "high": torch.tensor([[-1.0], [-1.0]])}
"""In the first copy `low` goes up by 1 a step, in the second it stays."""


def mines(
    batch: int = 2, kind: type[Mines] = Mines, dtype: torch.dtype = torch.float32, **options: Any
) -> envs.TorchVectorEnv:
    return batch_of(*(kind(**options) for _ in range(batch)), dtype=dtype)


def test_signals_and_parts_of_the_action_are_by_agent() -> None:
    env = mines()
    own = envs.Signal(training_only=True, known="after_step")
    end = envs.Signal(training_only=True, known="after_step", low=0.0, high=1.0)
    place = envs.Signal(shape=(1,), low=-99.0, high=99.0)
    ends = {f"{key}{who}": end for key in ("terminated", "truncated") for who in ("", ".low", ".high")}
    assert env.signals == {
        "low.observation": place,
        "high.place": place,
        "high.sign": envs.Signal(classes=2),
        "state": envs.Signal(shape=(2,), low=-99.0, high=99.0, training_only=True),
        "reward": own,
        "reward.low": own,
        "reward.high": own,
        **{f"id.{who}": envs.Signal(classes=2) for who in ("low", "high")},
        **{f"alive.{who}": envs.Signal(training_only=True, low=0.0, high=1.0) for who in ("low", "high")},
        **ends,
    }
    box = spaces.Box(-2, 2, (1,))
    assert env.single_action_space == spaces.Dict({"low": spaces.Discrete(3), "high": box})


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", [Mines, SavedMines])
def test_contract(kind: type[Mines]) -> None:
    envs.check_vector_env(partial(mines, 3, kind), steps=20)


def test_an_agent_that_died_is_masked_until_the_episode_ends() -> None:
    env = mines(mine=2)
    obs, _info = env.reset(seed=4)
    start = obs["low.observation"].flatten()
    assert start.tolist() == [1, 0] or start.tolist() == [0, 1] or len(set(start.tolist())) == 1
    found = [env.step(WALK) for _ in range(4)]
    death = int(2 - start[0])  # the step in which `low` of the first copy reaches the mine
    for step, (seen, reward, terminated, truncated, facts) in enumerate(found, start=1):
        alive = step <= death
        assert facts["_reward.low"].tolist() == [alive, True]
        assert facts["_reward.high"].tolist() == [True, True]
        assert facts["terminated.low"].tolist() == [step == death, 0]
        if alive:
            assert facts["reward.low"][0] == start[0] + step
            assert reward[0] == (facts["reward.low"][0] + facts["reward.high"][0]) / 2
        else:
            assert facts["reward.low"][0] == 0
            assert reward[0] == facts["reward.high"][0]
        if not alive and step < 4:
            assert seen["low.observation"][0] == 0
        assert not bool(terminated.any())
        assert truncated.tolist() == facts["truncated"].tolist() == [step == 4] * 2
    assert set(found[-1][4]["final_info"]) == {"state", "alive.low", "alive.high"}
    assert found[-1][4]["final_obs"]["high.place"].flatten().tolist() == [
        *(obs["high.place"].flatten() - 4).tolist()
    ]
    assert found[-1][0]["low.observation"].abs().max() <= 1  # the next episode has begun
    env = mines(1, mine=2, limit=9, dtype=torch.float64)
    assert env.reset(seed=1)[0]["low.observation"].item() == 0
    up = {"low": torch.tensor([2]), "high": torch.tensor([[9.0]], dtype=torch.float64)}  # cut to 2
    ends = [env.step(up)[2:4] for _ in range(2)]
    assert [(bool(a), bool(b)) for a, b in ends][-1] == (True, False), "all have died"


class Blind(SavedMines):
    """Both walkers see zeros, and choose."""

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(-1, 1, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(3)

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        return {agent: np.zeros(1, np.float32) for agent in agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.steps += 1
        seen = self._seen(self.agents)
        rewards = {agent: float(action == (2 if agent == "high" else 0)) for agent, action in actions.items()}
        ends = dict.fromkeys(self.agents, False), dict.fromkeys(self.agents, self.steps >= self.limit)
        self.agents = [] if self.steps >= self.limit else self.agents
        return seen, rewards, *ends, {}


@pytest.mark.cases(1)
@pytest.mark.parametrize("numbered", [False, True])
def test_agents_with_one_set_of_parameters_differ_by_their_number(numbered: bool, tmp_path: Path) -> None:
    envs.register(f"tests/Blind{numbered}-v0", Blind)
    agents = {
        name: {
            "observes": [f"{name}.observation", *([f"id.{name}"] if numbered else [])],
            "acts": name,
            "objective": "a2c",
            "share": "both",
        }
        for name in Blind.possible_agents
    }
    env = {"id": f"tests/Blind{numbered}-v0"}
    training = {"batch": 16, "optimiser": {"lr": 0.1}}
    scenario = Scenario(scenario="s", env=env, agents=agents, training=training)
    with Simulation(scenario) as simulation:
        simulation.run(steps=160, progress=False)
        taken = simulation.policy().act({name: np.zeros((5, 1), np.float32) for name in agents})
        if not numbered:
            assert np.array_equal(taken["low"], taken["high"])
            return
        assert taken["low"].tolist() == [0] * 5
        assert taken["high"].tolist() == [2] * 5
        one = simulation.policy().act({"high": np.zeros(1, np.float32)})
        assert one == {"high": 2}
        simulation.export(tmp_path / "both.pt2", actions="greedy")
    module = torch.export.load(tmp_path / "both.pt2").module()
    zeros, number = torch.zeros(4, 1), torch.tensor([0, 1, 1, 0])
    found = module(
        {"high.observation": zeros, "id.high": number, "low.observation": zeros, "id.low": 1 - number}
    )
    assert torch.equal(found["high"], 2 * number)
