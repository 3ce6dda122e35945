"""Gymnasium's environments by id, as vectors in two autoreset modes, in wrappers, members that are stepped together."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeLimit

from antiphon import Scenario, Simulation, envs
from antiphon.base.errors import ScenarioError
from tests.envs.contract import check_vector_env
from tests.kit.commands import Commands

# --- by id -----------------------------------------------------------------------------------------------


DOCUMENT = """\
scenario: pole
env: {id: gymnasium/CartPole-v1, max_episode_steps: 5}
agents:
  player: {observes: [observation], objective: a2c, acts: true}
training: {batch: 3, steps: 12}
"""


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package is allowed but those of antiphon's own list; what a test allows is forgotten."""
    monkeypatch.setenv("ANTIPHON_IMPORT", "")


def test_a_time_limit_is_a_truncation() -> None:
    for mode in ("sync", "vector_entry_point"):
        options = {"vectorization_mode": mode, "max_episode_steps": 5}
        env = envs.make({"id": "gymnasium/CartPole-v1", **options}, batch=2)
        env.reset(seed=0)
        infos = [env.step(torch.tensor([step % 2] * 2))[4] for step in range(6)]
        assert [info["truncated"].tolist() for info in infos] == [[0, 0]] * 4 + [[1, 1], [0, 0]]
        assert not any(bool(info["terminated"].any()) for info in infos)


def test_a_module_is_imported_only_where_the_caller_does(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    allowed: None,
) -> None:
    name = "worlds_of_a_test"
    (tmp_path / f"{name}.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('antiphon-test/Tiny-v0', 'gymnasium.envs.classic_control:CartPoleEnv')\n"
    )
    document = tmp_path / "tiny.yaml"
    document.write_text(DOCUMENT.replace("CartPole-v1", f"{name}:antiphon-test/Tiny-v0"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    antiphon_ = Commands(capsys)
    try:
        line = f"--import nowhere_at_all: no module 'nowhere_at_all' in {tmp_path} or among the installed packages"
        assert antiphon_.refused("--import nowhere_at_all check", document) == line
        line = (
            f"a scenario file imports no module; import '{name}' before: antiphon --import {name} COMMAND …"
        )
        assert line in antiphon_.refused("run", document)
        assert name not in sys.modules
        antiphon_("--import", name, "check", document)
        assert os.environ["ANTIPHON_IMPORT"] == name
        assert name in sys.modules
    finally:
        sys.modules.pop(name, None)
        gymnasium.registry.pop("antiphon-test/Tiny-v0", None)


# --- vector environments ---------------------------------------------------------------------------------


class Count(gymnasium.Env[dict[str, Any], int]):
    """Counts its steps; an episode has 3 of them or 2, drawn at its reset."""

    observation_space = spaces.Dict(
        {
            "count": spaces.Box(0, 99, (1,), np.float64),
            "pixels": spaces.Box(0, 255, (2, 2), np.uint8),
            "which": spaces.Discrete(4, start=1),
            "bits": spaces.MultiBinary(2),
        }
    )
    action_space: gymnasium.Space[Any] = spaces.Discrete(2)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.count, self.limit = 0, 3 - int(self.np_random.integers(2))
        return self._show(), {}

    def step(self, action: int) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.count += 1
        return self._show(), float(action), self.count == self.limit, False, {}

    def _show(self) -> dict[str, Any]:
        return {
            "count": np.array([float(self.count)]),
            "pixels": np.full((2, 2), 51, np.uint8),
            "which": 1 + self.count % 4,
            "bits": np.array([0, 1], np.int8),
        }


class Lasting(Count):
    """Episodes of one length, a reward of the action."""

    def __init__(self, length: int) -> None:
        self.length = length

    def reset(self, **settings: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        result = super().reset(**settings)
        self.limit = self.length
        return result


def counters(mode: AutoresetMode, number: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([Count] * number, autoreset_mode=mode)


@pytest.mark.cases(1)
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_contract(mode: AutoresetMode) -> None:
    check_vector_env(lambda: envs.make(partial(counters, mode), batch=3), steps=20)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_outcomes_are_of_the_step_that_ended_the_episode(mode: AutoresetMode) -> None:
    def limited(length: int) -> gymnasium.Env[Any, Any]:
        return TimeLimit(Lasting(length), 3)

    rows = [partial(limited, 2), partial(limited, 9)]
    env = envs.make(lambda: SyncVectorEnv(rows, autoreset_mode=mode), batch=2)
    env.reset(seed=0)
    steps, known = [], []
    for _ in range(4):
        steps.append(env.step(torch.tensor([1, 1])))
        _, _, *returned, info = steps[-1]
        known += [env.uniform(mask) for mask in [info.get("_reward")] if mask is not None]
        for mask in (*returned, info["terminated"], info["truncated"]):
            assert env.anywhere(mask) is bool(mask.any())
    found = [info for *_, info in steps]
    ends = [(info["terminated"].tolist(), info["truncated"].tolist()) for info in found]
    reset_later = mode is AutoresetMode.NEXT_STEP
    assert ends == [
        ([0, 0], [0, 0]),
        ([1, 0], [0, 0]),  # the first world ends its episode, the time limit cuts off the second's
        ([0, 0], [0, 1]),
        ([0 if reset_later else 1, 0], [0, 0]),
    ]
    late = [(terminated.tolist(), truncated.tolist()) for _, _, terminated, truncated, _ in steps]
    assert late == ([([0, 0], [0, 0]), *ends[:-1]] if reset_later else ends)  # with the reset
    masks = [info["_reward"].tolist() for info in found if "_reward" in info]
    assert masks == ([[True, True], [True, True], [False, True], [True, False]] if reset_later else [])
    assert known == (
        [True, True, None, None] if reset_later else []
    )  # where no row was reset the host knows it


# --- wrappers --------------------------------------------------------------------------------------------


class Counter(gymnasium.Env[Any, Any]):
    """Both numbers are that of the step of the episode, which ends after five."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0, 99, (2,), np.float32)

    def _shown(self) -> Any:
        return np.full(2, self.steps, np.float32)

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


gymnasium.register("Stacked/Counter-v0", Counter)
STACKED = {
    "id": "gymnasium/Stacked/Counter-v0",
    "wrappers": {"FrameStackObservation": {"stack_size": 3}, "FlattenObservation": {}},
}


def test_wrappers_stack_the_newest_observations_the_first_one_repeated() -> None:
    env = envs.make(STACKED, batch=2)
    seen = [env.reset(seed=0)[0]["observation"]]
    for step in range(7):
        obs, *_, info = env.step(torch.zeros(2, dtype=torch.long))
        if step == 4:
            last = info["final_obs"]["observation"]
        seen.append(obs["observation"])
    steps = [[max(step % 5 - back, 0) for back in (2, 1, 0)] for step in range(8)]
    for numbers, stacks in [*zip(steps, seen, strict=True), ([3, 4, 5], last)]:
        wanted = torch.tensor(numbers, dtype=torch.float32).repeat_interleave(2)
        torch.testing.assert_close(stacks, wanted.expand(2, 6))


@pytest.mark.parametrize(
    ("wrappers", "line"),
    [
        ({"FrameStack": {}}, r"env.wrappers: no wrapper 'FrameStack' in gymnasium.wrappers; did you mean 'F"),
        ({"FrameStackObservation": {"size": 3}}, "cannot be made: .* unexpected keyword argument 'size'"),
    ],
)
def test_wrappers_that_do_not_exist_or_fit_are_refused(wrappers: Any, line: str) -> None:
    with pytest.raises(ScenarioError, match=line):
        envs.make({"id": "gymnasium/CartPole-v1", "wrappers": wrappers}, batch=2)


@pytest.mark.cases(1)
def test_runs_with_stacks_are_resumed_to_the_bit_and_evaluated(tmp_path: Path) -> None:
    player = {"observes": ["observation"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
    scenario = Scenario(scenario="s", env=STACKED, agents={"a": player}, training={"batch": 2})
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
