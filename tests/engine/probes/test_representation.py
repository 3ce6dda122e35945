"""Representations: dissimilarity, similarity, linear probes, weight norms, and the loss a gradient implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from antiphon.engine.probes.linear_probe import linear_probe, ridge_accuracy
from antiphon.engine.probes.representation import dissimilarity, rdm, represent, similarity, weight_norms
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
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


def test_linear_probes_read_what_is_there() -> None:
    labels = RANDOM.integers(3, size=400)
    clear = np.eye(3)[labels] + 0.05 * RANDOM.normal(size=(400, 3))
    blind = RANDOM.normal(size=(400, 3))
    score = ridge_accuracy(clear[:200], labels[:200], clear[200:], labels[200:], 3)
    assert (score.train, score.test) == (1.0, 1.0)
    assert ridge_accuracy(blind[:200], labels[:200], blind[200:], labels[200:], 3).test < 0.5
    wide = np.concatenate([clear, RANDOM.normal(size=(400, 300))], 1)
    few, many = wide[:100], wide[:, :90]
    primal = ridge_accuracy(many[:100], labels[:100], many[100:], labels[100:], 3)
    assert primal.test > 0.8
    assert ridge_accuracy(few, labels[:100], wide[100:], labels[100:], 3).train == 1.0
    constant = np.concatenate([clear, np.full((400, 1), 7.0)], 1)
    assert ridge_accuracy(constant[:200], labels[:200], constant[200:], labels[200:], 3).test == 1.0


def test_both_forms_of_ridge_regression_are_one() -> None:
    labels = RANDOM.integers(3, size=60)
    made = RANDOM.normal(size=(60, 59))
    one = ridge_accuracy(made, labels, made, labels, 3, penalty=0.3)
    other = ridge_accuracy(np.repeat(made, 2, 1), labels, np.repeat(made, 2, 1), labels, 3, penalty=0.6)
    assert one == other  # every feature twice: as if the penalty were half


def test_probes_of_agents_tell_trained_ones_from_others() -> None:
    trained, fresh = simulate(train=200), simulate()
    scores, before = linear_probe(trained, 100), linear_probe(fresh, 100)
    assert list(scores) == ["a", "b", "c"]
    assert scores["c"].test > before["c"].test + 0.1
    assert scores["c"].test > 0.7


def test_weight_norms_are_by_agent_and_layer() -> None:
    simulation = simulate()
    found = weight_norms(simulation)
    weight = simulation._system.agents["b"].learner.parameters["0.weight"]
    assert found["b"] == {"0": pytest.approx(weight.norm().item()), "to_c": pytest.approx(found["b"]["to_c"])}
    assert set(found["c"]) == {"0", "objective"}


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


def test_without_a_label_examples_stay_in_order_and_probes_refuse() -> None:
    simulation = simulate({"kind": "regression", "target": "score"}, gradient={"context": ["score"]})
    found = represent(simulation, examples=20)
    assert (found.target, len(found.labels)) == (None, 0)
    with pytest.raises(ScenarioError, match="no agent classifies"):
        linear_probe(simulation)
