"""Policies in a Box: they work in units of half its range around its middle, and the environment takes its own numbers (rule 37)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from numpy.typing import NDArray

from antiphon import Scenario, Simulation, envs
from tests.reference.backend import Chosen, reference

INFINITE = np.inf
FREE = spaces.Box(-INFINITE, INFINITE, (2,))
BOXES: dict[str, tuple[spaces.Box, list[float], list[float]]] = {
    "one": (spaces.Box(-1, 1, (2,)), [0, 0], [1, 1]),
    "wide": (spaces.Box(0, 1000, (2,)), [500, 500], [500, 500]),
    "narrow": (spaces.Box(-0.01, 0.01, (2,)), [0, 0], [0.01, 0.01]),
    "shaped": (spaces.Box(np.float32([[-3], [10]]), np.float32([[1], [10.5]])), [-1, 10.25], [2, 0.25]),
    "one-sided": (spaces.Box(np.float32([0, 0]), np.float32([8, INFINITE])), [4, 0], [4, 1]),
    "largest": (spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (2,)), [0, 0], [1, 1]),
    "single": (spaces.Box(np.float32([5, -1]), np.float32([5, 1])), [5, 0], [0, 1]),
    "double": (spaces.Box(-6, 2, (2,), np.float64), [-2, -2], [4, 4]),
    "whole": (spaces.Box(-4, 8, (2,), np.int32), [2, 2], [6, 6]),
    "bytes": (spaces.Box(0, 255, (2,), np.uint8), [127.5, 127.5], [127.5, 127.5]),
}
"""A Box, and the middles and halves of its ranges."""


class Noted(gymnasium.Env[Any, Any]):
    """Noise of its seed, whatever is done; keeps what is done."""

    observation_space = spaces.Box(-1, 1, (3,))

    def __init__(self, space: gymnasium.Space[Any]) -> None:
        self.action_space = space
        self.done: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.done.append(action)
        return self._seen(), 0.0, False, False, {}

    def _seen(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


def done_in(
    space: spaces.Box, backend: Chosen, clock: dict[str, int], *, nested: bool
) -> NDArray[np.float64]:
    """What a policy with its first parameters does in a Box, [steps, environments, 2]."""
    whole = spaces.Dict(arm=spaces.Tuple([spaces.Discrete(2), space])) if nested else space
    worlds = [Noted(whole) for _ in range(2)]
    rows = iter(worlds)
    hand = {
        "observes": ["observation"],
        "acts": "arm.1" if nested else True,
        "objective": "a2c",
        "clock": {"unroll": 64, **clock},
    }
    scenario = Scenario(scenario="box", env=lambda: next(rows), agents={"hand": hand}, training={"batch": 2})
    with Simulation(scenario, backend=backend) as simulation:
        simulation.run(steps=5, progress=False)
    actions = [[own["arm"][1] if nested else own for own in world.done] for world in worlds]
    return np.asarray(actions, np.float64).reshape(2, 5, 2).swapaxes(0, 1)


@pytest.mark.cases(2)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("box", BOXES)
def test_samples_are_scaled_to_the_bounds_and_clipped_there(box: str, backend: Chosen) -> None:
    space, middle, half = BOXES[box]
    samples = done_in(FREE, backend, {}, nested=False)
    assert (np.abs(samples) > 1).any()
    found = done_in(space, backend, {}, nested=box in ("shaped", "whole"))
    low, high = (bound.reshape(2).astype(np.float64) for bound in (space.low, space.high))
    expected = np.clip(np.array(middle) + np.array(half) * samples, low, high)
    if box == "one":
        assert (found == expected).all(), "the samples are the actions, bit for bit"
    expected = np.round(expected) if space.dtype.kind in "iu" else expected
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6 * float(np.max(half)))


class Aim(gymnasium.Env[Any, Any]):
    """One number is best; each step is an episode, whose reward is the distance to it in half ranges."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, low: float, high: float, best: float) -> None:
        self.best, self.half = best, (high - low) / 2
        self.action_space = spaces.Box(low, high, (1,))

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return np.ones(1, np.float32), -abs(float(action[0]) - self.best) / self.half, True, False, {}


envs.register("boxes/Aim-v0", Aim)
