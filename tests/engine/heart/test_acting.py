"""Acting agents without a policy: what one says is the environment's action, at the steps at which it ticks (semantics 13)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.envs import TorchVectorEnv
from antiphon.envs.base import StepResult
from tests.contracts.builders import GOAL, Play
from tests.numerics.linear import leaves, said, simulation_of
from tests.reference.backend import Chosen, reference


class Watched(Play):
    """`Play` that keeps what was seen and done at each step."""

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env = super().make(batch=batch, **where)
        step, shown = env.step, env._shown  # type: ignore[attr-defined]

        def noted(actions: Any = None) -> StepResult:
            self.done.append((shown()[0]["x"], actions))
            return step(actions)

        env.step = noted  # type: ignore[method-assign]
        return env

    @property
    def done(self) -> list[tuple[Tensor, Tensor | None]]:
        """What was seen, and done, step by step."""
        found: list[tuple[Tensor, Tensor | None]] = self.__dict__.setdefault("_done", [])
        return found


@pytest.mark.cases(2)
@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize(
    ("period", "phase", "acts"), [(1, 0, True), (2, 1, True), (3, -1, True), (1, 0, False)]
)
def test_it_acts_when_it_ticks_and_only_then(period: int, phase: int, acts: bool, backend: Chosen) -> None:
    source = Watched()
    clock = {"period": period, "phase": phase, "unroll": 100}
    agents = {
        "looker": {"observes": ["y"], "objective": GOAL},
        "actor": {"observes": ["x"], "objective": GOAL, "acts": acts, "clock": clock},
    }
    with simulation_of(agents, [], source, backend, batch=4) as simulation:
        p = leaves(simulation.agents["actor"])
        simulation.run(9)
    assert len(source.done) == 9
    for step, (seen, action) in enumerate(source.done):
        assert (action is not None) == (acts and step % period == phase % period)
        if action is not None:
            assert not action.requires_grad
            torch.testing.assert_close(action, said(p, "objective", seen).detach(), atol=1e-14, rtol=0)
