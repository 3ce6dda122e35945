"""The `nature` network: convolutions with strides over images, joined with all other inputs."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation

SMALL = {"kind": "nature", "filters": [4, 6], "sizes": [3, 2], "strides": [2, 1], "hidden": [5]}


class Rooms(gymnasium.Env[Any, Any]):
    """A picture [8, 7, 3], a map of classes, numbers, a mask of four actions, and a text that nobody can read."""

    observation_space = spaces.Dict(
        {
            "image": spaces.Box(0, 255, (8, 7, 3), np.uint8),
            "map": spaces.MultiDiscrete(np.full((8, 7), 3)),
            "mask": spaces.MultiBinary(4),
            "mission": spaces.Text(9),
            "place": spaces.Box(-1, 1, (2,), np.float32),
        }
    )
    action_space = spaces.Discrete(4)

    def __init__(self) -> None:
        self.observation_space = copy.deepcopy(Rooms.observation_space)

    def _shown(self) -> dict[str, Any]:
        shown = {key: space.sample() for key, space in self.observation_space.items() if key != "mission"}
        return {**shown, "mask": np.array([1, 1, 0, 1], np.int8), "mission": "walk"}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.observation_space.seed(seed)
        self.steps = 0
        return self._shown(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action != 2
        self.steps += 1
        return self._shown(), float(action), self.steps == 5, False, {}


antiphon.envs.register("tests/Rooms-v0", Rooms)


def rooms(network: Any = SMALL, observes: Any = ("place", "image", "map"), **agent: Any) -> Scenario:
    player = {
        "observes": list(observes),
        "network": network,
        "acts": True,
        "objective": {"kind": "ppo", "mask": "mask"},
        **agent,
    }
    env = {"id": "tests/Rooms-v0"}
    return Scenario(scenario="rooms", env=env, agents={"a": player}, training={"batch": 4})


def by_torch(parameters: dict[str, Tensor], signals: dict[str, Tensor]) -> Tensor:
    """The logits of the small network by torch's modules."""
    convolutions = nn.Conv2d(6, 4, 3, 2), nn.Conv2d(4, 6, 2, 1)
    for i, one in enumerate(convolutions):
        one.load_state_dict({key: parameters[f"conv{i}.{key}"] for key in ("weight", "bias")})
    classes = nn.functional.one_hot(signals["map"], 3).permute(0, 3, 1, 2).float()
    maps = torch.cat([signals["image"].permute(0, 3, 1, 2), classes], 1)
    for one in convolutions:
        maps = one(maps).relu()
    joined = torch.cat([maps.flatten(1), signals["place"], signals["mask"]], 1)
    hidden = (joined @ parameters["dense.0.weight"].T + parameters["dense.0.bias"]).relu()
    return hidden @ parameters["objective.weight"].T + parameters["objective.bias"]


def test_it_is_the_network_of_torchs_modules_and_masks_choices() -> None:
    with Simulation(rooms()) as simulation:
        simulation.run(steps=20, progress=False)
        assert simulation.agents["a"].updates > 0
        signals = {name: value.clone() for name, value in simulation.signals.items()}
        logits = by_torch(simulation.agents["a"].parameters, signals)
        logits[:, 2] = -torch.inf
        shown = {name: signals[name].numpy() for name in ("map", "mask", "place")}
        picture = (signals["image"] * 255).round().numpy().astype(np.uint8)
        assert np.array_equal(simulation.policy().act({**shown, "image": picture}), logits.argmax(1).numpy())


def test_its_defaults_are_those_of_mnih_et_al() -> None:
    env = antiphon.envs.from_tensors(image=torch.rand(9, 4, 84, 84), label=torch.arange(9) % 3)
    goal = {"kind": "classification", "target": "label"}
    agent = {"observes": ["image"], "network": "nature", "objective": goal}
    with Simulation(
        Scenario(scenario="s", env=env, agents={"a": agent}, training={"batch": 3})
    ) as simulation:
        simulation.run(steps=1, progress=False)
        shapes = [tuple(p.shape) for name, p in simulation.agents["a"].parameters.items() if "weight" in name]
        assert shapes == [(32, 4, 8, 8), (64, 32, 4, 4), (64, 64, 3, 3), (512, 3136), (3, 512)]
