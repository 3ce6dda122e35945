"""Worlds that fail, return NaN or change shape: one line, from Python and on the command line, and nothing half-written."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv

import antiphon
from antiphon import envs
from antiphon.errors import RunError, ScenarioError, ScenarioWarning
from tests.envs.adaptors.parallel_worlds import Mines
from tests.kit.commands import Commands
from tests.kit.worlds import batch_of, row_of

FAILS_AT = 5


class Broken(gymnasium.Env[Any, Any]):
    """Sound until its fifth step."""

    observation_space: spaces.Space[Any] = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "raises") -> None:
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps = 0
        return self.shown(), {}

    def shown(self) -> Any:
        bad = self.steps >= FAILS_AT
        match self.fault:
            case "nan" if bad:
                return np.array([0, np.nan], np.float32)
        return np.zeros(2, np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        bad = self.steps >= FAILS_AT
        if self.fault == "raises" and bad:
            raise ZeroDivisionError("the world\nhas come to an end")
        return self.shown(), np.inf if bad and self.fault == "reward" else 0.0, False, False, {}


def broken(fault: str) -> envs.TorchVectorEnv:
    return envs.make(SyncVectorEnv([lambda: Broken("none"), lambda: Broken(fault)]), batch=2)


FAULTS = [
    ("raises", "env: 'Broken' failed in step(): ZeroDivisionError: the world has come to an end"),
    ("nan", "env: 'observation' of sub-environment 1 is nan, which is not finite; fix the"),
    ("reward", "env: 'reward' of sub-environment 1 is inf, which is not finite; fix the"),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
def test_a_world_that_breaks_in_mid_episode_is_named(fault: str, expected: str) -> None:
    env = broken(fault)
    env.reset(seed=0)
    for _ in range(FAILS_AT - 1):
        env.step(None)
    with pytest.raises(RunError) as caught:
        env.step(None)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_a_world_that_cannot_be_closed_costs_no_result() -> None:
    class Open(Broken):
        def close(self) -> None:
            raise OSError("the door\nis stuck")

    envs.register("tests/Open-v0", lambda: Open("none"))
    with pytest.warns(ScenarioWarning, match=r"env: 'Open' failed in close\(\): OSError: the door is stuck$"):
        antiphon.envs.make({"id": "tests/Open-v0"}, batch=2).close()


class Turned(SyncVectorEnv):
    """Turns what its rows return, rewards or observations, into complex numbers."""

    def __init__(self, what: str, kind: Callable[[Any], Any]) -> None:
        super().__init__([lambda: Broken("none")] * 2)
        self.what, self.kind = what, kind

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        observation, reward, *others = super().step(actions)
        found = {"observation": observation, "reward": reward}
        found[self.what] = self.kind(found[self.what] * 1j)
        return found["observation"], found["reward"], *others  # type: ignore[return-value]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("what", ["observation", "reward"])
def test_complex_numbers_of_a_vector_environment_are_refused(what: str, kind: Callable[[Any], Any]) -> None:
    """A type of real numbers would keep their real part alone."""
    env = envs.make(Turned(what, kind), batch=2)
    env.reset(seed=0)
    with pytest.raises(RunError, match=rf"^env: '{what}' has complex numbers; return real ones$"):
        env.step(None)


class Returning(gymnasium.Env[Any, Any]):
    """Returns what it is given: a reward, and an observation."""

    observation_space: spaces.Space[Any] = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, reward: Any = 0.0, shape: tuple[int, ...] = (2,)) -> None:
        self.reward, self.shape = reward, shape

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return np.ones(self.shape, np.float32), self.reward, False, False, {}


class ReturningMines(Mines):
    """Gives `low` this reward."""

    def __init__(self, reward: Any) -> None:
        super().__init__()
        self.reward = reward

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        found = super().step(actions)
        found[1]["low"] = self.reward
        return found


class Ending(Returning):
    """Ends its episodes so."""

    def step(self, action: Any) -> Any:
        shown, flag, _, truncated, info = super().step(action)
        return shown, 0.0, flag, truncated, info


@pytest.mark.parametrize(
    ("flag", "what"), [(None, "None"), ("no", "'no'"), (np.ones(2, bool), "an array of shape [2]")]
)
def test_what_is_no_end_of_an_episode_is_named(flag: Any, what: str) -> None:
    """None would be no end, and a word one."""
    env = row_of(Ending(flag))
    line = rf"^env: 'terminated' is {re.escape(what)}; return True or False from step\(\)$"
    with pytest.raises(RunError, match=line):
        env.step(0)


@pytest.mark.parametrize(
    "flag", [np.bool_(True), 1, np.array([True]), torch.tensor(True), torch.tensor([1]), [True]], ids=repr
)
def test_what_is_one_truth_value_ends_an_episode(flag: Any) -> None:
    """A tensor has a `size()`, where an array has a number."""
    _, _, terminated, truncated, _ = row_of(Ending(flag)).step(0)
    assert terminated
    assert not truncated


@pytest.mark.parametrize(
    "reward",
    [
        1,
        True,
        np.float32(1),
        np.bool_(True),
        np.array(1),
        np.array([1]),
        np.array([1], np.float32),
        torch.ones(1),
    ],
)
def test_a_reward_may_be_an_array_of_one_number(reward: Any) -> None:
    env = SyncVectorEnv([lambda: row_of(Returning(reward))] * 2)
    env.reset(seed=0)
    assert env.step(np.zeros(2, int))[1].tolist() == [1, 1]
    mines = batch_of(ReturningMines(reward))
    mines.reset(seed=0)
    assert mines.step(None)[4]["reward.low"].tolist() == [1]


@pytest.mark.parametrize(
    ("reward", "what"),
    [(None, "None"), (np.ones(2), "an array of shape [2]"), ("much", "'much'"), ([1.0], "[1.0]")],
)
def test_what_is_no_reward_is_named(reward: Any, what: str) -> None:
    """Gymnasium's vector environments write None as NaN, and PettingZoo's have no word for it."""
    env = row_of(Returning(reward))
    own = (
        "" if what in ("None", "'much'") else ", or register a PettingZoo environment, in which each agent .*"
    )
    with pytest.raises(
        RunError, match=rf"^env: the reward is {re.escape(what)}; return a number from step\(\){own}$"
    ):
        env.step(0)
    mines = batch_of(ReturningMines(reward))
    mines.reset(seed=0)
    with pytest.raises(RunError, match=rf"^env: the reward of 'low' is {re.escape(what)}; return a number"):
        mines.step(None)


class Renaming(Returning):
    """Returns an observation by another key than its space has."""

    observation_space = spaces.Dict(a=spaces.Box(-9, 9, (2,), np.float32))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return {"b": np.zeros(2, np.float32)}, {}


def test_keys_that_an_observation_has_in_place_of_its_spaces_are_named() -> None:
    env = envs.make(SyncVectorEnv([Renaming, Renaming]), batch=2)
    line = r"failed in reset\(\): KeyError: 'a', but 'b' was returned; it does not return what its spaces"
    with pytest.raises(RunError, match=line):
        env.reset(seed=0)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 2)])
def test_an_observation_of_another_shape_is_named(shape: tuple[int, ...]) -> None:
    """Into the shared memory of `async` one number is written as many."""
    env = row_of(Returning(shape=shape))
    env.reset(seed=0)
    line = (
        f"env: 'observation' is {list(shape)}, but its space is [2]; return that shape, or declare the other"
    )
    with pytest.raises(RunError, match=f"^{re.escape(line)}$"):
        env.step(0)


class OfParts(Returning):
    """Has an observation of parts."""

    observation_space = spaces.Dict(a=spaces.Box(-9, 9, (2,), np.float32), b=spaces.Discrete(3))
    returned: Any = None

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        return {"a": np.zeros(2, np.float32), "b": 0}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self.returned, 0.0, False, False, {}


@pytest.mark.parametrize(
    ("returned", "name"), [({"a": None, "b": 0}, "a"), ({"a": np.zeros(2, np.float32), "b": None}, "b")]
)
def test_an_observation_that_is_none_is_named(returned: Any, name: str) -> None:
    world = OfParts()
    world.returned = returned
    env = row_of(world)
    env.reset(seed=0)
    with pytest.raises(
        RunError, match=rf"^env: '{name}' is None; return its value from reset\(\) and step\(\)$"
    ):
        env.step(0)


MISSING = ["no observation", "no reward", "no termination", "no truncation"]


class BrokenMines(Mines):
    """Breaks in its second step."""

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault = fault

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        found = super().step(actions)
        if self.steps == 2:
            if self.fault == "raises":
                raise ZeroDivisionError("the world\nhas come to an end")
            if self.fault.startswith("no "):
                del found[MISSING.index(self.fault)]["low"]
            elif self.fault == "reward":
                found[1]["low"] = float("nan")
            elif self.fault != "state":
                found[0]["low"] = np.zeros(2) if self.fault == "shape" else np.array([np.nan])
        return found

    def state(self) -> Any:
        return np.zeros(5) if self.fault == "state" and self.steps == 2 else super().state()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("raises", "env: 'mines_v0' failed in step(): ZeroDivisionError: the world has come to an end"),
        ("nan", "env: 'low.observation' of sub-environment 0 is nan, which is not finite"),
        ("reward", "env: 'reward.low' of sub-environment 0 is nan, which is not finite"),
        ("state", "env: 'state' is [5], but its space is [2]"),
        *(
            (fault, f"env: 'mines_v0' returned {fault} of 'low' from step(), which is alive")
            for fault in MISSING
        ),
    ],
)
def test_so_is_a_parallel_world(fault: str, expected: str) -> None:
    env = batch_of(BrokenMines(fault), BrokenMines(fault))
    env.reset(seed=0)
    env.step(None)
    with pytest.raises(RunError) as caught:
        env.step(None)
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


@pytest.fixture
def registered() -> Iterator[None]:
    gymnasium.register("antiphon-test/Broken-v0", entry_point=Broken)
    yield
    del gymnasium.registry["antiphon-test/Broken-v0"]


DOCUMENT = """\
scenario: broken
env: {id: gymnasium/antiphon-test/Broken-v0, fault: raises, disable_env_checker: true}
agents:
  player: {observes: [observation], objective: {kind: regression, target: reward}, acts: true}
training: {batch: 2, steps: 12}
telemetry: {period: 2}
"""


def test_a_run_in_it_ends_with_one_line_and_says_so_in_its_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], registered: None
) -> None:
    monkeypatch.delenv("ANTIPHON_LOGDIR")
    Path("broken.yaml").write_text(DOCUMENT)
    antiphon_ = Commands(capsys)
    expected = (
        "env: 'antiphon-test/Broken-v0' failed in step(): ZeroDivisionError: the world has come to an end"
    )
    assert antiphon_.code("run broken.yaml --name one") == 2
    assert f"error: {expected} (test_broken_worlds.py:" in antiphon_.err
    assert "Traceback" not in antiphon_.err + antiphon_.out
    facts = json.loads(Path("runs/one/run.json").read_text())
    assert facts["exit"] != "done"
    assert expected in facts["error"]
    with antiphon.Simulation("broken.yaml") as simulation, pytest.raises(RunError, match="come to an end"):
        simulation.run()
    assert simulation.now == FAILS_AT - 1


def test_a_world_that_cannot_be_made_leaves_no_run(
    here: Path, capsys: pytest.CaptureFixture[str], registered: None
) -> None:
    Path("none.yaml").write_text(DOCUMENT.replace("fault: raises", "gravity: 1"))
    refused = Commands(capsys).refused("run none.yaml --name none --logdir runs")
    assert refused.endswith("env.gravity: 'antiphon-test/Broken-v0' does not take it; leave it out")
    assert not Path("runs").exists()


@pytest.mark.parametrize("fault", MISSING)
def test_a_parallel_world_owes_nothing_to_agents_that_leave(fault: str) -> None:
    class Leaving(Mines):
        def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
            found = super().step(actions)
            for agent in {*actions} - {*self.agents}:
                del found[MISSING.index(fault)][agent]
            return found

    env = batch_of(Leaving(mine=99, limit=2))
    env.reset(seed=0)
    env.step(None)
    _, _, terminated, truncated, _ = env.step(None)
    assert bool(terminated | truncated)


def test_a_first_observation_that_is_missing_is_named() -> None:
    class Late(Mines):
        def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            return {}, super().reset(**how)[1]

    with pytest.raises(
        RunError, match=r"^env: 'mines_v0' returned no observation of 'low' from reset\(\), which"
    ):
        batch_of(Late()).reset(seed=0)


def test_agents_that_a_parallel_world_does_not_declare_are_named() -> None:
    class Another(Mines):
        def reset(self, **how: Any) -> tuple[dict[str, Any], dict[str, Any]]:
            observed, infos = super().reset(**how)
            return {**observed, "zed": observed["low"]}, infos

    class Spaceless(Mines):
        def observation_space(self, agent: str) -> Any:
            return {"high": super().observation_space(agent)}[agent]

    class Old(spaces.Discrete):
        """As some are for gym, which had no `start`."""

        def __init__(self) -> None:
            self.n = np.int64(2)
            spaces.Space.__init__(self, (), np.int64)

    class Spaced(Mines):
        def action_space(self, agent: str) -> Any:
            return Old()

    line = r"^env: 'mines_v0' returned an observation of 'zed' from reset\(\), which is not in possible_agents; name"
    with pytest.raises(RunError, match=line):
        batch_of(Another()).reset(seed=0)
    with pytest.raises(
        ScenarioError, match=r"observation_space\('low'\) failed: KeyError: 'low'; return a space"
    ):
        batch_of(Spaceless())
    with pytest.raises(
        ScenarioError, match=r"action_space\('low'\) failed: AttributeError: 'Old' .* 'start'"
    ):
        batch_of(Spaced(), Spaced())
