"""Errors of users' objects within a run: their own exceptions, with notes that name the agent and the step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon

_GOAL = {"kind": "classification", "target": "label"}


@pytest.fixture(scope="module")
def env() -> Any:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(60, 6, generator=random)
    return antiphon.envs.from_tensors(x=x, label=torch.randint(3, (60,), generator=random))


class Once(nn.Linear):
    """A network that fails for more than so many examples."""

    def __init__(self, most: int) -> None:
        super().__init__(6, 3)
        self.most = most

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if len(x) <= self.most else x[:, 1:])


_SHORT = nn.CrossEntropyLoss(reduction="none", weight=torch.ones(2))
_FAILING: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a network": ({"network": Once(3)}, ["agents.mind", "step 1"]),
    "a loss of torch": (
        {"objective": {"kind": _SHORT, "target": "label"}},
        ["agents.mind.objective: CrossEntropyLoss, output [8, 3], target [8]", "step 1"],
    ),
    "a batch norm that cannot train on one example": (
        {"network": nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))},
        ["agents.mind", "step 1"],
    ),
}


@pytest.mark.parametrize("case", _FAILING)
def test_an_object_that_fails_in_a_run_is_noted_with_its_agent_and_step(env: Any, case: str) -> None:
    agent, notes = _FAILING[case]
    mind = {"observes": ["x"], "objective": _GOAL, **agent}
    batch = 1 if "batch norm" in case else 8
    scenario = antiphon.Scenario(scenario="own", env=env, agents={"mind": mind}, training={"batch": batch})
    with antiphon.Simulation(scenario) as simulation, pytest.raises((RuntimeError, ValueError)) as caught:
        simulation.step()
    assert caught.value.__notes__ == [f"antiphon: {note}" for note in notes]


def test_an_object_that_fails_in_an_evaluation_is_noted_with_its_agent(env: Any) -> None:
    mind = {"observes": ["x"], "objective": _GOAL, "network": Once(8)}
    scenario = antiphon.Scenario(scenario="own", env=env, agents={"mind": mind}, training={"batch": 8})
    with antiphon.Simulation(scenario) as simulation:
        simulation.step()
        with pytest.raises(RuntimeError) as caught:
            simulation.evaluate("train")
    assert "antiphon: agents.mind" in caught.value.__notes__
