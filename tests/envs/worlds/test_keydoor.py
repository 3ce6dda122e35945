"""The room with a key and a door: ways through it, walls, signals and options."""

import pytest
import torch

from antiphon import envs
from antiphon.envs.base import StepResult
from tests.envs.worlds.made import make

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
