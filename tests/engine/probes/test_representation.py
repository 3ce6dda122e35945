"""Representations: dissimilarity, similarity, linear probes, weight norms, and the loss a gradient implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from antiphon.engine.probes.representation import dissimilarity, rdm, represent, similarity
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of

GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(300, 5, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
NET = {"kind": "mlp", "hidden": [8], "norm": "none", "activation": "tanh"}
RANDOM = np.random.default_rng(0)


def simulate(
    objective: dict[str, Any] | None = None,
    *,
    train: int = 0,
    dtype: torch.dtype = torch.float32,
    **channel: Any,
) -> Simulation:
    env = from_tensors(x=X, label=LABEL, score=X[:, :2], test=0.4, training_only=["label", "score"])
    agents: dict[str, Any] = {name: {"network": NET} for name in "abc"}
    agents["a"]["observes"] = ["x"]
    agents["c"]["objective"] = objective or CLASSIFY
    common = {"size": 3, "norm": "none", "gradient": {"context": ["label"]}, **channel}
    channels = [{"from": s, "to": r, **common} for s, r in ("ab", "bc")]
    scenario = scenario_of(agents, channels, env, batch=32, steps=400, optimiser={"kind": "adam", "lr": 0.01})
    simulation = Simulation(scenario, seed=1, dtype=dtype)
    simulation.run(train)
    return simulation


def test_dissimilarity_is_one_minus_correlation() -> None:
    made = RANDOM.normal(size=(20, 6))
    found = dissimilarity(made)
    np.testing.assert_allclose(found, 1 - np.corrcoef(made), atol=1e-12)
    np.testing.assert_allclose(dissimilarity(3 * made + 1), found, atol=1e-12)
    made[3] = 2.0
    found = dissimilarity(made)
    assert found[3, 3] == 0
    assert np.all(np.delete(found[3], 3) == 1)


def test_similarity_says_who_sees_the_same() -> None:
    made = RANDOM.normal(size=(40, 6))
    rotated = made @ np.linalg.qr(RANDOM.normal(size=(6, 6)))[0]
    other = RANDOM.normal(size=(40, 6))
    centred = {"a": made - made.mean(1, keepdims=True), "b": rotated, "c": other}
    found = similarity({name: dissimilarity(one) for name, one in centred.items()})
    np.testing.assert_allclose(np.diag(found), 1)
    np.testing.assert_allclose(found, found.T)
    assert found[0, 1] > 0.5 > abs(found[0, 2])


def test_examples_are_sorted_by_label_and_shown_as_the_agents_see_them() -> None:
    simulation = simulate(train=5)
    found = represent(simulation, examples=50)
    assert found.target == "label"
    assert found.labels.tolist() == sorted(found.labels.tolist())
    assert {name: made.shape for name, made in found.agents.items()} == dict.fromkeys("abc", (50, 8))
    rows = simulation.world.env._table.splits["test"]  # type: ignore[attr-defined]
    kept = rows[torch.arange(50) * len(rows) // 50]
    kept = kept[LABEL[kept].argsort(stable=True)]
    learner = simulation._system.agents["a"].learner
    expected = torch.tanh(X[kept] @ learner.parameters["0.weight"].T + learner.parameters["0.bias"])
    np.testing.assert_allclose(found.agents["a"], expected.numpy(force=True), atol=1e-5)
    assert rdm(simulation, 50)["b"].shape == (50, 50)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda s: represent(s, examples=0), "examples: must be at least 1, not 0"),
        (lambda s: represent(s, split="tset"), "no split 'tset'; did you mean 'test'"),
    ],
)
def test_what_cannot_be_looked_at_is_one_clear_line(call: Any, expected: str) -> None:
    with one_line(expected):
        call(simulate(coupling="detached"))


def test_without_a_label_examples_stay_in_order() -> None:
    simulation = simulate({"kind": "regression", "target": "score"}, gradient={"context": ["score"]})
    found = represent(simulation, examples=20)
    assert (found.target, len(found.labels)) == (None, 0)
