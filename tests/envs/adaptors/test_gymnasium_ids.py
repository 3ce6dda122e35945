"""Worlds of Gymnasium's registry by id, with the options of a document."""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium import spaces

import antiphon
from antiphon import envs
from antiphon.envs import registry
from antiphon.errors import ScenarioError
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


class Foraging(gymnasium.Env[Any, Any]):
    """Ends by its own limit, which its registration gives."""

    observation_space = gymnasium.spaces.Discrete(2)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, max_episode_steps: int) -> None:
        self.limit, self.time = max_episode_steps, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return 0, {}

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.time += 1
        return 0, 0.0, self.time == self.limit, False, {}


@pytest.mark.parametrize("mode", ["sync", pytest.param("async", marks=pytest.mark.long)])
def test_arguments_of_a_registration_reach_the_environment(mode: str) -> None:
    """Gymnasium's `make_vec` takes a limit of steps for its own, as in lbforaging."""
    gymnasium.register("own/Foraging-v0", Foraging, kwargs={"max_episode_steps": 3})
    try:
        env = envs.make({"id": "gymnasium/own/Foraging-v0", "vectorization_mode": mode}, batch=2)
        env.reset(seed=0)
        ends = [env.step(torch.zeros(2, dtype=torch.long))[2:4] for _ in range(3)]
        env.close()
    finally:
        gymnasium.registry.pop("own/Foraging-v0")
    assert [[end.tolist() for end in each] for each in ends[:2]] == [[[False] * 2] * 2] * 2
    assert [end.tolist() for end in ends[2]] == [[True] * 2, [False] * 2]


def test_subprocesses_step_to_the_same_bits() -> None:
    rolls = []
    for mode in ("sync", "async"):
        env = envs.make({"id": "gymnasium/CartPole-v1", "vectorization_mode": mode}, batch=2)
        env.reset(seed=3)
        rolls.append(
            torch.stack([env.step(torch.tensor([step % 2, 1]))[0]["observation"] for step in range(20)])
        )
        env.close()
    assert torch.equal(*rolls)


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


@pytest.mark.parametrize("key", [{}, {"vectorization_mode": "sync"}])
def test_a_limit_of_null_is_that_of_the_registration(key: dict[str, Any]) -> None:
    env = envs.make({"id": "gymnasium/CartPole-v1", "max_episode_steps": None, **key}, batch=1)
    env.reset(seed=0)
    assert env.step(torch.tensor([0]))[4]["truncated"].tolist() == [0]


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


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"id": "gymnasium/ALE/Pong-v5"}, "install the package with 'ALE' and write"),
        (
            {"id": "gymnasium/ALE/Pong-v5"},
            "if a module of yours registers it, import that (commands: antiphon --import MODULE …)",
        ),
        ({"id": "gymnasium/CartPole-v1", "vectorization_mode": "threads"}, "env.vectorization_mode: unknown"),
        (
            {"id": "gymnasium/antiphon/CartPole-v0"},
            "is built in; write env: {id: antiphon/CartPole-v0}",
        ),
        (
            {"id": "gymnasium/nothing_here:World-v0"},
            "a scenario file imports no module; import 'nothing_here' before: antiphon --import nothing_here",
        ),
    ],
)
def test_what_cannot_be_made_is_refused_in_one_line(
    spec: dict[str, Any], expected: str, allowed: None
) -> None:
    with pytest.raises(ScenarioError) as caught:
        envs.make(spec, batch=2)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


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


HILL = """
import antiphon
import numpy as np
from gymnasium import Env, spaces
from os import system

@antiphon.environment("own/Slope")
class Hill(Env):
    observation_space = spaces.Dict({"place": spaces.Box(-9.0, 9.0, (2,), np.float32), "goal": spaces.Discrete(2)})
    action_space = spaces.Discrete(2)

    def __init__(self, length=4):
        self.length = length

    def seen(self):
        return {"place": np.array([self.x, 0], np.float32), "goal": 1}

    def reset(self, *, seed=None, options=None):
        self.x = self.t = 0
        return self.seen(), {}

    def step(self, action):
        self.x, self.t = self.x + action, self.t + 1
        return self.seen(), float(action), False, self.t == self.length, {}
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["own/Slope", pytest.param("hill_of_a_test:Hill", marks=pytest.mark.long)])
def test_an_environment_of_ones_own_is_named_by_its_class_or_as_it_registers_itself(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    allowed: None,
    name: str,
) -> None:
    """Only of an allowed package, and only what that package defines: a document calls nothing else."""
    module, antiphon_ = "hill_of_a_test", Commands(capsys)
    (tmp_path / f"{module}.py").write_text(HILL)
    document = tmp_path / "hill.yaml"
    document.write_text(
        f"scenario: hill\nenv: {{id: '{name}', length: 3}}\ntraining: {{steps: 4, batch: 2}}\n"
        "agents: {a: {observes: [place, goal], acts: true, objective: ppo}}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("ANTIPHON_IMPORT", "")
    try:
        fix = "MODULE …" if "/" in name else f"{module} COMMAND …"
        assert f"antiphon --import {fix}" in antiphon_.refused("run", document)
        assert module not in sys.modules
        antiphon_("--import", module, "run", document, "--logdir", ".", "--name", "a")
        antiphon_("show a")
        for wrong, line in (
            ("os:system", "os defines no class 'system' with reset and step"),
            (f"{module}:system", f"{module} defines no class 'system' with reset and step"),
            (
                f"gymnasium/{module}:Hill",
                f": {module}:Hill",
            ),
            (f"{module}:Hil", f"{module} defines no class 'Hil' with reset and step"),
        ):
            other = tmp_path / "other.yaml"
            other.write_text(document.read_text().replace(name, wrong))
            assert line in antiphon_.refused("run", other)
    finally:
        sys.modules.pop(module, None)
        for known in (f"{module}:Hill", "own/Slope"):
            registry._environments.pop(known, None)


def test_a_class_of_environments_of_an_imported_module_needs_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python there is no option; functions, such as those of the standard library, still need it."""
    module = "hill_in_python"
    (tmp_path / f"{module}.py").write_text(HILL.replace("own/Slope", "own/Imported"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ANTIPHON_IMPORT", "")
    document = tmp_path / "hill.yaml"
    document.write_text(
        f"scenario: hill\nenv: {{id: '{module}:Hill', length: 3}}\ntraining: {{steps: 4, batch: 2}}\n"
        "agents: {a: {observes: [place, goal], acts: true, objective: ppo}}\n"
    )
    with pytest.raises(ScenarioError, match=f"antiphon --import {module} COMMAND …, or in Python"):
        antiphon.Simulation(antiphon.load(document))
    try:
        import_module(module)
        with antiphon.Simulation(antiphon.load(document)) as simulation:
            simulation.run(4)
            simulation.save(tmp_path / "saved")
        with antiphon.Simulation.load(tmp_path / "saved") as again:
            assert "step 4," in repr(again)
        for name in ("shutil:rmtree", "subprocess:Popen", f"{module}:system"):
            with pytest.raises(ScenarioError, match=r"defines no class .* with reset and step"):
                envs.make({"id": name}, batch=2)
    finally:
        sys.modules.pop(module, None)
        for known in (f"{module}:Hill", "own/Imported"):
            registry._environments.pop(known, None)
