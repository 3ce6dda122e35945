"""Worlds of Gymnasium's registry by id, with the options of a document."""

import os
import sys
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium import spaces

import antiphon
from antiphon import envs
from tests.kit.commands import Commands

DOCUMENT = """\
scenario: pole
env: {id: gymnasium/CartPole-v1, max_episode_steps: 5}
agents:
  player: {observes: [observation], objective: {kind: regression, target: reward}, acts: true}
training: {batch: 3, steps: 12}
"""


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package is allowed but those of antiphon's own list; what a test allows is forgotten."""
    monkeypatch.setenv("ANTIPHON_IMPORT", "")


class Spoken(gymnasium.ObservationWrapper[Any, Any, Any]):
    """Beside the observation a graph and a mission of a space of its own, as MiniGrid's."""

    class Mission(spaces.Space[str]):
        def sample(self, mask: Any = None, probability: Any = None) -> str:
            return "open the door"

        def contains(self, x: Any) -> bool:
            return isinstance(x, str)

        def __eq__(self, other: object) -> bool:
            return isinstance(other, type(self))

        __hash__ = None  # type: ignore[assignment]

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        graph = spaces.Graph(spaces.Discrete(2), None)
        seen = {"seen": env.observation_space, "graph": graph, "mission": self.Mission()}
        self.observation_space = spaces.Dict(seen)

    def observation(self, observation: Any) -> Any:
        return {**self.observation_space.sample(), "seen": observation}


def test_parts_that_no_agent_can_observe_are_left_out() -> None:
    gymnasium.register("own/Spoken-v0", lambda: Spoken(gymnasium.make("CartPole-v1")))
    try:
        env = envs.make({"id": "gymnasium/own/Spoken-v0"}, batch=1)
        env.request(["seen"])
        env.reset(seed=3)
        seen = env.step(torch.tensor([1]))[0]["seen"]
        env.close()
    finally:
        gymnasium.registry.pop("own/Spoken-v0")
    plain = envs.make({"id": "gymnasium/CartPole-v1", "vectorization_mode": "sync"}, batch=1)
    plain.reset(seed=3)
    assert torch.equal(seen, plain.step(torch.tensor([1]))[0]["observation"])


def test_a_time_limit_is_a_truncation() -> None:
    for mode in ("sync", "vector_entry_point"):
        options = {"vectorization_mode": mode, "max_episode_steps": 5}
        env = envs.make({"id": "gymnasium/CartPole-v1", **options}, batch=2)
        env.reset(seed=0)
        infos = [env.step(torch.tensor([step % 2] * 2))[4] for step in range(6)]
        assert [info["truncated"].tolist() for info in infos] == [[0, 0]] * 4 + [[1, 1], [0, 0]]
        assert not any(bool(info["terminated"].any()) for info in infos)


def test_a_document_trains_in_one_and_check_and_show_know_its_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pole.yaml").write_text(DOCUMENT)
    Path("wrong.yaml").write_text(DOCUMENT.replace("[observation]", "[observatio]"))
    Path("unknown.yaml").write_text(DOCUMENT.replace("CartPole-v1", "CartPole-v9"))
    antiphon_ = Commands(capsys)
    scenario = antiphon.Scenario.from_yaml(DOCUMENT)
    assert "env: {id: gymnasium/CartPole-v1, max_episode_steps: 5}\n" in scenario.to_yaml()
    with antiphon.Simulation(scenario) as simulation:
        simulation.run()
        assert simulation.world.metrics()["episode_return"] == 5
    antiphon_("check pole.yaml")
    assert "CartPole-v1" in antiphon_("show pole.yaml")
    assert antiphon_.code("check wrong.yaml") == 2
    assert (
        "4: agents.player.observes: no signal 'observatio'; did you mean 'observation'?"
        in antiphon_.out + antiphon_.err
    )
    assert antiphon_.code("check unknown.yaml") == 2
    assert "no Gymnasium environment 'CartPole-v9'; did you mean" in antiphon_.out + antiphon_.err


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
