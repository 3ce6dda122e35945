"""Looking at a simulation: both backends show the same, and no bit changes by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from antiphon import Simulation
from tests.contracts.builders import Document, ring
from tests.contracts.twins import differences, facts, twins
from tests.kit.running import newest_metrics
from tests.kit.tiers import sampled

MLP: Document = {"gradient": {"kind": "mlp", "hidden": [4], "context": ["label", "returned"]}}
DIGITS: Document = {"id": "antiphon/Digits-v0", "hold": 7, "episode": "example"}
SEEN = torch.rand(5, 1, 8, 4, dtype=torch.float64)


def on_digits() -> tuple[Simulation, Simulation]:
    """A ring of recurrent agents over pictures, by either backend, in mid-window."""
    agent = {"observes": ["left_half"], "network": {"kind": "gru", "size": 6}, "clock": {"unroll": 3}}
    reference, cohort = twins(ring(agent=agent, channel=MLP, state=MLP, env=DIGITS))
    for simulation in (reference, cohort):
        simulation.run(10)
    return reference, cohort


def probed(simulation: Simulation) -> Any:
    probes = simulation.probe(horizon=4)
    return {name: {"true": probe.true, "synthetic": probe.synthetic} for name, probe in probes.items()}


LOOKS: dict[str, tuple[Callable[[Simulation], Any], float]] = {
    "evaluation": (lambda s: s.evaluate("validation").agents, 1e-9),
    "evaluation over links": (lambda s: s.evaluate("validation", "as_run").agents, 1e-9),
    "composition": (lambda s: s.compose()({"left_half": SEEN}), 1e-9),
    "module": (lambda s: str(s.agents["n1"].module), 0.0),
    "probes": (probed, 1e-9),
    "metrics": (lambda s: newest_metrics(s, "n0->n1"), 1e-6),
}
"""What is looked at, and how far the backends may be apart in it."""


@pytest.mark.long
@pytest.mark.parametrize("look", sampled(LOOKS, 2, "nightly"))
def test_what_is_looked_at_is_the_same_and_changes_no_bit(look: str) -> None:
    show, tolerance = LOOKS[look]
    reference, cohort = on_digits()
    before = facts(cohort)
    ours, theirs = show(reference), show(cohort)
    assert not list(differences(ours, theirs, tolerance=tolerance))
    assert not list(differences(before, facts(cohort), tolerance=0.0))
