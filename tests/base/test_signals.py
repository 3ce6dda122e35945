"""Ctrl-C and SIGTERM: what they end, what they leave, and what the caller learns of them."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import antiphon
from antiphon import Simulation
from antiphon.envs.images import Digits
from tests.kit import seams
from tests.kit.commands import Commands


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


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Send a signal at a step of the environments; an evaluation is given up at once."""
    monkeypatch.setattr(seams.GRACE, 0.0)
    monkeypatch.setattr(Endless, "taken", 0)

    def send(step: int, number: int) -> None:
        act = lambda taken: os.kill(os.getpid(), number) if taken == step else None
        monkeypatch.setattr(Endless, "at", staticmethod(act))

    return send


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


def digits(**settings: Any) -> Simulation:
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 4, "batch": 4, "steps": 9})
    return Simulation(scenario, **settings)
