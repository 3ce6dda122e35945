"""What a user hands over as a loss keeps its meaning, or is refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from antiphon import Simulation
from tests.engine.scenes import scenario_of


def mixed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Losses of samples that depend on the others in the batch."""
    return cross_entropy(output, target, reduction="none") * (1 + output.square().mean())


def test_a_loss_is_called_for_each_agent_of_a_stack_unless_its_rows_are_independent() -> None:
    agent = {"observes": ["image"], "objective": {"kind": mixed, "target": "label"}}
    scenario, rows = scenario_of({"a": agent, "b": agent}, batch=8), []

    def apart(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        rows.append(len(output))
        return cross_entropy(output, target, reduction="none")

    losses = []
    for stacked in (True, False):
        with Simulation(scenario, dtype=torch.float64, stacked=stacked) as simulation:
            losses.append([float(loss) for _ in range(3) for loss in simulation.step()["losses"].values()])
    assert losses[0] == pytest.approx(losses[1], abs=1e-12)
    for independent, expected in ((False, [8, 8]), (True, [16])):
        apart.stacked = independent  # type: ignore[attr-defined]
        agent["objective"] = {"kind": apart, "target": "label"}
        with Simulation(scenario_of({"a": agent, "b": agent}, batch=8)) as simulation:
            rows.clear()
            simulation.step()
        assert rows == expected
