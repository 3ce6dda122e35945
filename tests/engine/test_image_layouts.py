"""Images as conv networks read them: height, width and channels of Gymnasium's worlds, of data, with any network beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

from antiphon import Scenario, Simulation, envs
from antiphon.envs import registry
from tests.reference.backend import Chosen, reference


class Pictures(gymnasium.Env[Any, Any]):
    """Random pictures of a shape."""

    action_space = spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...], dtype: Any = np.uint8) -> None:
        self.observation_space = spaces.Box(0, 255, shape, dtype)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.count = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        self.count += 1
        return self.observation_space.sample(), 1.0, self.count == 5, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    envs.register("Pictures", lambda height, *rest: Pictures((height, *rest)))
    yield
    registry._environments.pop("Pictures")
    registry._environments.pop("Shaped", None)


NETWORK = {"kind": "conv", "hidden": [3], "size": 3, "norm": "none"}


def acting(
    shape: tuple[int, ...], network: Any = NETWORK, backend: Chosen = "cohort", **objective: Any
) -> Simulation:
    registry._environments.pop("Shaped", None)
    envs.register("Shaped", lambda: Pictures(shape))
    mind = {"observes": ["observation"], "network": network, "acts": True, "clock": {"unroll": 4}}
    agents = {"a": mind | {"objective": {"kind": "ppo", "epochs": 1} | objective}}
    scenario = Scenario(scenario="s", env={"id": "Shaped"}, agents=agents, training={"batch": 4, "steps": 8})
    return Simulation(scenario, dtype=torch.float64, backend=backend)


def filters(run: Simulation) -> Tensor:
    return next(value for value in run.agents["a"].parameters.values() if value.dim() == 4)


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((12, 10, 3), 3),  # height, width, channels
        ((8, 8, 3), 3),
        ((8, 8, 12), 12),  # a board's planes
        ((4, 9, 9), 4),  # a stack of frames
        ((3, 12, 10), 3),
        ((9, 7), 1),  # grey
    ],
)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_the_channels_of_a_world_are_found(shape: tuple[int, ...], channels: int, backend: Chosen) -> None:
    with acting(shape, backend=backend) as run:
        assert filters(run).shape == (3, channels, 3, 3)
        run.run(progress=False)
        assert run.agents["a"].parameters  # it learns, and acts


def data(pictures: Tensor, network: Any = NETWORK, backend: Chosen = "cohort") -> Simulation:
    env = envs.from_tensors(x=pictures, label=torch.arange(len(pictures)) % 2, test=0.2, validation=0)
    mind = {"observes": ["x"], "network": network, "objective": {"kind": "classification", "target": "label"}}
    scenario = Scenario(scenario="s", env=env, agents={"a": mind}, training={"batch": 4, "steps": 6})
    return Simulation(scenario, dtype=torch.float64, backend=backend)


def test_a_picture_is_convolved_over_height_and_width() -> None:
    pictures = torch.rand(40, 6, 5, 3, generator=torch.Generator().manual_seed(0))
    with data(pictures, NETWORK | {"channels": "last"}) as run:
        signals = {name: value.clone() for name, value in run.signals.items()}
        w, b, v, c = run.agents["a"].parameters.values()
        hidden = torch.relu(conv2d(signals["x"].permute(0, 3, 1, 2), w, b, padding=1))
        right = cross_entropy(hidden.flatten(1) @ v.T + c, signals["label"])
        assert float(run.step()["losses"]["a"]) == pytest.approx(right.item(), rel=1e-9)
