"""Spaces of Gymnasium as signals and parts of an action: how a scenario names them, what is shown, what is written."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import envs
from antiphon.base.errors import ScenarioError
from antiphon.envs.native import native_of
from tests.doors.test_worlds import SPACES, Samples, check, expected
from tests.envs.adaptors.parallel_worlds import Mines
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

    def __init__(self, space: spaces.Space[Any]) -> None:
        self.observation_space = self.action_space = space
        self.taken: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.taken.append(action)
        return action, 0.0, False, False, {}


def mirrors(space: spaces.Space[Any]) -> envs.TorchVectorEnv:
    return envs.make(lambda: Mirror(space), batch=2)


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


# --- of one environment or a batch -----------------------------------------------------------------------


CPU = torch.device("cpu")


@pytest.mark.parametrize("name", SPACES)
def test_what_a_single_world_shows_is_read_as_a_batch_of_it_is(name: str) -> None:
    """As a policy reads it."""
    space = SPACES[name]
    env: Any = envs.make(lambda: Samples(space), batch=2)
    shown = Samples(space).samples[0]
    read, alone = native_of(env).read(shown, [*env.observations.signals], env.device, env.dtype)
    assert alone
    check(read, expected(space, shown), env)


def test_actions_are_written_as_the_world_takes_them() -> None:
    native = native_of(mirrors(NESTED))
    action = {
        "body.gear": torch.tensor([0, 3]),
        "body.joint": torch.tensor([[0.5, -9, 9]] * 2, dtype=torch.float64),
        "dice.0": torch.tensor([[1, 5], [0, 2]]),
        "dice.1": torch.tensor([[1, 0, 1], [0, 0, 0]]),
    }
    sample = native.space(2).sample
    batch = native.write(action, sample, 2, alone=False)
    assert native.space(2).contains(batch)
    assert batch["body"]["gear"].tolist() == [-1, 2]
    assert batch["body"]["joint"].tolist() == [[0.5, -1, 1]] * 2
    assert batch["dice"][0].tolist() == [[1, 5], [0, 2]]
    rows = {name: value[:1] for name, value in action.items()}
    one = native.write(rows, native.space(1).sample, 1, alone=True)
    assert NESTED.contains(one)
    assert one["body"]["gear"] == -1
    assert one["dice"][1].tolist() == [1, 0, 1]


def test_an_agent_that_is_not_there_observes_zeros() -> None:
    native = native_of(batch_of(Mines()))
    names = ["low.observation", "high.place", "high.sign"]
    found, alone = native.read({"low": np.array([3.0])}, names, CPU, torch.float32)
    assert alone
    assert {name: value.tolist() for name, value in found.items()} == {
        "low.observation": [[3.0]],
        "high.place": [[0.0]],
        "high.sign": [0],
    }
    with pytest.raises(
        ScenarioError, match=r"policy: the observation has no high\.place, high\.sign, low\.o"
    ):
        native.read({}, names, CPU, torch.float32)
