"""Edges of the engine: windows without a tick, targets that are absent, what a divergence leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import DivergenceError
from tests.engine.scenes import CLASSIFY, scenario_of


def scene(*parts: Any, **training: Any) -> Simulation:
    return Simulation(scenario_of(*parts, **training))


@pytest.mark.parametrize("coupling", ["decoupled", "detached"])
def test_a_window_in_which_an_agent_never_ticks_is_no_wait(coupling: str) -> None:
    goal = {"kind": "classification", "target": "label", "when": "each"}
    simulation = scene(
        {
            "a": {"observes": ["image"], "clock": {"period": 7}},
            "b": {"objective": goal, "clock": {"period": 3, "unroll": "episode"}},
        },
        [{"from": "a", "to": "b", "size": 4, "coupling": coupling}],
        {"id": "antiphon/Digits-v0", "hold": 2, "episode": "example"},
    )
    simulation.run(steps=60)
    assert simulation.agents["b"].updates > 0


def masked(simulation: Simulation, absent: torch.Tensor, value: float) -> None:
    """Make a target absent in some environments, with nonsense in its place."""
    signals = simulation.world.step_signals.signals
    signals["_y"] = torch.logical_not(absent)
    signals["y"] = torch.where(absent.unsqueeze(1), value, signals["y"])


@pytest.mark.parametrize("kind", ["linear", "local"])
def test_an_absent_target_teaches_nothing_whatever_stands_in_its_place(kind: str) -> None:
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    runs = []
    for value in (1e6, float("nan")):
        simulation = scene(
            {
                "a": {"observes": ["x"], "network": {"kind": "mlp", "hidden": [5], "norm": "none"}},
                "b": {
                    "network": {"kind": "mlp", "hidden": [5], "norm": "none"},
                    "objective": {"kind": "regression", "target": "y"},
                },
            },
            [{"from": "a", "to": "b", "size": 4, "norm": "none", "gradient": {"kind": kind, "target": "y"}}],
            from_tensors(x=x, y=x.sum(1, keepdim=True), training_only=["y"]),
        )
        absent = torch.tensor([True, False] * 4)
        for _ in range(5):
            masked(simulation, absent, value)
            info = simulation.step()
            assert info["losses"]["b"] < 100
        runs.append(simulation)
    for name in "ab":
        for key, p in runs[0].agents[name].parameters.items():
            assert bool(p.isfinite().all())
            assert torch.equal(p, runs[1].agents[name].parameters[key]), (name, key)


def test_a_divergence_leaves_what_was_learned_and_cannot_be_gone_on_from(tmp_path: Path) -> None:
    goal = {"kind": "classification", "target": "label"}
    simulation = scene(
        {"a": {"observes": ["image"]}, "b": {"objective": goal}},
        [{"from": "a", "to": "b", "size": 4, "gradient": {"kind": "mlp", "hidden": [4]}}],
        {"id": "antiphon/Digits-v0"},
    )
    simulation.run(steps=30)
    before = simulation.evaluate()
    predictor = simulation._system.channels["a->b"].predictor
    assert predictor is not None
    statistics = dict(predictor.buffers)
    simulation.world.step_signals.signals["image"] = simulation.world.step_signals.signals["image"] * float(
        "nan"
    )
    with pytest.raises(DivergenceError, match="step 30"):
        simulation.step()
    assert simulation.evaluate() == before
    assert all(torch.equal(b, predictor.buffers[k]) for k, b in statistics.items())
    with pytest.raises(DivergenceError, match="step 30"):
        simulation.step()
    saved = Simulation.load(simulation.save(tmp_path / "saved"))
    assert saved.evaluate() == before
    with pytest.raises(DivergenceError, match="step 30"):
        saved.step()


@pytest.mark.parametrize("backend", ["reference", "cohort"])
def test_rows_without_a_message_count_as_zeros(backend: str) -> None:
    net = {"kind": "mlp", "hidden": [4], "norm": "batch"}
    receiver = {"network": net, "objective": CLASSIFY}
    agents = {"a": {"observes": ["image"], "network": net}, "b": receiver, "c": receiver}
    link = {"from": "a", "size": 3, "norm": "none", "link": {"drop": 0.5}}
    still = {"kind": "sgd", "lr": 1e-300}
    scenario = scenario_of(agents, [{**link, "to": to} for to in "bc"], optimiser=still)
    with Simulation(scenario, dtype=torch.float64, backend=backend) as simulation:
        simulation.step()
        for name in "bc":
            record = simulation._system.channels[f"a->{name}"].ledger.records[0]
            assert record.lost is not None
            assert 0 < int(record.lost.sum()) < 8
            rows = torch.where(record.lost.unsqueeze(1), 0.0, record.received)
            learner = simulation._system.agents[name].learner
            hidden = F.linear(rows, learner.parameters["0.weight"], learner.parameters["0.bias"])
            torch.testing.assert_close(learner.buffers["0.norm.mean"], 0.1 * hidden.mean(0).detach())
            var = 0.9 + 0.1 * hidden.var(0).detach()
            torch.testing.assert_close(learner.buffers["0.norm.var"], var)
