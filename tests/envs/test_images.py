"""The picture streams: signals, order, episodes."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Discrete

from antiphon import envs
from antiphon.envs.datasets import DATA_SETS
from antiphon.envs.images import Digits, patch_pixels
from antiphon.errors import ScenarioError

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


def corners_of(count: int, size: int, side: int) -> list[tuple[int, int]]:
    """The row and column of each patch's upper left corner."""
    return [divmod(int(first), side) for first in patch_pixels(count, size, side, 1)[:, 0]]


def test_halves_and_patches_of_coloured_pictures_have_all_colours() -> None:
    env = make(3, data="shapes", patches=4, patch_size=5)
    obs, _ = env.reset(seed=0)
    assert torch.equal(torch.cat([obs["left_half"], obs["right_half"]], dim=-1), obs["image"])
    corners = corners_of(4, 5, 32)
    for number, (top, left) in enumerate(corners):
        assert torch.equal(obs[f"patch_{number}"], obs["image"][:, :, top : top + 5, left : left + 5])


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


def test_the_order_is_a_fixed_permutation() -> None:
    corners = corners_of(16, 3, 8)
    assert corners == corners_of(16, 3, 8)
    assert corners != sorted(corners)
    assert corners[:3] == [(0, 1), (1, 3), (3, 0)]
