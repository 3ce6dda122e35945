"""Ctrl-C and SIGTERM: what they end, what they leave, and what the caller learns of them."""

from __future__ import annotations

import itertools
import os
import signal
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
