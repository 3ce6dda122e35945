"""The referential game: what is shown, candidates, order, splits, rewards, and a pair that plays it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import envs
from antiphon.envs.datasets import DATA_SETS

GAME = "antiphon/Referential-v0"


def make(batch: int = 4, **options: Any) -> Any:
    return envs.make({"id": GAME, **options}, batch=batch)


def keys(images: Tensor) -> list[list[bytes]]:
    """The pixels of each image `[games, images, 8, 8]`, by which it is known."""
    return [[image.tobytes() for image in game] for game in (images * 16).round().byte().numpy()]


def known(split: str) -> dict[bytes, int]:
    found = DATA_SETS["digits"].load()
    return {found.pixels[row].tobytes(): int(found.labels[row]) for row in found.splits[split]}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("concept", [False, True])
def test_a_game_is_what_the_options_say(split: str, concept: bool) -> None:
    labels = known(split)
    env = make(64, concept=concept, distractors=2, split=split, candidates=6)
    obs, info = env.reset(seed=3)
    for _ in range(3):
        sender, candidates = keys(obs["shown"]), keys(obs["candidates"])
        for game in range(64):
            target = candidates[game][int(info["target"][game])]
            assert labels[target] == int(info["label"][game])
            assert (sender[game][0] == target) is not concept
            assert labels[sender[game][0]] == labels[target]
            assert all(image in labels for image in (*sender[game], *candidates[game]))
            assert candidates[game].count(target) == 1
            if concept:
                assert len({labels[image] for image in candidates[game]}) == 6
        obs, _, _, _, info = env.step(None)


def test_targets_are_at_every_place_and_classes_are_balanced() -> None:
    _, info = make(8000, concept=True).reset(seed=1)
    for name, count in (("target", 8), ("label", 10)):
        share = torch.bincount(info[name], minlength=count) / 8000
        assert float((share * count - 1).abs().max()) < 0.15


def test_a_choice_is_rewarded_and_ends_the_episode() -> None:
    env = make(5)
    _, info = env.reset(seed=0)
    for right in (True, False, True):
        before = info["target"]
        _, reward, terminated, truncated, info = env.step(before if right else (before + 1) % 8)
        assert reward.tolist() == [float(right)] * 5
        assert bool(terminated.all())
        assert not bool(truncated.any())
        assert torch.equal(info["final_info"]["target"], before)


def test_an_evaluation_plays_each_image_once_and_the_same_games_whatever_the_seed() -> None:
    one, other = make(3, concept=True), make(7, concept=True, split="test")
    one.reset(seed=1)
    other.reset(seed=2)
    for env in (one, other):
        env.request(["candidates", "target", "shown", "label"])
    first = torch.cat([batch["candidates"] for batch in one.batches("test", 100)])
    second = torch.cat([batch["candidates"] for batch in other.batches("test", 90)])
    assert torch.equal(first, second)
    target = torch.cat([batch["target"] for batch in one.batches("test", 100)])
    images = {game[int(place)] for game, place in zip(keys(first), target, strict=True)}
    assert images == set(known("test"))
    assert len(first) == one.example_count("test") == 360
