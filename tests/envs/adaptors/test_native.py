"""A world's own observations and actions, of one environment or a batch."""

from typing import Any

import numpy as np
import pytest
import torch

from antiphon import envs
from antiphon.envs.native import Native, native_of
from antiphon.errors import ScenarioError
from tests.doors.test_worlds import SPACES, Samples, check, expected
from tests.envs.adaptors.parallel_worlds import Mines
from tests.envs.adaptors.test_spaces import NESTED, Mirror
from tests.kit.worlds import batch_of

CPU = torch.device("cpu")


def mirror() -> tuple[envs.TorchVectorEnv, Native]:
    env = envs.make(lambda: Mirror(NESTED, NESTED), batch=2)
    return env, native_of(env)


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
    _, native = mirror()
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
