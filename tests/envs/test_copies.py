"""Which environments are functions of their seed and actions, so that several of one specification stay equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from antiphon import Scenario, Simulation
from antiphon.envs import from_tensors, registry
from antiphon.envs.registry import obstacle_to_copies
from antiphon.scenarios import EnvSpec
from tests.kit.some import some


def vector(num_envs: int = 2) -> SyncVectorEnv:
    """Vector environment of Gymnasium."""
    makers = [lambda: gymnasium.make("CartPole-v1")] * num_envs
    return SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a user's."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    registry.register("user/Stream-v0", lambda: source())
    registry.register("user/Pole-v0", lambda num_envs: registry.make("antiphon/CartPole-v0", batch=num_envs))
    registry.register("user/Vector-v0", vector)
    registry.register("user/Single-v0", lambda: gymnasium.make("CartPole-v1"))


def source() -> Any:
    """Source of own data."""
    return from_tensors(x=torch.arange(40.0).reshape(20, 2), label=torch.arange(20) % 2)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"id": "antiphon/Digits-v0"}, None),
        (EnvSpec(id="antiphon/Copy-v0"), None),
        ({"id": "user/Stream-v0"}, None),
        ({"id": "user/Pole-v0"}, None),
        ({"id": "gymnasium/CartPole-v1"}, "'CartPole-v1' is an environment of gymnasium, "),
        (EnvSpec(id="pettingzoo/mpe2.spread"), "'mpe2.spread' is an environment of pettingzoo, "),
        ({"id": "user/Vector-v0"}, "'user/Vector-v0' makes Gymnasium or PettingZoo environments, "),
        ({"id": "user/Single-v0"}, "'user/Single-v0' makes Gymnasium or PettingZoo environments, "),
    ],
    ids=str,
)
@pytest.mark.usefixtures("registered")
def test_what_its_seed_determines_and_worlds_of_others_that_may_hold_more(spec: Any, why: str | None) -> None:
    found = obstacle_to_copies(spec)
    assert found is None if why is None else some(found).startswith(why + "whose state may not depend on ")


def test_a_run_makes_no_world_only_to_describe_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Worlds may take seconds to make, and the run's own one has its description."""
    made: list[int] = []

    def counted(num_envs: int) -> SyncVectorEnv:
        made.append(num_envs)
        return vector(num_envs)

    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    registry.register("user/Counted-v0", counted)
    agent = {"observes": ["observation"], "acts": True, "objective": "a2c"}
    scenario = Scenario(scenario="pole", env="user/Counted-v0", agents={"a": agent}, training={"batch": 3})
    with Simulation(scenario, logdir=tmp_path / "run"):
        assert made == [3]
