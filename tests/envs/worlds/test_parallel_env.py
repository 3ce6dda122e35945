"""The library's environments as PettingZoo's: its rules without it, and its own checks where it is installed."""

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Dict, Discrete

from antiphon import envs
from antiphon.errors import ScenarioError
from tests.envs.worlds.made import WORLDS

TALK = "antiphon/SpeakerListener-v0"
FILES = ("antiphon/Mnist-v0", "antiphon/Cifar10-v0", "antiphon/Tensors-v0")
"""Of data that are not embedded."""
NAMES = [name for name in envs.ids() if name.startswith("antiphon/") and name not in FILES]


def made(name: str) -> envs.ParallelWorld:
    return envs.parallel_env({"id": name, **WORLDS.get(name, {})})


@pytest.mark.parametrize("name", NAMES)
def test_checks_of_pettingzoo(name: str) -> None:
    checks = pytest.importorskip("pettingzoo.test")
    assert isinstance(made(name), pytest.importorskip("pettingzoo").ParallelEnv)
    checks.parallel_api_test(made(name), num_cycles=100)
    checks.parallel_seed_test(lambda: made(name), num_cycles=30)
    from pettingzoo.utils.conversions import parallel_to_aec  # type: ignore[import-not-found, unused-ignore]

    checks.seed_test(lambda: parallel_to_aec(made(name)), num_cycles=30)


@pytest.mark.parametrize("name", NAMES)
def test_agents_are_named_at_every_step_until_their_end(name: str) -> None:
    env = made(name)
    assert env.max_num_agents == len(env.possible_agents)
    assert env.unwrapped is env
    assert env.metadata["name"] == name.removeprefix("antiphon/")
    for agent in env.possible_agents:
        assert env.action_space(agent) is env.action_spaces[agent]
        env.action_space(agent).seed(0)
    for seed in (0, None):
        obs, infos = env.reset(seed=seed, options={})
        for _ in range(30):
            assert set(obs) == set(infos) == set(env.possible_agents)
            assert all(obs[agent] in env.observation_space(agent) for agent in obs)
            if not env.agents:
                break
            obs, *values, infos = env.step({agent: env.action_space(agent).sample() for agent in env.agents})
            assert all(set(value) == set(env.possible_agents) for value in values)
            rewards, terminated, truncated = values
            assert all(type(value) is float for value in rewards.values())
            ends = {terminated[agent] or truncated[agent] for agent in env.possible_agents}
            assert ends == {env.num_agents == 0}
        endless = envs.describe({"id": name}).endless
        assert env.num_agents == (env.max_num_agents if endless else 0)


def test_an_agent_is_a_part_of_the_action_and_observes_the_signal_of_its_name() -> None:
    env, plain = made(TALK), gymnasium.make(TALK, limit=9)
    assert env.possible_agents == ["speaker", "listener"]
    assert env.action_spaces == {"speaker": Discrete(3), "listener": Discrete(5)}
    assert env.observation_space("speaker") == Box(0, 1, (3,), np.float32)
    obs, _ = env.reset(seed=4)
    same, _ = plain.reset(seed=4)
    for step in range(9):
        assert np.array_equal(obs["listener"], same["listener"])
        assert np.array_equal(obs["speaker"], same["speaker"])
        action = {"speaker": step % 3, "listener": step % 5}
        obs, rewards, _, truncated, infos = env.step(action)
        same, reward, _, late, facts = plain.step(action)
        assert rewards == {"speaker": reward, "listener": reward}
        assert truncated == {"speaker": late, "listener": late}
        assert infos["listener"] == facts
    assert late
    assert env.step({}) == ({}, {}, {}, {}, {})
    assert np.array_equal(env.state(), np.concatenate([obs["speaker"], obs["listener"]]))


def test_a_world_without_parts_has_one_agent_that_observes_all() -> None:
    env = made("antiphon/CartPole-v0")
    assert env.possible_agents == ["agent"]
    assert env.action_space("agent") == Discrete(2)
    assert isinstance(env.observation_space("agent"), Dict)
    obs, _ = env.reset(seed=0)
    assert obs["agent"]["observation"].shape == (4,)
    assert env.state().shape == (8,)


def test_a_reset_without_a_seed_goes_on_to_the_next_episode() -> None:
    env = made(TALK)
    first, _ = env.reset(seed=0)
    while env.agents:
        env.step({"speaker": 0, "listener": 0})
    second, _ = env.reset()
    assert not np.array_equal(first["listener"], second["listener"])
    third, _ = env.reset(seed=0)
    assert np.array_equal(first["listener"], third["listener"])


def test_pictures() -> None:
    assert made(TALK).render() is None
    env = envs.parallel_env({"id": TALK}, render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    assert picture is not None
    assert picture.shape == (240, 240, 3)
    env.close()


def test_what_cannot_be_says_why() -> None:
    with pytest.raises(ScenarioError, match=r"env\.render_mode: no render_mode 'human'; use rgb_array"):
        envs.parallel_env({"id": TALK}, render_mode="human")
    env = made(TALK)
    for call in (lambda: env.step({}), env.state):
        with pytest.raises(ResetNeeded):
            call()
    env.reset(seed=0)
    with pytest.raises(ScenarioError) as caught:
        env.step({"speaker": 0, "listeners": 1})
    assert str(caught.value) == "env: no agent 'listeners' is alive; did you mean 'listener'?"
    with pytest.raises(ScenarioError) as caught:
        env.step({"speaker": 0})
    assert str(caught.value) == "env: no action of agent 'listener'; give one for each of speaker, listener"
