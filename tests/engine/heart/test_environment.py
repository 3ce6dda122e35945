"""The environment as a simulation sees it: signals of each step, what is known after it, and statistics of finished episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from antiphon import Simulation
from antiphon.scenarios import Scenario
from antiphon.telemetry.history import History
from tests.engine.scenes import scenario_of
from tests.reference.backend import Chosen, reference


class Counters(VectorEnv[Any, Any, Any]):
    """Lanes that count up and start again after 2, 3, 4, … steps; the reward is the count.

    Args:
        count: Of lanes.
        mode: Where a lane starts again: in the step that ends its episode, or in one more, whose reward is 100.
    """

    def __init__(self, count: int, mode: AutoresetMode = AutoresetMode.SAME_STEP) -> None:
        self.num_envs = count
        self.metadata = {"autoreset_mode": mode}
        self.single_observation_space = Box(0.0, 9.0, (1,), np.float32)
        self.single_action_space = Discrete(1)
        self.observation_space = batch_space(self.single_observation_space, count)
        self.action_space = batch_space(self.single_action_space, count)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.at = np.zeros((self.num_envs, 1), np.float32)
        self.over = np.zeros(self.num_envs, bool)
        return self.at.copy(), {}

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        self.at = np.where(self.over[:, None], 0, self.at + 1).astype(np.float32)
        reward = np.where(self.over, 100, self.at[:, 0]).astype(np.float32)
        ended = (reward == np.arange(self.num_envs) + 2) & ~self.over
        info: dict[str, Any] = {}
        if self.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP:
            self.over = ended
        elif ended.any():
            info = {"final_obs": list(self.at.copy()), "_final_obs": ended}
            self.at[ended] = 0
        return self.at.copy(), reward, ended, np.zeros_like(ended), info


def counting(
    make: Callable[[int], Counters], rows: int, *, target: str = "reward", also: str = ""
) -> Scenario:
    """An agent that sees the count and is to name the reward, and perhaps another one for something else."""
    goal = {"kind": "regression", "target": target}
    network = {"kind": "mlp", "hidden": [], "norm": "none"}
    agent = {"observes": ["observation"], "network": network, "objective": goal}
    agents = {"a": agent, **({"b": {**agent, "objective": {**goal, "target": also}}} if also else {})}
    return scenario_of(agents, env=lambda num_envs: make(num_envs), batch=rows, telemetry={"period": 1})


def test_what_is_known_after_the_step_completes_the_signals_of_that_step() -> None:
    """The loss of a step is on its reward, and the end of an episode shows the first count of the next."""
    with Simulation(counting(Counters, 3)) as simulation:
        seen, ended = [], []
        for _ in range(3):
            assert set(simulation.signals) == {"observation"}
            count = simulation.signals["observation"]
            own = {name: p.detach().clone() for name, p in simulation.agents["a"].parameters.items()}
            error = count @ own["objective.weight"].T + own["objective.bias"] - (count + 1)
            info = simulation.step()
            torch.testing.assert_close(info["losses"]["a"], error.square().mean())
            seen.append(simulation.signals["observation"].flatten().tolist())
            ended.append(torch.as_tensor(info["ended"]).expand(3).tolist())
    assert seen == [[1, 1, 1], [0, 2, 2], [1, 0, 3]]
    assert ended == [[False] * 3, [True, False, False], [False, True, False]]


# --- finished episodes ---------------------------------------------------------------------------------------


def rows(simulation: Simulation, steps: int) -> list[list[float]]:
    """Means of the newest episodes' returns and lengths, and how many have ended, from their first row on."""
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    names = ("episode_return", "episode_length", "episodes")
    return [history.of("", name)[1].tolist() if history.has("", name) else [] for name in names]


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_means_are_over_the_newest_finished_episode_of_each_environment(backend: Chosen) -> None:
    """Episodes of 2, 3, 4 and 5 steps, whose returns are 3, 6, 10 and 15; the first ends at step 2."""
    with Simulation(counting(Counters, 4), backend=backend) as simulation:
        returns, lengths, episodes = rows(simulation, 5)
    assert returns == [3.0, 4.5, pytest.approx(19 / 3), 8.5]
    assert lengths == [2, 2.5, 3, 3.5]
    assert episodes == [1, 2, 4, 5]
