"""Means of loss and metric: their state, also as earlier versions wrote it."""

from __future__ import annotations

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.engine.step.report import MeanAccumulator


@pytest.mark.parametrize("count", [6, torch.tensor(6)])
def test_sums_of_an_earlier_version_are_restored_and_added_to(count: int | torch.Tensor) -> None:
    """They were tensors without a dimension, and so was the count of an agent whose targets a signal marks."""
    with Simulation("two-timescales", dtype=torch.float64) as simulation:
        means = simulation.train_means
        means.load_state_dict({"A": [torch.tensor(2.0), torch.tensor(3.0), count]})
        batch = simulation._system.batch
        assert means.means() == {"A": {"loss": 2.0 * batch / 6, "accuracy": 0.5}}
        again = MeanAccumulator(simulation._system)
        again.load_state_dict(means.state_dict())
        assert again.means() == means.means()
