"""The library's streams, example by example: pictures, digits counted, bits copied, points and a hyperplane; how a task grows."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon import envs
from antiphon.base.errors import ScenarioError
from antiphon.envs.copying import Copy
from antiphon.envs.datasets import DATA_SETS
from antiphon.envs.images import Digits, picture_table
from tests.envs.contract import check_vector_env
from tests.kit.some import some

# --- pictures --------------------------------------------------------------------------------------------


DIGITS = "antiphon/Digits-v0"


def make(batch: int = 4, **options: Any) -> Digits:
    made = envs.make({"id": DIGITS, **options}, batch=batch)
    assert isinstance(made, Digits)
    return made


def test_pictures_are_those_of_the_split_and_their_labels_fit() -> None:
    found = DATA_SETS["digits"].load()
    rows = found.splits["validation"]
    known = {found.pixels[row].tobytes(): int(found.labels[row]) for row in rows}
    env = envs.make({"id": DIGITS}, batch=64, split="validation")
    seen = set()
    obs, info = env.reset(seed=1)
    for _ in range(20):
        for image, label in zip(obs["image"], info["label"], strict=True):
            key = (image * 16).round().byte().numpy().tobytes()
            assert known[key] == int(label)
            seen.add(key)
        obs, _, _, _, info = env.step(None)
    assert len(seen) == len(known)


def test_hold_shows_each_picture_for_its_steps() -> None:
    env = make(8, hold=3)
    labels = [env.reset(seed=0)[1]["label"]]
    for _ in range(8):
        _, _, terminated, truncated, info = env.step(None)
        assert not bool((terminated | truncated).any())
        labels.append(info["label"])
    assert torch.equal(labels[0], labels[1])
    assert torch.equal(labels[0], labels[2])
    assert torch.equal(labels[3], labels[5])
    assert not torch.equal(labels[2], labels[3])
    once = make(8)
    steps = [once.reset(seed=0)[1]["label"], *(once.step(None)[4]["label"] for _ in range(2))]
    assert all(torch.equal(a, b) for a, b in zip(steps, labels[::3], strict=True))


def test_an_example_is_an_episode_where_asked() -> None:
    env = make(2, hold=2, episode="example")
    assert env.episode_steps == 2
    first, _ = env.reset(seed=0)
    _, _, terminated, _, info = env.step(None)
    assert not bool(terminated.any())
    assert "final_obs" not in info
    obs, _, terminated, truncated, info = env.step(None)
    assert bool(terminated.all())
    assert not bool(truncated.any())
    assert torch.equal(info["final_obs"]["image"], first["image"])
    assert bool(info["_final_obs"].all())
    assert not torch.equal(obs["image"], first["image"])


def test_a_right_guess_is_rewarded() -> None:
    env = make(6)
    label = env.reset(seed=0)[1]["label"]
    assert env.single_action_space == Discrete(10)
    guess = label.clone()
    guess[3:] = (guess[3:] + 1) % 10
    assert env.step(guess)[1].tolist() == [1, 1, 1, 0, 0, 0]
    assert env.step(None)[1].tolist() == [0] * 6
    label = env.reset(seed=0)[1]["label"]
    logits = torch.nn.functional.one_hot(label, 10).float()
    logits[0] = -logits[0]
    assert env.step(logits)[1].tolist() == [0, 1, 1, 1, 1, 1]
    with pytest.raises(ScenarioError, match=r"actions are \[6, 9\]; pass the logits of 10 choices"):
        env.step(logits[:, 1:])
    env.request(["image"])
    assert env.step(np.full(6, 3))[1].dtype == torch.float32


def test_batches_are_the_split_in_order() -> None:
    env = make()
    sizes = [len(batch["label"]) for batch in env.batches("test", 100)]
    assert sizes == [100, 100, 100, 60]
    assert env.example_count("test") == 360
    found = DATA_SETS["digits"].load()
    labels = torch.cat([batch["label"] for batch in env.batches("test", 100)])
    assert labels.tolist() == found.labels[found.splits["test"]].tolist()
    with pytest.raises(ScenarioError, match="no split 'tset'; did you mean 'test'"):
        next(env.batches("tset", 10))


# --- digits counted at several timescales ----------------------------------------------------------------


NAME = "antiphon/CountDigits-v0"


def count(batch: int = 3, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": NAME, **options}, batch=batch)


def digits_shown(obs: dict[str, torch.Tensor], data: str = "digits") -> list[int]:
    """The labels of the pictures shown, found by comparing pixels with the whole table."""
    table = picture_table(data)
    pixels = table.columns["image"].float() / table.divisors["image"]
    rows = [int((pixels == image.flatten()).all(1).nonzero()[0]) for image in obs["image"]]
    return [int(table.columns["label"][row]) for row in rows]


@pytest.mark.cases(1)
@pytest.mark.parametrize(("levels", "window"), [(2, 4), (4, 2), (3, 3)])
def test_counts_are_those_of_the_digits_shown(levels: int, window: int) -> None:
    env = count(5, levels=levels, window=window)
    wanted = {
        "odd": lambda digit: digit % 2,
        "threes": lambda digit: digit == 3,
        "sevens": lambda digit: digit == 7,
        "fives": lambda digit: digit == 5,
    }
    names = list(wanted)[:levels]
    assert [name for name in env.signals if name in wanted] == names
    obs, info = env.reset(seed=4)
    history: list[list[int]] = []
    for step in range(2 * window**levels + 3):
        history.append(digits_shown(obs))
        for level, name in enumerate(names, 1):
            begin = step - step % window**level
            counts = [sum(wanted[name](row[lane]) for row in history[begin:]) for lane in range(5)]
            assert info[f"{name}_so_far"].tolist() == counts
        shown = info
        obs, _, terminated, truncated, info = env.step(None)
        assert not bool((terminated | truncated).any())
        for level, name in enumerate(names, 1):
            closes = (step + 1) % window**level == 0
            assert info[f"_{name}"].tolist() == [closes] * 5
            assert info[name].tolist() == (shown[f"{name}_so_far"].tolist() if closes else [0] * 5)


# --- copy tasks ------------------------------------------------------------------------------------------


COPY = "antiphon/Copy-v0"


def copies(batch: int = 4, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": COPY, **options}, batch=batch)


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
    check_vector_env(lambda: copies(threshold=9.0, max_length=3), steps=120)


def test_a_copy_written_out() -> None:
    """Two characters of three bits; lane 0 of seed 3 reads a and b."""
    shown = episode(copies(bits=3, length=2, max_length=4))
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
    shown = episode(copies(bits=2, length=2, repeats=3, max_length=8))
    assert len(shown) == 2 + 6 + 4
    a, b = (shown[step]["symbol"][1, :2].tolist() for step in (0, 1))
    symbols = [step["symbol"][1] for step in shown]
    wanted = [[*a, 0, 0], [*b, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0.3], *[[0.0] * 4] * 8]
    assert torch.equal(torch.stack(symbols), torch.tensor(wanted))
    asked = [[*a, 0], [*b, 0]] * 3
    assert [step["target"][1].tolist() for step in shown] == [*[[0.0] * 3] * 4, *asked, [0, 0, 1], [0.0] * 3]
    assert [bool(step["_target"].all()) for step in shown] == [4 <= step <= 10 for step in range(12)]


@pytest.mark.cases(1)
@pytest.mark.parametrize("repeats", [0, 1])
def test_right_answers_make_the_task_grow_and_all_lanes_with_it(repeats: int) -> None:
    env = copies(max_length=4, repeats=repeats)
    _, info = env.reset(seed=1)
    lengths, done = [env.episode_length], 0
    for _ in range(1200):
        done += 1
        _, _, terminated, _, info = env.step(perfect(info))
        assert bool((terminated == (done == lengths[-1])).all())
        if bool(terminated.all()):
            lengths, done = [*lengths, env.episode_length], 0
    assert env.description.longest_episode == max(n for n in lengths if n is not None)
    assert [lengths[place] for place in (0, 19, 20, 40)] == ([6, 6, 8, 10] if repeats else [5, 5, 7, 9])
    assert env.metrics() == {"difficulty": 4, "solved": 7, "bits": pytest.approx(0, abs=1e-6)}
    env.reset(seed=1)
    assert env.metrics() == {"difficulty": 1, "solved": 0}  # a seed names the curriculum as well


# --- how a task grows ------------------------------------------------------------------------------------


def update(curriculum: Copy, error: float, times: int) -> None:
    for _ in range(times):
        curriculum.grow(error)


def test_a_task_grows_below_the_threshold_after_twenty_episodes() -> None:
    curriculum = Copy(1, Copy.Options())
    update(curriculum, 0.14, 19)
    assert curriculum.metrics() == {"difficulty": 1, "solved": 0, "bits": pytest.approx(0.14)}
    curriculum.grow(0.14)
    assert curriculum.metrics() == {"difficulty": 2, "solved": 1 + 3}
    update(curriculum, 0.15, 100)
    assert curriculum.metrics()["difficulty"] == 2


def test_the_mean_starts_from_the_first_error_and_forgets_by_a_twentieth() -> None:
    curriculum = Copy(1, Copy.Options())
    curriculum.grow(1.0)
    assert curriculum.bits == 1.0
    curriculum.grow(0.0)
    curriculum.grow(0.5)
    assert curriculum.bits == pytest.approx(0.95 * 0.95 + 0.05 * 0.5)
    update(curriculum, 0.0, 35)
    assert curriculum.difficulty.length == 1  # 0.95^36 > 0.15 > 0.95^37
    update(curriculum, 0.0, 3)
    assert curriculum.difficulty.length == 2


def test_repeat_copy_grows_by_turns_as_far_as_the_product_fits() -> None:
    curriculum = Copy(1, Copy.Options(max_length=10, repeats=1))
    seen = []
    for _ in range(7):
        seen.append((curriculum.difficulty.length, curriculum.difficulty.repeats))
        update(curriculum, 0.0, 20)
    assert seen == [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (3, 3), (3, 3)]
    assert curriculum.solved == 9 + 3
    later = Copy.Options(length=3, repeats=1)
    harder = some(later.harder(later.start))
    assert (harder.length, harder.repeats) == (4, 1)


# --- points and a hyperplane -----------------------------------------------------------------------------


POINTS = "antiphon/Hyperplane-v0"


def points(batch: int = 4, dtype: torch.dtype = torch.float64, **options: Any) -> envs.TorchVectorEnv:
    return envs.make({"id": POINTS, **options}, batch=batch, dtype=dtype)


def data(**options: Any) -> dict[str, Tensor]:
    (batch,) = points(**options).batches("train", 10_000)
    return batch


@pytest.mark.parametrize("size", [2, 100])
def test_linear_labels_are_the_side_of_a_plane_through_the_origin(size: int) -> None:
    found = data(size=size)
    wanted = found["label"] * 2.0 - 1
    weights = torch.zeros(size, dtype=torch.float64)
    for _ in range(10_000):  # the perceptron: it ends if and only if there is such a plane
        wrong = (found["x"] @ weights * wanted <= 0).nonzero()
        if not len(wrong):
            break
        row = wrong[0, 0]
        weights += wanted[row] * found["x"][row]
    else:
        pytest.fail("not separable")


@pytest.mark.parametrize("batch", [1, 5, 12, 30])
def test_epochs_miss_and_repeat_no_point(batch: int) -> None:
    env = points(batch, points=12)
    numbers = {float(x[0]): row for row, x in enumerate(data(points=12)["x"])}
    shown = [env.reset(seed=1)[0]["x"], *(env.step(None)[0]["x"] for _ in range(40))]
    rows = [numbers[float(x[0])] for x in torch.cat(shown)]
    epochs = [rows[start : start + 12] for start in range(0, len(rows) - 11, 12)]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1]
