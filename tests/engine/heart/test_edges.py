"""Edges: absent targets, rows without a message, what a divergence leaves behind, random numbers of a user's module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import DivergenceError, Simulation
from tests.contracts.builders import GOAL, Document
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import scenario_of
from tests.numerics.linear import leaves, said, simulation_of
from tests.numerics.recurring import BATCH, STEPS, played
from tests.reference.backend import Chosen, reference

MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "none"}


@pytest.mark.parametrize("kind", ["linear", "local", "sobolev_label"])
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_absent_target_teaches_nothing_whatever_stands_in_its_place(kind: str, backend: Chosen) -> None:
    runs: list[list[torch.Tensor]] = []
    for value in (1e6, float("nan")):
        source = played(endless=True)
        present = torch.tensor([True, False] * 2).expand(STEPS, BATCH)
        source.shown["y"] = torch.where(present.unsqueeze(2), source.shown["y"], value)
        source.shown["_y"] = present
        agents: Any = {
            "a": {"observes": ["x"], "network": MLP},
            "b": {"network": MLP, "objective": {**GOAL, "target": "y"}},
        }
        target = {} if kind == "linear" else {"target": "y"}
        channel = {"from": "a", "to": "b", "gradient": {"kind": kind, **target}}
        with simulation_of(agents, [channel], source, backend) as simulation:
            for _ in range(5):
                assert simulation.step()["losses"]["b"] < 100
            predictor = simulation.channels["a->b"].synthetic_gradient
            assert predictor is not None
            runs.append([*all_parameters(simulation), *predictor.parameters.values()])
    assert all(bool(p.isfinite().all()) for p in runs[0])
    assert equal(*runs)


def test_rows_without_a_message_count_as_zeros_in_running_statistics() -> None:
    source = played(endless=True)
    norm = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    agents = {"a": {"observes": ["x"]}, "b": {"network": norm, "objective": {**GOAL, "target": "y"}}}
    with simulation_of(agents, [{"from": "a", "to": "b", "link": {"drop": 0.5}}], source) as simulation:
        p = leaves(simulation.agents["b"])
        simulation.step()
        message = simulation.channels["a->b"].messages[0]
        assert 0 < int(message.counted.sum()) < BATCH
        hidden = said(p, "0", torch.where(message.counted.unsqueeze(1), message.received, 0.0)).detach()
        statistics = simulation.agents["b"].buffers
        torch.testing.assert_close(statistics["0.norm.mean"], 0.1 * hidden.mean(0))
        torch.testing.assert_close(statistics["0.norm.var"], 0.9 + 0.1 * hidden.var(0))


def test_a_divergence_leaves_what_was_learned_and_cannot_be_gone_on_from(tmp_path: Path) -> None:
    """Running statistics of predictors too; so it is after a checkpoint."""
    scene = {"a": {"observes": ["image"]}, "b": {"objective": {"kind": "classification", "target": "label"}}}
    gradient = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    simulation = Simulation(scenario_of(scene, [{"from": "a", "to": "b", "size": 4, "gradient": gradient}]))
    simulation.run(steps=10)
    before = simulation.evaluate()
    predictor = simulation.channels["a->b"].synthetic_gradient
    assert predictor is not None
    statistics = {name: b.clone() for name, b in predictor.buffers.items()}
    weight = simulation.agents["b"].parameters["objective.weight"]
    kept = weight.detach().clone()
    weight.data.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="step 11"):
        simulation.step()
    weight.data.copy_(kept)
    assert simulation.evaluate() == before
    assert equal(statistics.values(), predictor.buffers.values())
    saved = Simulation.load(simulation.save(tmp_path / "saved"))
    assert saved.evaluate() == before
    for one in (simulation, saved):
        with pytest.raises(DivergenceError, match="step 11"):
            one.step()
