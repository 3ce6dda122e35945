"""Runs in somebody else's world: gone on with to the same bits where it has a state, and else refused in one line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import pytest

from antiphon import Scenario, Simulation
from tests.contracts.twins import differences, facts
from tests.envs.adaptors import parallel_worlds
from tests.envs.adaptors.test_gymnasium import Saved

STATELESS = """\
scenario: pole
env: {id: gymnasium/CartPole-v1, vectorization_mode: sync}
agents:
  eye: {observes: [observation]}
  player: {objective: {kind: regression, target: reward}, acts: true}
channels:
  - {from: eye, to: player, size: 2, gradient: linear}
training: {batch: 2, steps: 20}
"""
STATEFUL = (
    STATELESS.replace(
        "CartPole-v1, vectorization_mode: sync", "antiphon-test/Saved-v0, max_episode_steps: 2"
    ).replace("[observation]", "[count, bits]"),
    STATELESS.replace(
        "id: gymnasium/CartPole-v1, vectorization_mode: sync", "id: pettingzoo/saved_worlds_of_a_test"
    )
    .replace("[observation]", "[high.place]")
    .replace("acts: true", "observes: [low.observation]"),
)


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worlds under names of documents."""
    gymnasium.register("antiphon-test/Saved-v0", entry_point=Saved)
    monkeypatch.setitem(sys.modules, "saved_worlds_of_a_test", parallel_worlds)
    monkeypatch.setattr(parallel_worlds, "parallel_env", parallel_worlds.SavedMines)
    yield
    del gymnasium.registry["antiphon-test/Saved-v0"]


@pytest.mark.long
@pytest.mark.parametrize("text", STATEFUL)
def test_a_world_with_a_state_goes_on_to_the_same_bits(text: str, tmp_path: Path) -> None:
    scenario = Scenario.from_yaml(text)
    simulation = Simulation(scenario)
    simulation.run(steps=7)
    runs = (simulation, simulation.fork(), Simulation.load(simulation.save(tmp_path / "saved")))
    for run in runs:
        run.run(steps=13)
        assert not list(differences(facts(simulation), facts(run), tolerance=0.0))
        run.close()
