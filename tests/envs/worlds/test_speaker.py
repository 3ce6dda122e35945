"""The speaker and the listener are those of mpe2: recorded numbers, a transcription, and mpe2 itself where it is installed."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from antiphon import envs
from tests.envs.worlds.made import make

TALK = "antiphon/SpeakerListener-v0"
WORDS = [0, 1, 2] * 8 + [1]
MOVES = [2, 2, 4, 4, 4, 1, 0, 3, 2, 4, 0, 1, 3, 3, 2, 2, 4, 1, 0, 0, 2, 3, 4, 1, 2]
START = {"position": [0.25, -0.5], "landmarks": [-0.75, 0.5, 0.5, 0.125, 0.0, -1.0], "goal": 1}
RECORDED = {
    0: [0.5, 0.0, -1.0, 1.0, 0.25, 0.625, -0.25, -0.5, 1.0, 0.0, 0.0],
    1: [0.875, 0.0, -1.05, 1.0, 0.2, 0.625, -0.3, -0.5, 0.0, 1.0, 0.0],
    9: [
        *(0.3043956756591797, 0.493133544921875, -1.278241729736328, 0.59725341796875),
        *(-0.028241729736327992, 0.22225341796875, -0.528241729736328, -0.90274658203125, 1.0, 0.0, 0.0),
    ],
    24: [
        *(0.27434942986931254, 0.09000318439180433, -1.490260228052275, 0.6360012737567217),
        *(-0.24026022805227498, 0.26100127375672166, -0.740260228052275, -0.8639987262432783, 0.0, 1.0, 0.0),
    ],
}
"""What the listener observes after some of the steps: by a loop over mpe2's rules, equal to mpe2 1.1.1 within 1e-6."""


def placed(start: dict[str, Any], dtype: torch.dtype, **options: Any) -> envs.World:
    """A world of one copy in a given state."""
    env = make(TALK, 1, dtype, **options)
    env.reset(seed=0)
    own = {name: torch.tensor([start[name]], dtype=dtype) for name in ("position", "landmarks")}
    state = env.state_dict()
    env.load_state_dict({**state, "state": {**state["state"], **own, "goal": torch.tensor([start["goal"]])}})
    return env


def step(env: envs.World, word: int, move: int) -> tuple[NDArray[Any], float, bool, dict[str, Any]]:
    """One step: what the listener observes at its end, the reward, whether the episode is truncated, info."""
    obs, reward, terminated, truncated, info = env.step(
        {"speaker": torch.tensor([word]), "listener": torch.tensor([move])}
    )
    assert not bool(terminated)
    last = info["final_obs"] if bool(truncated) else obs
    return last["listener"][0].numpy(), float(reward), bool(truncated), info


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_recorded_steps(dtype: torch.dtype, tolerance: float) -> None:
    env = placed(START, dtype)
    total = 0.0
    for number, (word, move) in enumerate(zip(WORDS, MOVES, strict=True)):
        observed, reward, truncated, info = step(env, word, move)
        assert truncated is (number == 24)
        if number in RECORDED:
            assert np.abs(observed - RECORDED[number]).max() < tolerance
        assert float(info["reward.speaker"]) == float(info["reward.listener"]) == reward
        total += reward
    assert total == pytest.approx(-3.4546254108978927, abs=30 * tolerance)


def test_a_message_is_observed_one_step_later_and_gone_with_the_episode() -> None:
    env = make(TALK, 3, limit=4)
    obs, _ = env.reset(seed=0)
    assert not bool(obs["listener"][:, 8:].any())
    for word in (2, 0, 1):
        obs, _, _, _, _ = env.step({"speaker": torch.full((3,), word), "listener": torch.zeros(3).long()})
        assert obs["listener"][:, 8:].argmax(1).tolist() == [word] * 3
    obs, _, _, truncated, info = env.step({"speaker": torch.tensor([0, 1, 2])})
    assert bool(truncated.all())
    assert info["final_obs"]["listener"][:, 8:].argmax(1).tolist() == [0, 1, 2]
    assert not bool(obs["listener"][:, 8:].any())
