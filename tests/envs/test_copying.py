"""The copy tasks: what is shown and asked, step by step, and a curriculum that follows the answers."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import envs

COPY, REPEAT = "antiphon/Copy-v0", "antiphon/RepeatCopy-v0"


def make(name: str = COPY, batch: int = 4, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": name, **options}, batch=batch)


def episode(env: envs.TorchVectorEnv, answers: Any = None) -> list[dict[str, Tensor]]:
    """Go through the present episode from its reset; return what each step showed."""
    shown = [_merge(*env.reset(seed=3))]
    while True:
        obs, _, terminated, _, info = env.step(answers)
        if bool(terminated.all()):
            return shown
        shown.append(_merge(obs, info))


def _merge(obs: dict[str, Tensor], info: dict[str, Any]) -> dict[str, Tensor]:
    return {**obs, **info}


def perfect(info: dict[str, Tensor]) -> Tensor:
    return 40 * info["target"] - 20


@pytest.mark.long
def test_contract_while_the_task_grows() -> None:
    """A threshold that chance meets: lengths change under way."""
    envs.check_vector_env(lambda: make(threshold=9.0, max_length=3), steps=120)


def test_a_copy_written_out() -> None:
    """Two characters of three bits; lane 0 of seed 3 reads a and b."""
    shown = episode(make(bits=3, length=2, max_length=4))
    assert len(shown) == 2 * 2 + 3
    a, b = (shown[step]["symbol"][0, :3].tolist() for step in (0, 1))
    blank = [0.0] * 5
    assert [step["symbol"][0].tolist() for step in shown] == [
        [*a, 0, 0],
        [*b, 0, 0],
        [0, 0, 0, 1, 0],
        *[blank] * 4,
    ]
    assert [step["target"][0].tolist() for step in shown] == [
        *[[0.0] * 4] * 3,
        [*a, 0],
        [*b, 0],
        [0, 0, 0, 1],
        [0.0] * 4,
    ]
    asked = [False, False, False, True, True, True, False]
    assert [step["_target"].tolist() for step in shown] == [[at] * 4 for at in asked]
    left = torch.stack([step["time_left"][0, 0] for step in shown])
    assert torch.equal(left, torch.tensor([0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0]))
    none, first, second, stop = ([0.0] * 3, [2 * x - 1 for x in a], [2 * x - 1 for x in b], [-1.0] * 3)
    ahead = [
        ([none, none, first, second], [0, 0, 1, 1]),  # after step 0: due in the third step from the next on
        ([none, first, second, stop], [0, 1, 1, 1]),
        ([first, second, stop, none], [1, 1, 1, 0]),
        ([second, stop, none, none], [1, 1, 0, 0]),
        ([stop, none, none, none], [1, 0, 0, 0]),
        ([none] * 4, [0] * 4),
        ([none] * 4, [0] * 4),
    ]
    for step, (bits, mask) in zip(shown, ahead, strict=True):
        assert step["upcoming"][0].tolist() == [*itertools.chain(*bits), *mask]


def test_a_repeat_copy_written_out() -> None:
    """Two characters of two bits, three times."""
    shown = episode(make(REPEAT, bits=2, length=2, repeats=3, max_length=8))
    assert len(shown) == 2 + 6 + 4
    a, b = (shown[step]["symbol"][1, :2].tolist() for step in (0, 1))
    symbols = [step["symbol"][1] for step in shown]
    wanted = [[*a, 0, 0], [*b, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.3], *[[0.0] * 4] * 8]
    assert torch.equal(torch.stack(symbols), torch.tensor(wanted))
    asked = [[*a, 0], [*b, 0]] * 3
    assert [step["target"][1].tolist() for step in shown] == [*[[0.0] * 3] * 4, *asked, [0, 0, 1], [0.0] * 3]
    assert [bool(step["_target"].all()) for step in shown] == [4 <= step <= 10 for step in range(12)]


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", [COPY, REPEAT])
def test_right_answers_make_the_task_grow_and_all_lanes_with_it(name: str) -> None:
    env = make(name, max_length=4)
    _, info = env.reset(seed=1)
    lengths, done = [env.episode_length], 0
    for _ in range(1200):
        done += 1
        _, _, terminated, _, info = env.step(perfect(info))
        assert bool((terminated == (done == lengths[-1])).all())
        if bool(terminated.all()):
            lengths, done = [*lengths, env.episode_length], 0
    assert env.longest_episode == max(n for n in lengths if n is not None)
    assert [lengths[place] for place in (0, 19, 20, 40)] == ([5, 5, 7, 9] if name == COPY else [6, 6, 8, 10])
    assert env.metrics() == {"difficulty": 4, "solved": 7, "bits": pytest.approx(0, abs=1e-6)}
    env.reset(seed=1)
    assert env.metrics() == {"difficulty": 1, "solved": 0}  # a seed names the curriculum as well
