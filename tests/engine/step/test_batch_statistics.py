"""Batch statistics run over all rows of a tick, also those in which no message came (docs/design.md)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario


@pytest.mark.parametrize("backend", ["reference", "cohort"])
def test_rows_without_a_message_count_as_zeros(backend: str) -> None:
    net = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    goal = {"kind": "classification", "target": "label"}
    receiver = {"network": net, "objective": goal}
    link = {"size": 3, "norm": "none", "link": {"drop": 0.5}}
    document = {
        "scenario": "lossy",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": {"a": {"observes": ["image"], "network": net}, "b": receiver, "c": receiver},
        "channels": [{"from": "a", "to": to, **link} for to in "bc"],
        "training": {"batch": 8, "optimiser": {"kind": "sgd", "lr": 1e-300}},
    }
    with Simulation(Scenario.model_validate(document), dtype=torch.float64, backend=backend) as simulation:
        simulation.step()
        for name in "bc":
            record = simulation.system.channels[f"a->{name}"].ledger.records[0]
            assert record.lost is not None
            assert 0 < int(record.lost.sum()) < 8
            rows = torch.where(record.lost.unsqueeze(1), 0.0, record.received)
            learner = simulation.system.agents[name].learner
            hidden = F.linear(rows, learner.parameters["0.weight"], learner.parameters["0.bias"])
            torch.testing.assert_close(learner.buffers["0.norm.mean"], 0.1 * hidden.mean(0).detach())
            var = 0.9 + 0.1 * hidden.var(0).detach()
            torch.testing.assert_close(learner.buffers["0.norm.var"], var)
