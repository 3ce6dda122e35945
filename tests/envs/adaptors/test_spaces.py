"""Spaces of Gymnasium as signals and parts of an action."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from antiphon import envs
from antiphon.errors import RunError, ScenarioError
from tests.kit.worlds import batch_of

NESTED = spaces.Dict(
    {
        "eye": spaces.Box(0, 255, (2, 2), np.uint8),
        "body": spaces.Dict({"joint": spaces.Box(-1, 1, (3,)), "gear": spaces.Discrete(4, start=-1)}),
        "dice": spaces.Tuple([spaces.MultiDiscrete([2, 6]), spaces.MultiBinary(3)]),
    }
)


class Mirror(gymnasium.Env[Any, Any]):
    """Shows the newest action; the first observation is a sample."""

    def __init__(self, observation: spaces.Space[Any], action: spaces.Space[Any]) -> None:
        self.observation_space, self.action_space = observation, action
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.taken.append(action)
        return action, 0.0, False, False, {}


def mirrors(observation: spaces.Space[Any], action: spaces.Space[Any] | None = None) -> envs.TorchVectorEnv:
    made, batch = [lambda: Mirror(observation, action or observation)] * 2, 2
    return envs.make(SyncVectorEnv(made, autoreset_mode=AutoresetMode.SAME_STEP), batch=batch)


def shown(space: spaces.Space[Any]) -> dict[str, envs.Signal]:
    """The signals of a world with this space of observations, but for the outcomes of steps."""
    signals = mirrors(space).description.signals
    return {name: signal for name, signal in signals.items() if signal.known != "after_step"}


def test_every_part_of_a_nested_space_is_a_signal() -> None:
    assert shown(NESTED) == {
        "body.gear": envs.Signal(classes=4),
        "body.joint": envs.Signal(shape=(3,), low=-1.0, high=1.0),
        "dice.0": envs.Signal(shape=(2,), classes=6),
        "dice.1": envs.Signal(shape=(3,), low=0.0, high=1.0),
        "eye": envs.Signal(shape=(2, 2), low=0.0, high=1.0),
    }
    assert list(shown(spaces.Discrete(3))) == ["observation"]
    assert list(shown(spaces.Tuple([spaces.Discrete(3)] * 2))) == ["observation.0", "observation.1"]


def test_two_parts_of_one_name_are_refused() -> None:
    part = spaces.Dict({"a.b": spaces.Discrete(2), "a": spaces.Dict({"b": spaces.Discrete(2)})})
    for pair in ((part, spaces.Discrete(2)), (spaces.Discrete(2), part)):
        with pytest.raises(ScenarioError, match=r"two .* have the name 'a\.b'; rename one"):
            mirrors(*pair)


@pytest.mark.parametrize(
    ("space", "chosen", "actions", "shown"),
    [
        (spaces.Discrete(3, start=5), spaces.Discrete(3), torch.tensor([[0.0, 2, 1], [5, 0, 1]]), [1, 0]),
        (
            spaces.MultiDiscrete([2, 3], start=[1, -1]),
            spaces.MultiDiscrete([2, 3]),
            torch.tensor([[1, 2], [0, 1]]),
            [[1, 2], [0, 1]],
        ),
        (
            spaces.MultiBinary((1, 2)),
            spaces.MultiDiscrete([2, 2]),
            torch.tensor([[1, 0], [0, 1]]),
            [[[1, 0]], [[0, 1]]],
        ),
        (
            spaces.Box(-1, 1, (2,)),
            spaces.Box(-1, 1, (2,)),
            torch.tensor([[0.5, 9], [-9, 0]]),
            [[0.5, 1], [-1, 0]],
        ),
        (
            spaces.Box(0, 3, (2,), np.int64),
            spaces.Box(0, 3, (2,), np.int64),
            torch.tensor([[0.6, 9], [-9, 2.2]]),
            [[1, 3], [0, 2]],
        ),
    ],
)
def test_actions_reach_the_world_as_it_has_them(
    space: spaces.Space[Any], chosen: spaces.Space[Any], actions: torch.Tensor, shown: list[Any]
) -> None:
    env = mirrors(space)
    assert env.single_action_space == env.description.action_space == chosen
    env.reset(seed=0)
    assert env.step(actions)[0]["observation"].tolist() == shown
    env.action_space.seed(0)
    env.step(env.action_space.sample())  # which the world takes as its own
    env.step(None)


def test_parts_of_an_action_are_given_by_name_and_the_others_are_random() -> None:
    env = mirrors(NESTED)
    assert env.single_action_space["body.gear"] == spaces.Discrete(4)
    assert env.single_action_space["dice.1"] == spaces.MultiDiscrete([2, 2, 2])
    env.reset(seed=0)
    given = {"dice.0": torch.tensor([[1, 5], [0, 3]]), "body.gear": torch.tensor([0, 3])}
    shown = [env.step(given)[0] for _ in range(3)]
    for obs in shown:
        assert (obs["dice.0"].tolist(), obs["body.gear"].tolist()) == ([[1, 5], [0, 3]], [0, 3])
    assert not torch.equal(shown[0]["body.joint"], shown[1]["body.joint"])
    env.step(env.action_space.sample())
    with pytest.raises(ScenarioError, match=r"actions are \['gear'\]; pass a mapping of \['body.gear', "):
        env.step({"gear": torch.tensor([0, 3])})
    with pytest.raises(ScenarioError, match=r"actions are Tensor; pass a mapping of \['body.gear', "):
        env.step(torch.tensor([0, 3]))


@pytest.mark.long
def test_a_world_of_nested_spaces_keeps_the_contract() -> None:
    envs.check_vector_env(lambda: mirrors(NESTED), steps=6)


class Showing:
    """One agent of PettingZoo's, without the package, that is shown one value."""

    possible_agents, agents = ("one",), ("one",)

    def __init__(self, space: spaces.Space[Any], value: Any) -> None:
        self.space, self.value = space, value

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        return self.space

    def action_space(self, agent: str) -> spaces.Space[Any]:
        return spaces.Discrete(2)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[Any, Any]:
        return {"one": self.value}, {}

    def step(self, actions: Any) -> Any:
        return {"one": self.value}, {"one": 0.0}, {"one": False}, {"one": False}, {}


PIXELS = spaces.Box(0, 255, (2,), np.uint8)


@pytest.mark.parametrize(
    ("space", "value", "line"),
    [
        (
            PIXELS,
            np.array([0.5, 1], np.float32),
            "is float32, and its space has bytes, .*; return it as uint8, or declare float32",
        ),
        (PIXELS, [0.0, 1.0], "is float64, and its space has bytes"),
        (PIXELS, [0, 300], "is 300, which its Box of uint8 cannot hold; declare another dtype"),
        (spaces.Discrete(4), 1.7, "is 1.7, and choices are whole numbers"),
        (spaces.MultiDiscrete([3, 3]), [1.0, 0.5], "is 0.5, and choices are whole numbers"),
        (spaces.MultiDiscrete([2, 3]), [1.0, 1.5], "is 1.5, and choices are whole numbers"),
        (spaces.MultiBinary(2), [1.0, 0.5], "is 0.5, and choices are whole numbers"),
    ],
)
def test_numbers_that_the_space_does_not_have_are_refused_where_no_array_of_its_type_holds_them(
    space: spaces.Space[Any], value: Any, line: str
) -> None:
    with pytest.raises(RunError, match=f"^env: 'one.observation' {line}"):
        batch_of(Showing(space, value)).reset(seed=0)


def test_numbers_of_another_type_that_the_space_has_are_taken() -> None:
    for space, value, seen in ((PIXELS, [51, 255], [0.2, 1.0]), (spaces.Discrete(4), 1.0, 1)):
        shown_value = batch_of(Showing(space, value)).reset(seed=0)[0]["one.observation"]
        assert torch.equal(shown_value, torch.tensor([seen]))
