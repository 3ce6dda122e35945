"""Returns and lengths of finished episodes: means, masks, rewards of single agents, and their place in the state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from antiphon.engine.core.environment import EnvironmentRunner
from antiphon.engine.core.episodes import EpisodeStatistics
from antiphon.engine.simulation import Simulation
from antiphon.envs import registry
from antiphon.scenarios import Scenario
from antiphon.telemetry.history import History
from tests.engine.core.test_environment import Counters
from tests.engine.scenes import scenario_of


class SavedCounters(Counters):
    """Counters that can be saved."""

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.at.tolist()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.at = np.array(state["at"], np.float32)


def counting(names: set[str]) -> EnvironmentRunner:
    return EnvironmentRunner(registry.make(Counters(3), batch=3), names, seed=0)


def test_means_are_over_the_newest_finished_episode_of_each_environment() -> None:
    world = counting({"reward"})
    assert "episode_length" not in world.figures()
    found = []
    for _ in range(8):
        world.advance()
        found.append({k: v for k, v in world.figures().items() if k != "reward"})
    returns = {2: 1 + 2, 3: 1 + 2 + 3, 4: 1 + 2 + 3 + 4}  # by length
    assert found[0] == {}
    assert found[1] == {"episode_return": returns[2], "episode_length": 2, "episodes": 1}
    assert found[2] == {"episode_return": 4.5, "episode_length": 2.5, "episodes": 2}
    assert found[7] == {"episode_return": pytest.approx(19 / 3), "episode_length": 3, "episodes": 4 + 2 + 2}
    world.reset(0)
    assert "episodes" not in world.figures()


def test_who_reads_only_how_episodes_end_has_their_returns_too() -> None:
    world = counting({"observation", "terminated"})
    for _ in range(2):
        world.advance()
    assert world.figures()["episode_return"] == 3


def test_nothing_is_kept_where_no_reward_is_read() -> None:
    world = counting({"observation"})
    assert world.episodes is None
    world.advance()
    assert "episodes" not in world.figures()
    assert (
        EnvironmentRunner(registry.make({"id": "antiphon/Digits-v0"}, batch=3), {"image"}, 4).episodes is None
    )


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
    assert found.lengths.tolist() == [4, 5]
    assert found.returns["reward"].tolist() == [4, 5]
    assert found.returns["reward.left"].tolist() == [9, 7]
    assert found.figures() == {
        "episode_return": 4.5,
        "episode_return.left": 8,
        "episode_length": 4.5,
        "episodes": 2,
    }


def test_an_episode_that_ends_in_a_reset_step_has_the_length_of_its_experience() -> None:
    found = statistics()
    one = torch.ones(2)
    for ended in (False, False, True):  # the autoreset of the next step: the end is due with the reset
        found.add(one, {"_reward": torch.tensor([not ended, True])}, torch.tensor([ended, False]))
    assert found.figures() == {"episode_return": 2, "episode_length": 2, "episodes": 1}


def test_a_state_goes_on_as_if_it_had_never_stopped() -> None:
    one, gains = statistics("reward.left"), torch.rand(9, 2, dtype=torch.float64)
    two = statistics("reward.left", "reward.right")
    for t, gain in enumerate(gains):
        ended = torch.tensor([t % 3 == 2, t == 6])
        one.add(gain, {"reward.left": -gain}, ended)
        if t == 3:
            two.load_state_dict(one.state_dict())
        if t > 3:
            two.add(gain, {"reward.left": -gain}, ended)
    found = two.figures()
    assert found.pop("episode_return.right") == 0
    assert found == one.figures()


def rewarded() -> Scenario:
    network, goal = {"kind": "mlp", "hidden": [6]}, {"kind": "regression", "target": "reward"}
    agent = {"observes": ["observation"], "network": network, "objective": goal}
    return scenario_of({"a": agent}, env=SavedCounters(4), batch=4, telemetry={"every": 1})


def rows(simulation: Simulation, steps: int) -> list[list[float]]:
    history = History()
    simulation.recorders.append(history)
    simulation.run(steps)
    names = ("episode_return", "episode_length", "episodes")
    return [history.of("", name)[1].tolist() for name in names]


def test_a_fork_and_a_checkpoint_give_the_same_rows(tmp_path: Path) -> None:
    with Simulation(rewarded()) as simulation:
        simulation.run(7)
        path = simulation.save(tmp_path / "saved")
        with simulation.fork() as fork:
            forked = rows(fork, 5)
        with Simulation.load(path, rewarded()) as loaded:
            assert rows(loaded, 5) == rows(simulation, 5) == forked


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_the_figures_of_a_run_have_them(backend: str) -> None:
    with Simulation(rewarded(), backend=backend) as simulation:
        returns, lengths, episodes = rows(simulation, 4)
    assert returns == [3.0, 4.5, pytest.approx(19 / 3)]  # the first episode ends at step 2
    assert lengths == [2, 2.5, 3]
    assert episodes == [1, 2, 4]
