"""Looking at a simulation: both backends show the same, and no bit changes by it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.probes.ceiling import ceilings
from tests.contracts.builders import Document, ring
from tests.contracts.twins import differences, facts, twins

MLP: Document = {"gradient": {"kind": "mlp", "hidden": [4], "context": ["label", "returned"]}}
DIGITS: Document = {"id": "antiphon/Digits-v0", "hold": 7, "episode": "example"}


def on_digits() -> tuple[Simulation, Simulation]:
    """A ring of recurrent agents over pictures, by either backend, in mid-window."""
    agent = {"observes": ["left_half"], "network": {"kind": "gru", "size": 6}, "clock": {"unroll": 3}}
    reference, cohort = twins(ring(agent=agent, channel=MLP, state=MLP, env=DIGITS))
    for simulation in (reference, cohort):
        simulation.run(10)
    return reference, cohort


def close(one: Any, other: Any, *, tolerance: float = 1e-9) -> None:
    """Hold two numbers, tensors or trees of them to each other."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            close(value, other[key], tolerance=tolerance)
    elif one is None or isinstance(one, str):
        assert one == other
    else:
        one, other = torch.as_tensor(one), torch.as_tensor(other)
        assert torch.allclose(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)


def test_evaluation_and_composition() -> None:
    reference, cohort = on_digits()
    before = facts(cohort)
    for links in ("perfect", "as_run"):
        scores = [simulation.evaluate("validation", links) for simulation in (reference, cohort)]
        close(scores[0].agents, scores[1].agents)
    x = torch.rand(5, 1, 8, 4, dtype=torch.float64)
    close(*(simulation.compose()(left_half=x) for simulation in (reference, cohort)))
    modules = [simulation.agents["n1"].module for simulation in (reference, cohort)]
    assert str(modules[0]) == str(modules[1])
    assert not list(differences(before, facts(cohort), tolerance=0.0))


def test_probes() -> None:
    reference, cohort = on_digits()
    before = facts(cohort)
    probes = [simulation.probe(horizon=4) for simulation in (reference, cohort)]
    assert probes[0].keys() == probes[1].keys()
    for name, probe in probes[0].items():
        close(probe.true, probes[1][name].true)
        close(probe.synthetic, probes[1][name].synthetic)
    assert not list(differences(before, facts(cohort), tolerance=0.0))


@pytest.mark.nightly
def test_ceilings() -> None:
    reference, cohort = on_digits()
    before = facts(cohort)
    found = ({name: row.to_dict() for name, row in ceilings(s).items()} for s in (reference, cohort))
    close(*found, tolerance=1e-5)
    assert not list(differences(before, facts(cohort), tolerance=0.0))


def test_value() -> None:
    reference, cohort = on_digits()
    before = facts(cohort)
    found = [s.value(channels=["n0->n1"], horizon=4, repeats=2, ahead=3) for s in (reference, cohort)]
    for name in ("all channels", "n0->n1"):
        rows = [values[name] for values in found]
        close(*({"true": row.true, "value": row.value, "why": row.why} for row in rows), tolerance=1e-6)
    assert not list(differences(before, facts(cohort), tolerance=0.0))


def test_figures_recordings_and_the_graph() -> None:
    reference, cohort = on_digits()
    wanted = {
        "n0->n1": ["message", "prediction", "delta"],
        "n2->n2:state": ["message", "prediction", "delta"],
    }
    kept = [[s.channels[name].record(some) for name, some in wanted.items()] for s in (reference, cohort)]
    for simulation in (reference, cohort):
        simulation.run(9)
    for ours, theirs in zip(*kept, strict=True):
        assert ours.steps == theirs.steps
        for quantity in ours.quantities:
            close(ours.stack(quantity), theirs.stack(quantity))
    close(*(simulation.channels["n0->n1"].figures() for simulation in (reference, cohort)), tolerance=1e-6)
    nodes = [simulation.graph.nodes(data=True) for simulation in (reference, cohort)]
    assert [name for name, _ in nodes[0]] == [name for name, _ in nodes[1]]
