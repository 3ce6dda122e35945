"""The pole on a cart is Gymnasium's."""

import gymnasium
import numpy as np
import pytest
import torch

from tests.envs.worlds.made import make

POLE = "antiphon/CartPole-v0"


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
