"""Worlds of the library: what all have in common, and each by its rules."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from antiphon import envs
from antiphon.envs.base import StepResult
from antiphon.envs.datasets import DATA_SETS
from tests.envs.worlds.made import WORLDS, make

# --- all worlds ------------------------------------------------------------------------------------------


POLE = "antiphon/CartPole-v0"


def roll(env: envs.World, steps: int) -> list[Any]:
    return [env.step() for _ in range(steps)]


@pytest.mark.parametrize("name", WORLDS)
def test_an_episode_ends_in_one_way_and_only_its_own_copy_starts_anew(name: str) -> None:
    env = make(name, 16, torch.float64, **WORLDS[name])
    env.reset(seed=5)
    elapsed = torch.zeros(16)
    for obs, _, terminated, truncated, info in roll(env, 60):
        elapsed += 1
        ended = terminated | truncated
        assert not bool((terminated & truncated).any())
        assert torch.equal(info.get("_final_obs", torch.zeros(16, dtype=torch.bool)), ended)
        assert torch.equal(truncated, (elapsed == WORLDS[name]["limit"]) & ~terminated)
        for key, value in info.get("final_obs", {}).items():
            assert torch.equal(value[~ended], obs[key][~ended])
        elapsed[ended] = 0


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", WORLDS)
def test_several_stepped_together_are_each_what_it_is_alone(name: str) -> None:
    """Their seeds differ, and random actions with them."""
    together, alone = ([make(name, 4, torch.float64, **WORLDS[name]) for _ in range(3)] for _ in range(2))
    for seed, pair in enumerate(zip(together, alone, strict=True)):
        for env in pair:
            env.reset(seed=seed)
    for _ in range(60):
        found = envs.World.step_all(together, None)
        own = tree_map(lambda *rows: torch.cat(rows), *(env.step() for env in alone))
        torch.testing.assert_close(found, own, rtol=1e-12, atol=1e-12)
    states = [[env.state_dict() for env in each] for each in (together, alone)]
    torch.testing.assert_close(*states, rtol=1e-12, atol=1e-12)


def test_actions_are_choices_or_logits() -> None:
    envs_ = [make(POLE, 3) for _ in range(3)]
    for env in envs_:
        env.reset(seed=0)
    logits = torch.tensor([[0.0, 1.0], [2.0, -1.0], [0.5, 0.6]])
    given = (logits, torch.tensor([1, 0, 1]), np.array([1, 0, 1]))
    reached = [env.step(actions)[0]["observation"] for env, actions in zip(envs_, given, strict=True)]
    assert torch.equal(reached[0], reached[1])
    assert torch.equal(reached[0], reached[2])


# --- the pole on a cart ----------------------------------------------------------------------------------


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


# --- the room with a key and a door ----------------------------------------------------------------------


ROOM = "antiphon/KeyDoor-v0"
RIGHT, LEFT, DOWN, UP = range(4)


def walk(env: envs.World, moves: list[int]) -> list[StepResult]:
    return [env.step(torch.tensor([move])) for move in moves]


def test_the_shortest_way_is_rewarded_at_its_end_alone() -> None:
    env = make(ROOM, 1)
    env.reset(seed=0)
    steps = walk(env, [LEFT] * 5 + [UP] * 5 + [RIGHT] * 10 + [DOWN] * 10)
    assert [float(step[1]) for step in steps] == [0.0] * 29 + [1.0]
    assert [bool(step[2]) for step in steps] == [False] * 29 + [True]
    assert not any(bool(step[3]) for step in steps)
    key = [float(step[4]["final_obs"]["position"][0, 2]) for step in steps]
    assert key == [0.0] * 9 + [1.0] * 21
    last = steps[-1][4]["final_obs"]["observation"][0]
    assert last.tolist() == pytest.approx([5 / 6, 5 / 6, 1.0, 0.0, 1.0])
    assert steps[-1][0]["observation"][0].tolist() == [0.0] * 5


def test_walls_stop() -> None:
    env = make(ROOM, 1, size=7)
    env.reset(seed=0)
    at_the_door = walk(env, [RIGHT] * 2 + [DOWN] * 2)[-1]
    assert (float(at_the_door[1]), bool(at_the_door[2])) == (0.0, False), "the key is not there"
    env = make(ROOM, 1)
    env.reset(seed=0)
    for move, axis, end in ((RIGHT, 0, 1.0), (LEFT, 0, -1.0), (DOWN, 1, 1.0), (UP, 1, -1.0)):
        assert float(walk(env, [move] * 14)[-1][0]["position"][0, axis]) == end


def test_the_limit_truncates_unless_the_door_is_reached_with_its_step() -> None:
    way = [LEFT] * 5 + [UP] * 5 + [RIGHT] * 10 + [DOWN] * 10
    for limit, ends in ((30, (True, False)), (29, (False, True))):
        env = make(ROOM, 1, limit=limit)
        env.reset(seed=0)
        last = walk(env, way[:limit])[-1]
        assert (bool(last[2]), bool(last[3])) == ends


# --- the speaker and the listener ------------------------------------------------------------------------


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


# --- the referential game --------------------------------------------------------------------------------


GAME = "antiphon/Referential-v0"


def make_referential(batch: int = 4, split: str = "train", **options: Any) -> Any:
    return envs.make({"id": GAME, **options}, batch=batch, split=split)


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
    env = make_referential(64, concept=concept, distractors=2, split=split, candidates=6)
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
    _, info = make_referential(8000, concept=True).reset(seed=1)
    for name, count in (("target", 8), ("label", 10)):
        share = torch.bincount(info[name], minlength=count) / 8000
        assert float((share * count - 1).abs().max()) < 0.15


def test_a_choice_is_rewarded_and_ends_the_episode() -> None:
    env = make_referential(5)
    _, info = env.reset(seed=0)
    for right in (True, False, True):
        before = info["target"]
        _, reward, terminated, truncated, info = env.step(before if right else (before + 1) % 8)
        assert reward.tolist() == [float(right)] * 5
        assert bool(terminated.all())
        assert not bool(truncated.any())
        assert torch.equal(info["final_info"]["target"], before)


def test_an_evaluation_plays_each_image_once_and_the_same_games_whatever_the_seed() -> None:
    one, other = make_referential(3, concept=True), make_referential(7, concept=True, split="test")
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
