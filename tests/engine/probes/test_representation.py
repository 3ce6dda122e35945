"""Representations: what agents make of examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from antiphon import Simulation
from antiphon.envs import from_tensors
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.documented import represent

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(300, 5, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
NET = {"kind": "mlp", "hidden": [8], "norm": "none", "activation": "tanh"}


def simulate(objective: dict[str, Any], steps: int = 0) -> Simulation:
    env = from_tensors(x=X, label=LABEL, score=X[:, :2], test=0.4, training_only=["label", "score"])
    agents: dict[str, Any] = {name: {"network": NET} for name in "abc"}
    agents["a"]["observes"], agents["c"]["objective"] = ["x"], objective
    channels = [
        {"from": s, "to": r, "size": 3, "norm": "none", "coupling": "detached"} for s, r in ("ab", "bc")
    ]
    simulation = Simulation(scenario_of(agents, channels, env, batch=32), seed=1)
    simulation.run(steps)
    return simulation


def test_examples_are_sorted_by_label_and_shown_as_the_agents_see_them() -> None:
    simulation = simulate(CLASSIFY, 5)
    found = represent(simulation, examples=50)
    assert found.target == "label"
    assert found.labels.tolist() == sorted(found.labels.tolist())
    assert {name: made.shape for name, made in found.agents.items()} == dict.fromkeys("abc", (50, 8))
    rows = simulation.world.env._table.splits["test"]  # type: ignore[attr-defined]
    kept = rows[torch.arange(50) * len(rows) // 50]
    kept = kept[LABEL[kept].argsort(stable=True)]
    parameters = simulation.agents["a"].parameters
    expected = torch.tanh(X[kept] @ parameters["0.weight"].T + parameters["0.bias"])
    np.testing.assert_allclose(found.agents["a"], expected.numpy(force=True), atol=1e-5)


def test_without_a_label_examples_stay_in_order() -> None:
    simulation = simulate({"kind": "regression", "target": "score"})
    found = represent(simulation, examples=20)
    assert (found.target, len(found.labels)) == (None, 0)


def test_where_there_is_a_label_at_every_site_examples_stay_in_order() -> None:
    labels = torch.arange(300 * 4).view(300, 4) % 3
    env = from_tensors(x=torch.randn(300, 4, generator=GENERATOR), label=labels, training_only=["label"])
    agent = {"observes": ["x"], "network": torch.nn.Linear(4, 12), "objective": CLASSIFY}
    with Simulation(scenario_of({"a": agent}, env=env)) as simulation:
        shown = represent(simulation, examples=15)
        split = next(iter(simulation.world.env.batches("test", 300)))
    assert (shown.target, shown.labels.shape) == ("label", (15, 4))
    assert shown.labels[0].tolist() == split["label"][0].tolist()
