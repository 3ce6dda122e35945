"""Returns and lengths of finished episodes: means, masks, rewards of single agents, and their place in the state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antiphon import Simulation
from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.episodes import EpisodeStatistics
from antiphon.envs import registry
from antiphon.telemetry.history import History
from tests.engine.core.test_environment import Counters, counting

NAMES = ("episode_return", "episode_length", "episodes")


class SavedCounters(Counters):
    """Counters that can be saved."""

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = np.array(state["at"], np.float32)


def rows(simulation: Simulation, steps: int) -> list[list[float]]:
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    return [history.of("", name)[1].tolist() for name in NAMES]


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_means_are_over_the_newest_finished_episode_of_each_environment(backend: str) -> None:
    """Episodes of 2, 3, 4 and 5 steps, whose returns are 3, 6, 10 and 15; the first ends at step 2."""
    with Simulation(counting(SavedCounters(4)), backend=backend) as simulation:
        returns, lengths, episodes = rows(simulation, 5)
    assert returns == [3.0, 4.5, pytest.approx(19 / 3), 8.5]
    assert lengths == [2, 2.5, 3, 3.5]
    assert episodes == [1, 2, 4, 5]


def test_a_fork_and_a_checkpoint_go_on_with_the_same_entries(tmp_path: Path) -> None:
    scenario = counting(SavedCounters(4))
    with Simulation(scenario) as simulation:
        simulation.run(7)
        path = simulation.save(tmp_path / "saved")
        with simulation.fork() as fork:
            forked = rows(fork, 5)
        with Simulation.load(path, counting(SavedCounters(4))) as loaded:
            assert rows(loaded, 5) == rows(simulation, 5) == forked


def runner(source: Any, names: set[str]) -> EnvironmentRunner:
    return EnvironmentRunner(registry.make(source, batch=3), names, seed=0)


def test_returns_are_kept_where_rewards_or_ends_are_read_and_nowhere_else() -> None:
    for name in ("reward", "terminated"):
        world = runner(Counters(3), {name})
        for _ in range(2):
            world.advance()
        assert world.figures()["episode_return"] == 3
        world.reset(0)
        assert "episodes" not in world.figures()
    assert runner(Counters(3), {"observation"}).episodes is None
    assert runner({"id": "antiphon/Digits-v0"}, {"image"}).episodes is None


def statistics(*names: str) -> EpisodeStatistics:
    return EpisodeStatistics(names, 2, "cpu", torch.float64)


def test_a_step_that_is_no_experience_counts_for_nothing() -> None:
    found = statistics("reward.left")
    yes, no = torch.tensor([True, True]), torch.tensor([False, False])
    one = torch.ones(2)
    for reset in (False, True, False, False):
        mask = torch.tensor([not reset, True])
        info = {"reward.left": 2 * one, "_reward": mask, "_reward.left": torch.tensor([True, not reset])}
        found.add(one, info, no)
    found.add(one, {"reward.left": one}, yes)
    expected = {"episode_return": 4.5, "episode_return.left": 8, "episode_length": 4.5, "episodes": 2}
    assert found.figures() == expected


def test_an_episode_that_ends_in_a_reset_step_has_the_length_of_its_experience() -> None:
    found = statistics()
    one = torch.ones(2)
    for ended in (False, False, True):  # the autoreset of the next step: the end is due with the reset
        found.add(one, {"_reward": torch.tensor([not ended, True])}, torch.tensor([ended, False]))
    assert found.figures() == {"episode_return": 2, "episode_length": 2, "episodes": 1}
