"""The pole on a cart is Gymnasium's."""

import gymnasium
import numpy as np
import pytest
import torch

from tests.envs.worlds.made import make

POLE = "antiphon/CartPole-v0"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_step_from_the_same_state_is_that_of_gymnasium(dtype: torch.dtype) -> None:
    """Also from states that no episode starts in: fast, far from the middle, about to fall."""
    theirs = gymnasium.make("CartPole-v1").unwrapped
    theirs.reset(seed=0)
    rows = 300
    env = make(POLE, rows, dtype)
    env.reset(seed=0)
    random = np.random.default_rng(0)
    states = random.uniform(-1, 1, (rows, 4)) * np.array([2.39, 3.0, 0.209, 3.0])
    states = states.astype(np.float32).astype(np.float64)
    actions = random.integers(0, 2, rows)
    given = torch.from_numpy(states).to(dtype)
    env.load_state_dict({**env.state_dict(), "state": {"body": given, "elapsed": torch.zeros(rows).long()}})
    _, reward, terminated, truncated, info = env.step(actions)
    for row in range(rows):
        theirs.state = states[row]  # type: ignore[attr-defined]
        theirs.steps_beyond_terminated = None  # type: ignore[attr-defined]
        _, gain, fallen, _, _ = theirs.step(actions[row])
        reached = info["final_obs"]["observation"][row].numpy()
        assert np.abs(reached - theirs.state).max() < 1e-6  # type: ignore[attr-defined]
        assert (float(reward[row]), bool(terminated[row]), bool(truncated[row])) == (gain, fallen, False)
    assert 0 < int(terminated.sum()) < rows


@pytest.mark.parametrize("keeps", [True, False])
def test_whole_episodes_are_those_of_gymnasium(keeps: bool) -> None:
    """A policy that keeps the pole up reaches the limit in both; pushes to the left alone fall after as many steps."""
    theirs, ours = gymnasium.make("CartPole-v1"), make(POLE, 1, torch.float64)
    theirs.reset(seed=0)
    state = ours.reset(seed=4)[0]["observation"][0].numpy()
    fallen = late = False
    while not (fallen or late):
        theirs.unwrapped.state = state  # type: ignore[attr-defined]
        action = int(keeps and state[2] + state[3] + 0.1 * state[0] + 0.2 * state[1] > 0)
        _, _, terminated, truncated, info = ours.step(torch.tensor([action]))
        reached, _, fallen, late, _ = theirs.step(action)
        state = info["final_obs"]["observation"][0].numpy()
        assert np.abs(state - reached).max() < 1e-6
        assert (bool(terminated), bool(truncated)) == (fallen, late)
    assert late == keeps
