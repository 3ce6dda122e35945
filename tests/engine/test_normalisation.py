"""Observations that enter networks normalised: the statistics, who keeps them, and what is refused (rule 45)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from antiphon import Scenario, Simulation, envs
from tests.contracts.builders import Play
from tests.reference.backend import Chosen, reference


class Wild(gymnasium.Env[Any, Any]):
    """Numbers of very different sizes; a choice is right by the sign of one of them."""

    observation_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float((self.seen[1] > 3e-4) == (action == 1))
        return self._seen(), reward, True, False, {}

    def _seen(self) -> Any:
        x = self.np_random.normal(size=3)
        self.seen = np.array([1e6, 3e-4 + 1e-4 * x[0], 5e4 * x[1], x[2]])
        return self.seen


class Masking(Wild):
    action_space = spaces.Discrete(4)


envs.register("normalisation/Wild-v0", Wild)
envs.register("normalisation/Masking-v0", Masking)


class Seen(Play):
    """`Play` that keeps what it showed."""

    def make(self, *, batch: int, **where: Any) -> Any:
        env = super().make(batch=batch, **where)
        shown = env._shown  # type: ignore[attr-defined]

        def noted() -> Any:
            found = shown()
            self.__dict__.setdefault("x", []).append(found[0]["x"])
            return found

        env._shown = noted
        return env


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_statistics_are_the_moments_of_the_windows_learned_from(backend: Chosen) -> None:
    source = Seen()
    agents = {
        "a": {
            "observes": {"x": {"normalize": True}},
            "network": {"kind": "mlp", "hidden": []},
            "objective": {"kind": "regression", "target": "goal"},
            "clock": {"unroll": 3},
        }
    }
    scenario = Scenario(scenario="s", env=source, agents=agents, training={"batch": 5, "steps": 20})
    with Simulation(scenario, backend=backend, dtype=torch.float64) as simulation:
        agent = simulation.agents["a"]
        for steps in (3, 6):
            simulation.run(3)
            x = torch.cat(source.__dict__["x"][:steps])
            expected = torch.cat([torch.tensor([len(x)]).to(x), x.mean(0), x.var(0, correction=0)])
            torch.testing.assert_close(agent.buffers["observes.0"], expected)
        simulation.run(1)  # within a window they stay as they are
        torch.testing.assert_close(agent.buffers["observes.0"], expected)


class Coloured(Wild):
    """Images with the channels last, which have very different sizes."""

    observation_space = spaces.Box(-np.inf, np.inf, (6, 5, 3), np.float32)

    def _seen(self) -> Any:
        self.seen = self.np_random.normal(size=(4,))
        image = self.np_random.normal(size=(6, 5, 3)) * [1e4, 1.0, 1e-3]
        return image.astype(np.float32)


envs.register("normalisation/Coloured-v0", Coloured)


class Steered(Wild):
    """`Wild` with real actions, which are not scaled."""

    action_space = spaces.Box(-np.inf, np.inf, (4,), np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._seen(), -float(np.square(action).sum()), False, False, {}


envs.register("normalisation/Steered-v0", Steered)
