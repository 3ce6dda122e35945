"""The picture streams: signals, order, episodes."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Dict, Discrete

from antiphon import envs
from antiphon.envs.datasets import digits
from antiphon.envs.images import ImageStream, positions
from antiphon.errors import ScenarioError

DIGITS = "antiphon/Digits-v0"


def make(batch: int = 4, **options: Any) -> ImageStream:
    made = envs.make({"id": DIGITS, **options}, batch=batch)
    assert isinstance(made, ImageStream)
    return made


@pytest.mark.parametrize(
    "options",
    [{}, {"hold": 3}, {"hold": 3, "episode": "example"}, {"patches": 6, "patch_size": 2}, {"split": "test"}],
)
def test_contract(options: dict[str, Any]) -> None:
    envs.check_vector_env(lambda: make(**options))
    envs.check_vector_env(lambda: envs.make({"id": DIGITS, **options}, batch=3, dtype=torch.float64))


def test_pictures_are_those_of_the_split_and_their_labels_fit() -> None:
    found = digits.load()
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


def test_halves_and_patches_are_parts_of_the_image() -> None:
    env = make(7, patches=6, patch_size=3)
    obs, _ = env.reset(seed=0)
    assert torch.equal(torch.cat([obs["left_half"], obs["right_half"]], dim=-1), obs["image"])
    windows = obs["image"][:, 0].unfold(1, 3, 1).unfold(2, 3, 1).reshape(7, -1, 3, 3)
    for number in range(6):
        same = (windows == obs[f"patch_{number}"][:, None]).all(dim=(2, 3)).all(dim=0)
        assert bool(same.any())


def test_halves_and_patches_of_coloured_pictures_have_all_colours() -> None:
    env = make(3, data="shapes", patches=4, patch_size=5)
    obs, _ = env.reset(seed=0)
    assert torch.equal(torch.cat([obs["left_half"], obs["right_half"]], dim=-1), obs["image"])
    corners = positions(4, 5, 32, 32)
    for number, (top, left) in enumerate(corners):
        assert torch.equal(obs[f"patch_{number}"], obs["image"][:, :, top : top + 5, left : left + 5])


def test_environments_of_one_data_set_share_its_memory() -> None:
    tables = [make(batch, split=split)._table for batch, split in ((2, "train"), (5, "test"))]
    assert tables[0].columns["image"] is tables[1].columns["image"]
    doubled = envs.make({"id": DIGITS}, batch=2, dtype=torch.float64)
    assert doubled._table.columns["image"] is tables[0].columns["image"]  # type: ignore[attr-defined]


def test_spaces_follow_the_request() -> None:
    env = make(3)
    assert set(env.single_observation_space) == {"image", "left_half", "right_half"}
    assert isinstance(env.observation_space, Dict)
    assert env.observation_space["image"].shape == (3, 1, 8, 8)
    env.request(["left_half", "label"])
    assert set(env.single_observation_space) == {"left_half"}
    assert env.single_observation_space["left_half"].shape == (1, 8, 4)
    assert env.observation_space.shape is None
    assert list(env.observation_space) == ["left_half"]


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


def test_lanes_do_not_depend_on_their_number() -> None:
    few, many = make(2), make(9)
    a, b = few.reset(seed=5)[0], many.reset(seed=5)[0]
    for _ in range(70):
        assert torch.equal(a["image"], b["image"][:2])
        a, b = few.step(None)[0], many.step(None)[0]


def test_reset_without_a_seed_goes_on() -> None:
    env, other = make(), make()
    env.reset(seed=2)
    again = env.reset()[1]["label"]
    other.reset(seed=2)
    assert torch.equal(other.step(None)[4]["label"], again)
    fresh = [make(16).reset()[0]["image"] for _ in range(2)]
    assert not torch.equal(fresh[0], fresh[1])


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
    with pytest.raises(ScenarioError, match=r"actions are \[6, 9\]; give the logits of 10 choices"):
        env.step(logits[:, 1:])
    env.request(["image"])
    assert env.step(np.full(6, 3))[1].dtype == torch.float32


def test_step_before_reset() -> None:
    with pytest.raises(ResetNeeded):
        make().step(None)


def test_only_what_is_requested_is_computed() -> None:
    env = make(3, patches=4)
    env.request({"label", "patch_2"})
    obs, info = env.reset(seed=0)
    assert (list(obs), list(info)) == (["patch_2"], ["label"])
    assert env.single_observation_space == Dict(patch_2=Box(0, 1, (3, 3)))
    assert torch.equal(obs["patch_2"], make(3, patches=4).reset(seed=0)[0]["patch_2"])
    assert set(next(env.batches("test", 10))) == {"label", "patch_2"}
    with pytest.raises(ScenarioError, match="no signal 'lable'; did you mean 'label'"):
        env.request({"lable"})


def test_batches_are_the_split_in_order() -> None:
    env = make()
    sizes = [len(batch["label"]) for batch in env.batches("test", 100)]
    assert sizes == [100, 100, 100, 60]
    assert env.example_count("test") == 360
    found = digits.load()
    labels = torch.cat([batch["label"] for batch in env.batches("test", 100)])
    assert labels.tolist() == found.labels[found.splits["test"]].tolist()
    with pytest.raises(ScenarioError, match="no split 'tset'; did you mean 'test'"):
        next(env.batches("tset", 10))


def test_state_before_the_first_reset() -> None:
    env = make()
    env.load_state_dict(make().state_dict())
    with pytest.raises(ResetNeeded):
        env.step(None)
