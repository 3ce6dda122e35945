"""Environments stepped in other processes: the numbers of this process, and refusals."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import antiphon
from antiphon import Scenario, Simulation, envs
from antiphon.errors import RunError, ScenarioError
from tests.envs.adaptors import parallel_worlds
from tests.envs.adaptors.parallel_worlds import Mines
from tests.envs.adaptors.test_frame_stack import Counter
from tests.envs.adaptors.turn_games import Race
from tests.kit.examined import warned


class Failing(Mines):
    """It fails at the third step."""

    def step(self, actions: Any) -> Any:
        if self.steps == 2:
            raise ValueError("it is broken")
        return super().step(actions)


class Where(Mines):
    """Its rewards are the number of its process."""

    def step(self, actions: Any) -> Any:
        seen, rewards, *others = super().step(actions)
        return seen, dict.fromkeys(rewards, float(os.getpid())), *others


class Counting:
    """A wrapper whose count of steps outlives episodes and is observed."""

    def __init__(self, env: Any) -> None:
        self.env, self.unwrapped, self.steps = env, env, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)

    def step(self, actions: Any) -> Any:
        self.steps += 1
        return self.env.step(actions)


envs.register("tests/CountedMines-v0", lambda: Counting(Mines()))
envs.register("tests/Mines-v0", lambda limit=4: Mines(limit=limit))
envs.register("tests/FailingMines-v0", Failing)
envs.register("tests/WhereMines-v0", Where)
envs.register("tests/LoneRace-v0", Race)
envs.register("tests/LoneCounter-v0", Counter)


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("name", "agent", "workers"),
    [
        ("tests/Mines-v0", {"observes": ["low.observation"], "acts": "low", "objective": {"kind": "a2c", "critic": {"observes": ["state"]}}}, 2),
        ("tests/LoneRace-v0", {"observes": ["red.observation"], "acts": "red", "objective": {"kind": "ppo", "mask": "red.action_mask"}}, 3),
        ("tests/LoneCounter-v0", {"observes": ["vector"], "acts": True, "objective": "ppo"}, 3),
    ],
)  # fmt: skip
def test_a_run_has_the_numbers_of_one_process(name: str, agent: dict[str, Any], workers: int) -> None:
    found = []
    for keys in ({}, {"workers": workers}):
        player = {**agent, "clock": {"unroll": 4}}
        env = {"id": name, **keys}
        scenario = Scenario(scenario="s", env=env, agents={"a": player}, training={"batch": 3})
        with Simulation(scenario) as simulation:
            simulation.run(steps=20, progress=False)
            assert simulation.agents["a"].updates > 0
            found.append({key: p.clone() for key, p in simulation.agents["a"].parameters.items()})
    assert all(torch.equal(p, found[1][key]) for key, p in found[0].items())


def test_rows_are_divided_among_the_processes_which_end_with_the_environment() -> None:
    env = envs.make({"id": "tests/WhereMines-v0", "workers": 2}, batch=5)
    env.reset(seed=0)
    *_, info = env.step()
    processes = info["reward.low"].tolist()
    assert len(set(processes)) == 2
    assert os.getpid() not in processes
    assert sorted(processes.count(one) for one in set(processes)) == [2, 3]
    env.close()
    assert not any(Path(f"/proc/{int(one)}").exists() for one in processes)


def test_ctrl_c_in_the_terminal_leaves_the_step_to_be_finished() -> None:
    env = envs.make({"id": "tests/WhereMines-v0", "workers": 2}, batch=2)
    env.reset(seed=0)
    *_, info = env.step()
    for process in info["reward.low"].tolist():
        os.kill(int(process), signal.SIGINT)
    time.sleep(0.2)
    *_, after = env.step()
    assert after["reward.low"].tolist() == info["reward.low"].tolist()
    env.close()


@pytest.mark.parametrize("asked", [False, True])
def test_a_process_that_is_killed_is_one_line(asked: bool) -> None:
    """Before it is asked, or with a question that it has not read: then its end is a connection that is reset."""
    env = envs.make({"id": "tests/WhereMines-v0", "workers": 2}, batch=2)
    env.reset(seed=0)
    *_, info = env.step()
    processes = [int(one) for one in info["reward.low"].tolist()]

    def kill() -> None:
        for process in processes:
            os.kill(process, signal.SIGKILL)

    if asked:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        threading.Timer(0.3, kill).start()
    else:
        kill()
        time.sleep(0.3)
    with pytest.raises(
        RunError, match=r"^env: 'mines_v0' failed in step\(\): WorkerError: its process has ended"
    ):
        env.step()
    env.close()


def test_an_error_in_a_process_is_one_line() -> None:
    env = envs.make({"id": "tests/FailingMines-v0", "workers": 2}, batch=2)
    env.reset(seed=0)
    env.step()
    env.step()
    with pytest.raises(RunError, match=r"^env: 'mines_v0' failed in step\(\): .*ValueError: it is broken$"):
        env.step()
    env.close()


class Busy(Mines):
    """Each of its steps takes four milliseconds of the processor."""

    def step(self, actions: Any) -> Any:
        began = time.process_time()
        while time.process_time() < began + 0.004:
            pass
        return super().step(actions)


@pytest.mark.parametrize(
    ("kind", "keys", "advised"),
    [(Busy, {}, True), (Busy, {"workers": 2}, False), (Mines, {}, False)],
)
def test_other_processes_are_advised_where_a_step_is_long(
    kind: type[Mines], keys: dict[str, Any], advised: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(parallel_worlds, "parallel_env", kind)
    monkeypatch.setitem(sys.modules, "busy_worlds", parallel_worlds)
    player = {"observes": ["low.observation"], "acts": "low", "objective": "a2c"}
    env = {"id": "pettingzoo/busy_worlds", **keys}
    scenario = Scenario(scenario="s", env=env, agents={"a": player}, training={"batch": 8})
    found = [line for line in warned(scenario) if line.startswith("env: a step of one environment takes ")]
    assert len(found) == advised
    assert all("; workers: 4 takes them in other processes" in line for line in found)


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"id": "tests/Mines-v0", "workers": 0}, "env.workers: 0; must be a number of processes, from 1"),
        (
            {"id": "tests/Mines-v0", "workers": "all"},
            "env.workers: 'all'; must be a number of processes, from 1",
        ),
        (
            {"id": "tests/CountedMines-v0", "workers": 2},
            "env.workers: the statistics of the wrapper Counting would stay in other processes; leave workers out",
        ),
        (
            {"id": "tests/LoneCounter-v0", "workers": 2},
            "env.workers: 2, but each of the 3 environments has a process",
        ),
        (
            {"id": "tests/LoneVector-v0", "workers": 2},
            "env.workers: 'tests/LoneVector-v0' makes SyncVectorEnv",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused_in_one_line(env: dict[str, Any], line: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        envs.make(env, batch=3)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def _vector() -> Any:
    import gymnasium

    return gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="sync")


antiphon.envs.register("tests/LoneVector-v0", _vector)


class Drawn(Counter):
    """It renders pictures."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    render_mode = "rgb_array"

    def __init__(self) -> None:
        super().__init__(whole=True)

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


envs.register("tests/Drawn-v0", Drawn)


def test_a_look_at_an_environment_makes_no_more_of_it_than_it_has_processes(tmp_path: Path) -> None:
    text = """
        scenario: drawn
        env: {id: tests/Drawn-v0, workers: 1}
        agents: {eye: {observes: [observation], objective: {kind: a2c}, acts: true, clock: {unroll: 4}}}
        training: {batch: 1, steps: 4}
    """
    (tmp_path / "drawn.yaml").write_text(text)
    antiphon.check(tmp_path / "drawn.yaml")
    with Simulation(Scenario.from_yaml(text), seed=0) as simulation:
        simulation.run()
        assert simulation.export(tmp_path / "drawn.gif").stat().st_size
