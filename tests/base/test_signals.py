"""Ctrl-C and SIGTERM: what they end, what they leave, and what the caller learns of them."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import antiphon
from antiphon import Scenario, Simulation
from antiphon.envs.images import Digits
from tests.kit import seams
from tests.kit.commands import Commands
from tests.running.left import checkpoints, ended, facts, result


class Endless(gymnasium.Env[Any, Any]):
    """A task whose episodes never end; `at` is called with each step of all its environments."""

    observation_space, action_space = spaces.Box(-9, 9, (1,), np.float32), spaces.Discrete(2)
    at: Callable[[int], object] = staticmethod(lambda step: None)
    taken = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Endless.taken += 1
        Endless.at(Endless.taken)
        return np.zeros(1, np.float32), 1.0, False, False, {}


antiphon.envs.register("signals/Endless-v0", Endless)


def endless(**training: Any) -> Scenario:
    agent = {"observes": ["observation"], "acts": True, "objective": "a2c", "clock": {"unroll": 4}}
    training = {"batch": 1, "steps": 8, **training}
    return Scenario(scenario="e", env={"id": "signals/Endless-v0"}, agents={"p": agent}, training=training)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Send a signal at a step of the environments; an evaluation is given up at once."""
    monkeypatch.setattr(seams.GRACE, 0.0)
    monkeypatch.setattr(Endless, "taken", 0)

    def send(step: int, number: int) -> None:
        act = lambda taken: os.kill(os.getpid(), number) if taken == step else None
        monkeypatch.setattr(Endless, "at", staticmethod(act))

    return send


@contextmanager
def handled(number: int, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_a_signal_in_the_last_evaluation_ends_it(number: int, at: Any, tmp_path: Path) -> None:
    at(30, number)
    run, line = tmp_path / "run", r"stopped by SIG\w+; run\(\) continues after step 8 in this process alone"
    with pytest.raises(KeyboardInterrupt, match=line), Simulation(endless(), logdir=run) as simulation:
        simulation.run(progress=False)
    assert (ended(run), checkpoints(run)[-1]) == (("stopped", 8, None), 8)
    assert (result(run)["steps"], result(run)["return"], "no_return" in result(run)) == (8, None, False)


def test_no_resume_is_promised_where_there_is_none(tmp_path: Path) -> None:
    """The environment has no state_dict: the run goes on in its process alone."""
    acts = {"observes": ["observation"], "acts": True, "objective": "ppo"}
    pole = antiphon.Scenario(
        scenario="pole", env="gymnasium/CartPole-v1", agents={"a": acts}, training={"batch": 2}
    )
    line = r"run\(\) continues after step 3 in this process alone: its environment has no state_dict$"

    def stop() -> None:
        with Simulation(pole, logdir=tmp_path / "run") as simulation:
            simulation.run(callbacks=[send_at(3, signal.SIGTERM)], progress=False)

    with pytest.raises(KeyboardInterrupt, match=line), pytest.warns(match="cannot be resumed"):
        stop()


def test_the_command_ends_too(at: Any, here: Path, cli: Commands) -> None:
    (here / "e.yaml").write_text(endless().to_yaml(), encoding="utf-8")
    at(30, signal.SIGTERM)
    assert cli.code("run e.yaml --logdir . --name run") == 143
    assert "stopped; it cannot be continued: its environment has no state_dict" in cli.err
    assert ended(here / "run") == ("stopped", 8, None)


def test_the_command_says_how_a_stopped_run_continues(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    steps, step = itertools.count(1), Digits.step

    def stepped(self: Digits, actions: Any = None) -> Any:
        if next(steps) == 3:
            signal.raise_signal(signal.SIGTERM)
        return step(self, actions)

    monkeypatch.setattr(Digits, "step", stepped)
    words = "run digits-mlp --set depth=2 --set width=4 --steps 9 --logdir . --name run"
    assert cli.code(words) == 143
    assert "stopped; antiphon resume run continues from its latest checkpoint" in cli.err
    assert "stopped" not in (cli("resume run"), cli.err)[1]
    steps = itertools.count(1)
    assert cli.code(f"{words} --exist overwrite --set delay=1 --parts 2 --mode free") == 143
    assert "stopped; it cannot be continued: its parts do not wait for one another" in cli.err
    assert "its parts ran in free mode" in cli.refused("resume run")


def test_a_signal_in_an_evaluation_during_training_goes_back_to_the_checkpoint(
    at: Any, tmp_path: Path
) -> None:
    """The evaluation is part of the step, and the resumed run makes it."""
    at(20, signal.SIGTERM)
    run, evaluated = tmp_path / "run", {"evaluate": {"period": 6}}
    with (
        pytest.raises(KeyboardInterrupt, match="stopped by SIGTERM"),
        Simulation(endless(**evaluated), logdir=run, checkpoint_every=4) as simulation,
    ):
        simulation.run(progress=False)
    assert checkpoints(run)[-1] == 4
    assert ended(run)[0] == "stopped"
    assert "made again from the latest checkpoint" in facts(run)["error"]


def digits(**settings: Any) -> Simulation:
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 4, "batch": 4, "steps": 9})
    return Simulation(scenario, **settings)


def send_at(step: int, number: int) -> Callable[[Simulation], None]:
    return lambda one: os.kill(os.getpid(), number) if one.now == step else None


@pytest.mark.parametrize("number", BOTH)
def test_the_callers_handler_runs_after_the_checkpoint(number: int, tmp_path: Path) -> None:
    calls = []

    def handler(number: int, frame: Any) -> None:
        calls.append((number, checkpoints(tmp_path / "run")[-1], frame is not None))

    with handled(number, handler), digits(logdir=tmp_path / "run") as simulation:
        simulation.run(callbacks=[send_at(5, number)], progress=False)
        assert (calls, simulation.now) == ([(number, 5, True)], 5)
        assert signal.getsignal(number) is handler
    assert facts(tmp_path / "run")["exit"] == "stopped"


@pytest.mark.parametrize("number", BOTH)
def test_without_a_handler_the_script_ends_with_or_without_a_directory(number: int) -> None:
    with digits() as simulation:
        with pytest.raises(KeyboardInterrupt, match=r"run\(\) continues after step 3"):
            simulation.run(callbacks=[send_at(3, number)], progress=False)
        simulation.run(progress=False)
        assert simulation.now == 9
    population = antiphon.Population("digits-mlp", [0, 1])
    env = population.simulations[0].world.env
    env.step = _signalled_step(env.step, number)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt, match=r"run\(\) continues after step 2"):
        population.run(steps=4)
    population.close()


def _signalled_step(step: Callable[..., Any], number: int) -> Callable[..., Any]:
    taken = iter(range(1, 100))

    def stepped(actions: Any = None) -> Any:
        if next(taken) == 2:
            os.kill(os.getpid(), number)
        return step(actions)

    return stepped


def test_what_the_process_ignores_ends_no_run(tmp_path: Path) -> None:
    with handled(signal.SIGTERM, signal.SIG_IGN), digits() as simulation:
        simulation.run(callbacks=[send_at(5, signal.SIGTERM)], progress=False)
        assert simulation.now == 9
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def test_a_run_in_another_thread_leaves_signals_alone() -> None:
    before, now = [signal.getsignal(number) for number in BOTH], []

    def train() -> None:
        with digits() as simulation:
            seen = []
            simulation.run(
                callbacks=[lambda _: seen.append([signal.getsignal(n) for n in BOTH])], progress=False
            )
            now.append((simulation.now, seen[-1]))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert now == [(9, before)]
