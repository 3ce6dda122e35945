"""Representations: dissimilarity, similarity, linear probes, weight norms, and the loss a gradient implies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from antiphon.comms.model import ContextSpec
from antiphon.comms.synthetic_gradients import PREDICTORS
from antiphon.engine.probes.implied import implied_loss, quadratic
from antiphon.engine.probes.linear_probe import linear_probe, ridge_accuracy
from antiphon.engine.probes.representation import dissimilarity, rdm, represent, similarity, weight_norms
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.errors import ScenarioError
from antiphon.nets.schedules import Rate
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
    learner = simulation.system.agents["a"].learner
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
    weight = simulation.system.agents["b"].learner.parameters["0.weight"]
    assert found["b"] == {"0": pytest.approx(weight.norm().item()), "to_c": pytest.approx(found["b"]["to_c"])}
    assert set(found["c"]) == {"0", "objective"}


def test_a_linear_gradient_implies_a_quadratic_loss() -> None:
    simulation = simulate(train=20, dtype=torch.float64)
    predictor = simulation.system.channels["b->c"].predictor
    assert predictor is not None
    weight = predictor.parameters["last.weight"].data
    weight[:, :3] = (weight[:, :3] + weight[:, :3].T) / 2
    found = implied_loss(simulation, ["b->c"], examples=60, points=5)["b->c"]
    assert found.symmetry == pytest.approx(1.0)
    form = quadratic(predictor)
    messages, labels = _messages(simulation, 60)
    mean = messages.mean(0, keepdims=True).repeat(60, 0)
    context = np.eye(3)[labels]
    for point, share in enumerate(np.linspace(0, 1, 5)):
        at = mean + share * (messages - mean)
        np.testing.assert_allclose(
            found.implied[:, point], form.loss(at, context) - form.loss(mean, context), atol=1e-10
        )


def _messages(simulation: Simulation, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rows = simulation.world.env._table.splits["test"]  # type: ignore[attr-defined]
    kept = rows[torch.arange(count) * len(rows) // count]
    x = X[kept].double()
    for name in ("a", "b"):
        x = simulation.agents[name].module(x)["to_b" if name == "a" else "to_c"]
    return x.numpy(force=True), LABEL[kept].numpy()


def test_an_exact_gradient_implies_the_true_loss_but_for_a_constant() -> None:
    simulation = simulate({"kind": "regression", "target": "score"}, dtype=torch.float64)
    system = simulation.system
    network = system.agents["c"].learner.parameters
    for name in ("0.weight", "0.bias"):  # a linear receiver: small inputs to tanh, undone behind it
        network[name].data *= 1e-4
    network["objective.weight"].data *= 1e4
    predictor = system.channels["b->c"].predictor
    assert predictor is not None
    a = (network["objective.weight"] @ network["0.weight"]).data
    predictor.parameters["last.weight"].data.zero_()
    predictor.parameters["last.weight"].data[:, :3] = a.T @ a  # the error is a mean over two components
    found = implied_loss(simulation, ["b->c"], examples=40)["b->c"]
    assert found.changes < 0.999  # the pull of the target is missing
    curved = found.implied - found.implied[:, -1:] * np.linspace(0, 1, 9)  # what a linear term leaves alone
    true = found.true - found.true[:, :1]
    true = true - true[:, -1:] * np.linspace(0, 1, 9)
    np.testing.assert_allclose(curved, true, atol=1e-4)


def test_a_trained_gradient_knows_the_loss_and_an_untrained_one_nothing() -> None:
    trained = implied_loss(simulate(train=300), examples=100)
    assert list(trained) == ["a->b", "b->c"]
    assert trained["b->c"].changes > 0.7
    fresh = implied_loss(simulate(), ["b->c"], examples=100)["b->c"]
    assert not fresh.implied.any()
    assert np.isnan(fresh.correlation)
    assert fresh.offset == pytest.approx(fresh.true.mean())


@pytest.mark.parametrize("kind", ["mlp", "local", "critic", "sobolev", "sobolev_label"])
def test_every_kind_of_gradient_implies_a_loss(kind: str) -> None:
    gradient: dict[str, Any] = {"kind": kind, "context": ["label"]}
    if kind in ("local", "sobolev_label"):
        gradient["target"] = "label"
    found = implied_loss(simulate(train=20, gradient=gradient), ["b->c"], examples=30)["b->c"]
    assert found.symmetry is None
    assert np.isfinite(found.implied).all()


def test_only_linear_gradients_are_quadratic() -> None:
    predictor = PREDICTORS["mlp"](
        (3,),
        [ContextSpec("label", (), 3)],
        generator=torch.Generator(),
        optimiser={"kind": "adam"},
        rate=Rate(base=0.1, horizon=1),
        hidden=(4,),
    )
    with pytest.raises(ScenarioError, match="only a `linear` gradient"):
        quadratic(predictor)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda s: implied_loss(s, ["b->d"]), "channels: no channel 'b->d'; did you mean 'b->c'"),
        (lambda s: implied_loss(s, ["a->b"]), "a->b has no synthetic gradient, which alone implies a loss"),
        (lambda s: implied_loss(s, points=1), "points: a line needs at least 2, not 1"),
        (lambda s: implied_loss(s, examples=0), "examples: must be at least 1, not 0"),
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
