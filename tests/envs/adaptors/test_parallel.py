"""PettingZoo's parallel worlds: signals and parts by agent, agents that die, resets in the same step."""

from functools import partial
from typing import Any

import pytest
import torch
from gymnasium import spaces

from antiphon import envs
from tests.envs.adaptors.parallel_worlds import Mines, SavedMines
from tests.envs.contract import check_vector_env
from tests.kit.worlds import batch_of

WALK = {"low": torch.tensor([2, 1]), "high": torch.tensor([[-1.0], [-1.0]])}
"""In the first copy `low` goes up by 1 a step, in the second it stays."""


def mines(
    batch: int = 2, kind: type[Mines] = Mines, dtype: torch.dtype = torch.float32, **options: Any
) -> envs.TorchVectorEnv:
    return batch_of(*(kind(**options) for _ in range(batch)), dtype=dtype)


def test_signals_and_parts_of_the_action_are_by_agent() -> None:
    env = mines()
    own = envs.Signal(training_only=True, known="after_step")
    end = envs.Signal(training_only=True, known="after_step", low=0.0, high=1.0)
    place = envs.Signal(shape=(1,), low=-99.0, high=99.0)
    ends = {f"{key}{who}": end for key in ("terminated", "truncated") for who in ("", ".low", ".high")}
    assert env.signals == {
        "low.observation": place,
        "high.place": place,
        "high.sign": envs.Signal(classes=2),
        "state": envs.Signal(shape=(2,), low=-99.0, high=99.0, training_only=True),
        "reward": own,
        "reward.low": own,
        "reward.high": own,
        **{f"id.{who}": envs.Signal(classes=2) for who in ("low", "high")},
        **{f"alive.{who}": envs.Signal(training_only=True, low=0.0, high=1.0) for who in ("low", "high")},
        **ends,
    }
    box = spaces.Box(-2, 2, (1,))
    assert env.single_action_space == spaces.Dict({"low": spaces.Discrete(3), "high": box})
    seen = env.reset(seed=0)[0]
    assert [seen[f"id.{who}"].tolist() for who in ("low", "high")] == [[0, 0], [1, 1]]


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", [Mines, SavedMines])
def test_contract(kind: type[Mines]) -> None:
    check_vector_env(partial(mines, 3, kind), steps=20)


def test_an_agent_that_died_is_masked_until_the_episode_ends() -> None:
    env = mines(mine=2)
    obs, _info = env.reset(seed=4)
    start = obs["low.observation"].flatten()
    assert start.tolist() == [1, 0] or start.tolist() == [0, 1] or len(set(start.tolist())) == 1
    found = [env.step(WALK) for _ in range(4)]
    death = int(2 - start[0])  # the step in which `low` of the first copy reaches the mine
    for step, (seen, reward, terminated, truncated, facts) in enumerate(found, start=1):
        alive = step <= death
        assert facts["_reward.low"].tolist() == [alive, True]
        assert facts["_reward.high"].tolist() == [True, True]
        assert facts["terminated.low"].tolist() == [step == death, 0]
        if alive:
            assert facts["reward.low"][0] == start[0] + step
            assert reward[0] == (facts["reward.low"][0] + facts["reward.high"][0]) / 2
        else:
            assert facts["reward.low"][0] == 0
            assert reward[0] == facts["reward.high"][0]
        if not alive and step < 4:
            assert seen["low.observation"][0] == 0
        assert not bool(terminated.any())
        assert truncated.tolist() == facts["truncated"].tolist() == [step == 4] * 2
    assert set(found[-1][4]["final_info"]) == {"state", "alive.low", "alive.high"}
    assert found[-1][4]["final_obs"]["high.place"].flatten().tolist() == [
        *(obs["high.place"].flatten() - 4).tolist()
    ]
    assert found[-1][0]["low.observation"].abs().max() <= 1  # the next episode has begun
    env = mines(1, mine=2, limit=9, dtype=torch.float64)
    assert env.reset(seed=1)[0]["low.observation"].item() == 0
    up = {"low": torch.tensor([2]), "high": torch.tensor([[9.0]], dtype=torch.float64)}  # cut to 2
    ends = [env.step(up)[2:4] for _ in range(2)]
    assert [(bool(a), bool(b)) for a, b in ends][-1] == (True, False), "all have died"
