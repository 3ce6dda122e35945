"""The copy tasks: what is shown and asked, step by step, and a curriculum that follows the answers."""

import itertools
import math
from typing import Any

import pytest
import torch
from gymnasium.error import ResetNeeded
from torch import Tensor

from antiphon import envs
from antiphon.errors import ScenarioError

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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        (COPY, {}),
        (COPY, {"threshold": 0, "length": 3}),
        (REPEAT, {"length": 2}),
        (REPEAT, {"max_length": 2}),
    ],
)
def test_contract(name: str, options: dict[str, Any]) -> None:
    envs.check_vector_env(lambda: make(name, **options), steps=30)


def test_contract_while_the_task_grows() -> None:
    """A threshold that chance meets: lengths change under way."""
    envs.check_vector_env(lambda: make(threshold=9.0, max_length=3), steps=250)


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


def test_what_upcoming_shows_is_what_is_asked_later() -> None:
    shown = episode(make(REPEAT, length=3, repeats=2, max_length=9))
    for now, step in enumerate(shown):
        bits, due = step["upcoming"][:, :72].view(4, 9, 8), step["upcoming"][:, 72:]
        for slot in range(9):
            later = shown[now + 1 + slot] if now + 1 + slot < len(shown) else None
            if later is None or not bool(later["_target"].all()):
                assert not bool(due[:, slot].any())
                assert not bool(bits[:, slot].any())
            else:
                assert bool((due[:, slot] == 1).all())
                assert torch.equal((bits[:, slot] + 1) / 2, later["target"][:, :8])


def test_bits_are_fair_and_differ_between_lanes_and_episodes() -> None:
    env = make(batch=64, length=20, threshold=0)
    env.request(["symbol"])
    first = env.reset(seed=0)[0]["symbol"]
    bits = [first[:, :8]]
    for _ in range(19):
        bits.append(env.step(None)[0]["symbol"][:, :8])
    assert abs(torch.stack(bits).mean().item() - 0.5) < 0.02
    assert len({tuple(lane.flatten().tolist()) for lane in torch.stack(bits, 1)}) == 64
    again = env.reset()[0]["symbol"]
    assert not torch.equal(first, again)
    assert torch.equal(env.reset(seed=0)[0]["symbol"], first)


def test_lanes_do_not_depend_on_their_number() -> None:
    few, many = make(batch=2, length=4), make(batch=9, length=4)
    a, b = few.reset(seed=5)[0], many.reset(seed=5)[0]
    for _ in range(25):
        assert torch.equal(a["symbol"], b["symbol"][:2])
        a, b = few.step(None)[0], many.step(None)[0]


def test_actions_are_judged_in_bits_per_component() -> None:
    env = make(bits=3, batch=2, threshold=9.0)
    env.reset(seed=0)
    assert env.step(torch.zeros(2, 4))[1].tolist() == [0, 0]  # nothing was asked yet
    info = env.step(torch.zeros(2, 4))[4]
    reward = env.step(torch.stack([torch.zeros(4), perfect(info)[1]]))[1]
    assert reward[0].item() == pytest.approx(-1.0)
    assert reward[1].item() == pytest.approx(0.0, abs=1e-6)
    logit = torch.full((2, 4), 2.0)
    wrong, right = (math.log2(1 + math.exp(sign * 2)) for sign in (1, -1))
    assert env.step(logit)[1].tolist() == pytest.approx([-(3 * wrong + right) / 4] * 2)
    env.step(None)
    assert env.figures()["bits"] == pytest.approx((0.5 + (3 * wrong + right) / 4) / 2)


def test_an_episode_with_a_step_without_an_answer_has_no_error() -> None:
    env = make()
    env.reset(seed=0)
    for step in range(5):
        env.step(None if step == 2 else torch.zeros(4, 9))
    assert env.figures() == {"difficulty": 1, "solved": 0}
    for _ in range(5):
        env.step(torch.zeros(4, 9))
    assert env.figures()["bits"] == pytest.approx(1.0)


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
    assert env.figures() == {"difficulty": 4, "solved": 7, "bits": pytest.approx(0, abs=1e-6)}
    env.reset(seed=1)
    assert env.figures() == {"difficulty": 1, "solved": 0}  # a seed names the curriculum as well


def test_wrong_answers_do_not() -> None:
    env = make()
    _, info = env.reset(seed=1)
    for _ in range(300):
        info = env.step(-perfect(info))[4]
    assert env.figures()["difficulty"] == 1


def test_a_grown_task_goes_on_to_the_bit() -> None:
    env, twin = make(), make()
    _, info = env.reset(seed=1)
    for _ in range(20 * 5 + 11):
        info = env.step(perfect(info))[4]
    twin.load_state_dict(env.state_dict())
    assert twin.figures() == env.figures()
    assert twin.episode_length == env.episode_length == 7
    other = info
    for _ in range(200):
        one, two = env.step(perfect(info)), twin.step(perfect(other))
        info, other = one[4], two[4]
        assert torch.equal(one[0]["symbol"], two[0]["symbol"])
        assert torch.equal(one[1], two[1])
        assert torch.equal(info["upcoming"], other["upcoming"])
    assert twin.figures() == env.figures()
    assert env.figures()["difficulty"] > 2


def test_the_error_of_a_half_asked_episode_is_state() -> None:
    env, twin = make(length=3), make(length=3)
    env.reset(seed=1)
    for _ in range(6):
        env.step(torch.full((4, 9), 0.7))
    twin.load_state_dict(env.state_dict())
    for _ in range(3):
        env.step(torch.zeros(4, 9))
        twin.step(torch.zeros(4, 9))
    assert env.figures()["bits"] > 1.0
    assert twin.figures() == env.figures()


def test_ends_show_what_was_shown_last() -> None:
    env = make()
    env.reset(seed=0)
    for _ in range(4):
        obs, _, _, _, info = env.step(None)
    last, final = obs, info
    obs, _, terminated, truncated, info = env.step(None)
    assert bool(terminated.all())
    assert not bool(truncated.any())
    assert torch.equal(info["final_obs"]["symbol"], last["symbol"])
    assert torch.equal(info["final_info"]["time_left"], final["time_left"])
    assert bool(info["time_left"][0, 0] > 0)


def test_only_what_is_requested_is_computed() -> None:
    env = make()
    env.request(["upcoming"])
    obs, info = env.reset(seed=0)
    assert (obs, list(info)) == ({}, ["upcoming"])
    assert torch.equal(info["upcoming"], make().reset(seed=0)[1]["upcoming"])
    env.request(["target"])
    assert set(env.reset(seed=0)[1]) == {"target", "_target"}


def test_descriptions() -> None:
    grows, stays = envs.describe({"id": COPY}), envs.describe({"id": COPY, "threshold": 0, "length": 6})
    assert (grows.episode_steps, grows.longest_episode, grows.endless) == (None, 51, False)
    assert (stays.episode_steps, stays.longest_episode) == (15, None)
    assert grows.observations == ("symbol",)
    assert {name: signal.shape for name, signal in grows.signals.items()} == {
        "symbol": (10,),
        "target": (9,),
        "time_left": (1,),
        "upcoming": (24 * 9,),
    }
    assert envs.describe({"id": REPEAT}).longest_episode == 5 + 20 + 4  # 5 characters 4 times is the last
    assert (grows.splits, make().evaluation_steps) == ((), None)


def test_misuse() -> None:
    with pytest.raises(ResetNeeded):
        make().step(None)
    env = make()
    env.reset(seed=0)
    env.step(None)
    env.step(None)
    with pytest.raises(ScenarioError, match=r"actions are \[4, 8\]; give the logits of a target of \[4, 9\]"):
        env.step(torch.zeros(4, 8))
