"""Stacks of the newest observations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import antiphon
from antiphon import Scenario, Simulation, envs
from antiphon.errors import ScenarioError
from tests.envs.adaptors.parallel_worlds import SavedMines

SPACES: dict[str, spaces.Space[Any]] = {
    "grey": spaces.Box(0, 255, (6, 5), np.uint8),
    "last": spaces.Box(0, 255, (6, 6, 3), np.uint8),
    "first": spaces.Box(0, 255, (3, 6, 6), np.uint8),
    "vector": spaces.Box(0, 99, (2,), np.float32),
    "choice": spaces.Discrete(99, start=1),
    "choices": spaces.MultiDiscrete([99, 99]),
    "bits": spaces.MultiBinary(2),
    "text": spaces.Text(4),
}
STACKED = {
    "grey": (3, 6, 5), "last": (6, 6, 9), "first": (9, 6, 6), "vector": (6,), "choice": (3,), "choices": (6,), "bits": (6,),
}  # fmt: skip


class Counter(gymnasium.Env[Any, Any]):
    """Every number is that of the step of the episode, which ends after five; the same arrays are written again."""

    action_space = spaces.Discrete(2)

    def __init__(self, whole: bool = False) -> None:
        self.observation_space = SPACES["vector"] if whole else spaces.Dict(SPACES)
        self.held = {key: np.zeros(one.shape, one.dtype) for key, one in SPACES.items() if key != "text"}

    def _shown(self) -> Any:
        for key, array in self.held.items():
            array[...] = self.steps % 2 if key == "bits" else self.steps + (key == "choice")
        shown = {**self.held, "choice": int(self.held["choice"]), "text": "ab"}
        return shown["vector"] if isinstance(self.observation_space, spaces.Box) else shown

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return self._shown(), float(action), False, self.steps == 5, {}

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = state["steps"]


envs.register("tests/Counter-v0", Counter)
gymnasium.register("Stacked/Counter-v0", Counter, disable_env_checker=True)


@pytest.mark.parametrize("name", ["tests/Counter-v0", "gymnasium/Stacked/Counter-v0"])
def test_the_newest_observations_are_side_by_side_the_first_one_repeated(name: str) -> None:
    stack = dict.fromkeys(STACKED, 3)
    env = envs.make({"id": name, "stack": stack}, batch=2)
    assert {key: env.signals[key].shape for key in STACKED} == STACKED
    obs, _ = env.reset(seed=0)
    for step in range(7):
        steps = [max(step % 5 - back, 0) for back in (2, 1, 0)]
        numbers = torch.tensor(steps, dtype=torch.float32)
        assert obs["vector"][0].tolist() == [each for each in steps for _ in range(2)]
        assert torch.equal(obs["choice"][0], torch.tensor(steps))
        torch.testing.assert_close(obs["grey"][1, :, 2, 2] * 255, numbers)
        torch.testing.assert_close(obs["first"][1, ::3, 2, 2] * 255, numbers)
        torch.testing.assert_close(obs["last"][1, 2, 2, ::3] * 255, numbers)
        obs, *_, info = env.step(torch.zeros(2, dtype=torch.long))
        if step == 4:
            assert info["final_obs"]["vector"][0].tolist() == [3, 3, 4, 4, 5, 5]


class Leaving(SavedMines):
    """`low` sees the number of its step, leaves at its third and comes back; the episode ends after seven."""

    def __init__(self) -> None:
        super().__init__(mine=99, limit=7)

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        found = super().step(actions)
        if self.steps in (3, 5):
            self.agents = ["high"] if self.steps == 3 else list(self.possible_agents)
            found[0].update(self._seen(self.agents))
        return found

    def _seen(self, agents: list[str]) -> dict[str, Any]:
        return {**super()._seen(agents), **({"low": np.float32([self.steps])} if "low" in agents else {})}


envs.register("tests/LeavingMines-v0", Leaving)


@pytest.mark.parametrize("keys", [{}, {"workers": 2}])
@pytest.mark.parametrize("stack", [2, {"low.observation": 2}])
def test_agents_see_their_newest_observations_from_when_they_come(
    stack: Any, keys: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if stack == 2:  # of all agents: each of them has a single observation
        space = spaces.Box(-99, 99, (1,), np.float32)
        monkeypatch.setattr(Leaving, "observation_space", lambda *_: space)
        monkeypatch.setattr(
            Leaving, "_seen", lambda self, agents: dict.fromkeys(agents, np.float32([self.steps]))
        )
    env = envs.make({"id": "tests/LeavingMines-v0", "stack": stack, **keys}, batch=3)
    assert env.signals["low.observation"].shape == (2,)
    obs, _ = env.reset(seed=0)
    seen = [obs["low.observation"][1].tolist()]
    for _ in range(8):
        obs, *_ = env.step({"high": torch.zeros(3, 1), "low": torch.ones(3, dtype=torch.long)})
        seen.append(obs["low.observation"][1].tolist())
    env.close()
    assert seen == [[0, 0], [0, 1], [1, 2], [2, 3], [0, 0], [5, 5], [5, 6], [0, 0], [0, 1]]


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["tests/Counter-v0", "tests/LeavingMines-v0"])
def test_runs_with_stacks_are_resumed_to_the_bit_and_evaluated(name: str, tmp_path: Path) -> None:
    player = {"observes": ["observation"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
    env: dict[str, Any] = {"id": name, "whole": True, "stack": 3}
    if name == "tests/LeavingMines-v0":
        player |= {"observes": ["low.observation"], "acts": "low"}
        env = {"id": name, "stack": {"low.observation": 3}}
    scenario = Scenario(scenario="s", env=env, agents={"a": player}, training={"batch": 2})
    with Simulation(scenario) as whole:
        whole.run(steps=23, progress=False)
        wanted = whole.agents["a"].parameters
        assert whole.evaluate(episodes=2).episodes is not None
    with Simulation(scenario) as first:
        first.run(steps=11, progress=False)
        first.save(tmp_path / "half")
    with Simulation.load(tmp_path / "half") as rest:
        rest.run(steps=12, progress=False)
        assert all(torch.equal(p, wanted[name]) for name, p in rest.agents["a"].parameters.items())


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (
            {"id": "tests/LeavingMines-v0", "stack": 2},
            "env.stack: 2, but the observation has parts; name those to stack, such as stack: {high.place: 2}",
        ),
        (
            {"id": "tests/LeavingMines-v0", "stack": {"low.observatio": 2}},
            "env.stack: no signal 'low.observatio'; did you mean 'low.observation'",
        ),
        (
            {"id": "tests/LeavingMines-v0", "stack": {"observation": 2}},
            "env.stack: no signal 'observation'; did you mean 'low.observation'",
        ),
        (
            {"id": "tests/Counter-v0", "stack": 4},
            "env.stack: 4, but the observation has parts; name those to stack",
        ),
        (
            {"id": "tests/Counter-v0", "stack": {"gray": 4}},
            "env.stack: no signal 'gray'; did you mean 'grey'",
        ),
        (
            {"id": "tests/Counter-v0", "stack": {"grey": 1}},
            "env.stack: 'grey' has 1; must be a whole number from 2",
        ),
        (
            {"id": "tests/Counter-v0", "stack": {"text": 2}},
            "env.stack: 'text' is a Text, which has no numbers",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "vectorization_mode": "sync", "stack": "four"},
            "env.stack: 'four'; must be a whole number from 2",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "workers": 4},
            "env.workers: 'CartPole-v1' does not take it; write vectorization_mode: async",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "max_steps": 9},
            "env.max_steps: 'CartPole-v1' does not take it; write max_episode_steps",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "max_steps": 9, "workers": 4},
            "env.max_steps: 'CartPole-v1' does not take it; write max_episode_steps",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "foo": 1, "max_steps": 9},
            "env.foo: 'CartPole-v1' does not take it; its own vector class may lack a key",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "stack": "4"},
            "env.stack: '4'; must be a whole number from 2",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "stack": {"observation": "two"}},
            "env.stack: 'observation' has 'two'; must be a whole number from 2",
        ),
        (
            {"id": "gymnasium/CartPole-v1", "stack": 2},
            "env.stack: the vector environment of 'CartPole-v1' is not stacked",
        ),
        (
            {"id": "tests/Vector-v0", "stack": 2},
            "env.stack: 'tests/Vector-v0' makes SyncVectorEnv, which steps all rows",
        ),
    ],
)
def test_what_cannot_be_stacked_is_refused_in_one_line(env: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        envs.make(env, batch=2)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def _vector() -> gymnasium.vector.VectorEnv[Any, Any, Any]:
    return gymnasium.make_vec("CartPole-v1", 2, vectorization_mode="sync")


antiphon.envs.register("tests/Vector-v0", _vector)


class Lives:
    """The second of two agents dies after its second step and is back in the step after; its sixth ends, and it lives again at once."""

    metadata: ClassVar[dict[str, Any]] = {"name": "lives"}
    possible_agents = ("first", "second")

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Box(0, 99, (1,), np.float32)

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        self.steps, self.agents = 0, ["first", "second"]
        return self._shown(self.agents), {}

    def _shown(self, agents: list[str]) -> dict[str, Any]:
        return {agent: np.array([self.steps], np.float32) for agent in agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        self.steps += 1
        self.agents = ["first"] if self.steps == 2 else ["first", "second"]
        shown = self._shown([*({*actions} | {*self.agents})])
        over = dict.fromkeys(shown, self.steps == 8)
        over["second"] |= self.steps in (2, 6)
        return shown, dict.fromkeys(shown, 0.0), over, dict.fromkeys(shown, False), {}


envs.register("tests/Lives-v0", lambda: Lives())


def test_an_agent_that_comes_back_sees_nothing_of_its_life_before() -> None:
    env = envs.make({"id": "tests/Lives-v0", "stack": 2}, batch=1)
    seen = [env.reset(seed=0)[0]]
    for _ in range(7):
        seen.append(env.step(None)[0])
    by_agent = {
        name: [shown[f"{name}.observation"][0].tolist() for shown in seen] for name in ("first", "second")
    }
    assert by_agent["first"] == [[0, 0], [0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 6], [6, 7]]
    # dead after the second step, which shows the end of its life; new after the third, and after the sixth
    assert by_agent["second"] == [[0, 0], [0, 1], [1, 2], [3, 3], [3, 4], [4, 5], [6, 6], [6, 7]]
    shown, *_, info = env.step(None)
    assert [info["final_obs"][f"{name}.observation"].tolist() for name in by_agent] == [[[7, 8]], [[7, 8]]]
    assert [shown[f"{name}.observation"].tolist() for name in by_agent] == [[[0, 0]], [[0, 0]]]
