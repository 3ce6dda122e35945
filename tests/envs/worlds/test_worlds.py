"""What all worlds have in common: contract, ends, actions, state and pictures."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from torch.utils._pytree import tree_map

from antiphon import envs
from tests.envs.worlds.made import WORLDS, make

POLE = "antiphon/CartPole-v0"


def roll(env: envs.World, steps: int) -> list[Any]:
    return [env.step() for _ in range(steps)]


@pytest.mark.parametrize("name", WORLDS)
def test_an_episode_ends_in_one_way_and_only_its_own_copy_starts_anew(name: str) -> None:
    env = make(name, 16, torch.float64, **WORLDS[name])
    env.reset(seed=5)
    elapsed = torch.zeros(16)
    for obs, _, terminated, truncated, info in roll(env, 60):
        elapsed += 1
        ended = terminated | truncated
        assert not bool((terminated & truncated).any())
        assert torch.equal(info.get("_final_obs", torch.zeros(16, dtype=torch.bool)), ended)
        assert torch.equal(truncated, (elapsed == WORLDS[name]["limit"]) & ~terminated)
        for key, value in info.get("final_obs", {}).items():
            assert torch.equal(value[~ended], obs[key][~ended])
        elapsed[ended] = 0


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", WORLDS)
def test_several_stepped_together_are_each_what_it_is_alone(name: str) -> None:
    """Their seeds differ, and random actions with them."""
    together, alone = ([make(name, 4, torch.float64, **WORLDS[name]) for _ in range(3)] for _ in range(2))
    for seed, pair in enumerate(zip(together, alone, strict=True)):
        for env in pair:
            env.reset(seed=seed)
    for _ in range(60):
        found = envs.World.step_all(together, None)
        own = tree_map(lambda *rows: torch.cat(rows), *(env.step() for env in alone))
        torch.testing.assert_close(found, own, rtol=1e-12, atol=1e-12)
    states = [[env.state_dict() for env in each] for each in (together, alone)]
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-12)


@pytest.mark.cases(2)
@pytest.mark.parametrize("name", WORLDS)
def test_pictures_follow_the_state(name: str) -> None:
    env = make(name, 2)
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset(seed=0)
    before = env.render()
    assert len(before) == 2
    for picture in before:
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    roll(env, 3)
    assert not np.array_equal(before[0], env.frame(0))


def test_actions_are_choices_or_logits() -> None:
    envs_ = [make(POLE, 3) for _ in range(3)]
    for env in envs_:
        env.reset(seed=0)
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.6]])
    given = (logits, torch.tensor([1, 0, 1]), np.array([1, 0, 1]))
    reached = [env.step(actions)[0]["observation"] for env, actions in zip(envs_, given, strict=True)]
    assert torch.equal(reached[0], reached[1])
    assert torch.equal(reached[0], reached[2])
