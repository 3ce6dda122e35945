"""Evaluation: the composed system on a split; no training-only signal has a say in it (semantics 24)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.records import Tick
from antiphon.engine.inference import evaluation
from antiphon.engine.inference.links import Links
from antiphon.engine.inference.rollout import EnvironmentRollout
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.forward import ForwardPass
from antiphon.envs import from_tensors, registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.tensors import Source
from tests.engine.numbers import assert_same_state, kept, one_line
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT = 1300
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(COUNT, 6, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + (X[:, 1] > 0).long()
SCORE = X[:, :2].sum(1)


def source(shuffled: bool = False, **options: Any) -> Source:
    order = (
        torch.randperm(COUNT, generator=torch.Generator().manual_seed(1)) if shuffled else torch.arange(COUNT)
    )
    return from_tensors(
        x=X, label=LABEL[order], score=SCORE[order], training_only=["label", "score"], **options
    )


def simulate(env: Any) -> Simulation:
    net = {"kind": "mlp", "hidden": [8]}
    agents = {
        "a": {"observes": ["x"], "network": net},
        "b": {"network": net, "objective": CLASSIFY},
        "c": {"network": net, "objective": {"kind": "regression", "target": "score"}},
    }
    channels = [{"from": "a", "to": to, "size": 4, "gradient": {"context": ["label"]}} for to in "bc"]
    adam = {"kind": "adam", "lr": 0.01}
    return Simulation(scenario_of(agents, channels, env, readout="b", batch=32, steps=200, optimiser=adam))


def test_shuffled_training_signals_change_no_bit_but_the_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(source())
    simulation.run(50)
    ports: list[Tensor] = []
    evaluate = ForwardPass.evaluate

    def noted(forward_pass: ForwardPass, tick: Tick, *rest: Any, **settings: Any) -> Any:
        after = evaluate(forward_pass, tick, *rest, **settings)
        ports.extend(port.clone() for part in tick.parts for port in part.ports.values())
        return after

    monkeypatch.setattr(ForwardPass, "evaluate", noted)
    runs = []
    for shuffled in (False, True):
        ports.clear()
        env = source(shuffled).make(batch=4)
        found = evaluation.evaluate(simulation._system, env, ("b",), "test")
        runs.append((found, list(ports)))
    (true, one), (false, other) = runs
    assert len(one) == len(other) == 4
    assert all(torch.equal(p, q) for p, q in zip(one, other, strict=True))
    assert true.accuracy > false.accuracy + 0.2
    assert true.agents["c"]["error"] < false.agents["c"]["error"]


def test_every_example_counts_once_in_ragged_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(source(test=0.5))
    simulation.run(30)
    one = simulation.evaluate()
    assert (one.examples, one.split, one.readout) == (650, "test", ("b",))
    assert one.accuracy == one.agents["b"]["accuracy"]
    assert set(one.agents["c"]) == {"loss", "error"}
    two_messages_three_classes_and_a_score = 4 * (2 * (4 + 4) + 3 + 1)
    for limit, value in (("_ROWS", 7), ("_MEMORY", two_messages_three_classes_and_a_score * 100)):
        with monkeypatch.context() as patch:
            patch.setattr(evaluation, limit, value)
            many = simulation.evaluate()
        assert many.examples == 650
        assert many.accuracy == one.accuracy
        assert many.loss == pytest.approx(one.loss, rel=1e-5)
    rows = source(test=0.5).make(batch=1)._table.splits["test"]
    outputs = simulation.compose()(x=X[rows])["b"]
    assert one.accuracy == pytest.approx((outputs.argmax(1) == LABEL[rows]).float().mean().item())
    assert one.loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, LABEL[rows]).item(), rel=1e-5)


# --- environments to run forward in ------------------------------------------------------------------------

LSTM = {"kind": "lstm", "size": 8}


def forward(
    env: dict[str, Any], agents: dict[str, Any], channels: Any = (), readout: str = "a"
) -> Simulation:
    agents = {name: {"network": LSTM, **agent} for name, agent in agents.items()}
    return Simulation(scenario_of(agents, channels, env, readout=readout, batch=4, steps=10))


def counting(delay: int = 0) -> Simulation:
    agents = {
        "a": {"observes": ["image"], "objective": {"kind": "classification", "target": "odd"}},
        "b": {
            "clock": {"period": 2, "phase": -1},
            "objective": {"kind": "classification", "target": "threes"},
        },
    }
    channels = [{"from": "a", "to": "b", "size": 3, "link": {"delay": delay, "drop": 0.5}}]
    return forward({"id": "antiphon/CountDigits-v0", "window": 2}, agents, channels, "b")


def reading() -> Simulation:
    agent = {"observes": ["char"], "objective": {"kind": "coding", "target": "next"}}
    return forward({"id": "antiphon/CharText-v0"}, {"a": agent})


def make(simulation: Simulation) -> evaluation.Make:
    def second(batch: int, split: str) -> TorchVectorEnv:
        return registry.make(simulation.scenario.env, batch=batch, split=split)

    return second


def test_elsewhere_the_system_runs_forward_once_through_the_split() -> None:
    simulation = counting()
    simulation.run(20)
    before = kept(simulation._state_dict())
    found = simulation.evaluate("validation")
    env = make(simulation)(64, "validation")
    assert env.evaluation_steps is not None
    seed = evaluation.rollout_seed(simulation.seed, "validation", 0)
    scores = EnvironmentRollout(simulation._system, env, Links(), seed).run(env.evaluation_steps)
    assert found.examples == scores["b"].count == 64 * env.evaluation_steps // 4
    assert found.accuracy == found.agents["b"]["accuracy"] == scores["b"].metric / scores["b"].count
    assert found.agents["a"]["loss"] == scores["a"].loss / scores["a"].count
    assert simulation.evaluate("validation") == found
    assert simulation.evaluate("test") != found
    assert simulation.evaluate("validation", "as_run").loss != found.loss
    assert_same_state(simulation, before)


def test_bits_are_a_metric_like_others() -> None:
    simulation = reading()
    simulation.run(20)
    found = simulation.evaluate("validation")
    assert set(found.agents["a"]) == {"loss", "bits"}
    assert found.bits == found.agents["a"]["bits"] == pytest.approx(found.loss / math.log(2))
    assert math.isnan(found.accuracy)
    assert f"bits {found.bits:.4f}" in str(found)
    assert 1 < found.bits < 8


def test_who_never_has_a_target_is_nan_unless_it_is_the_readout() -> None:
    simulation = counting(delay=160)
    with one_line("no tick of 'b' has a target and all paths to it filled; shorten"):
        simulation.evaluate()
    found = evaluation.evaluate(
        simulation._system, simulation.world.env, ("a",), "test", make=make(simulation)
    )
    assert found.examples == 64 * 64
    assert math.isnan(found.agents["b"]["loss"])
    assert 0 <= found.accuracy <= 1


def test_a_short_text_is_read_by_fewer_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/short.txt").write_text("abcdefgh" * 40, encoding="utf-8")
    agent = {"observes": ["char"], "objective": {"kind": "coding", "target": "next"}}
    simulation = forward({"id": "antiphon/CharText-v0", "text": "short"}, {"a": agent})
    assert simulation.evaluate("validation").examples == 8  # sixteen characters: eight lanes of two


def test_what_cannot_be_evaluated_is_one_clear_line() -> None:
    for split, links, line in (
        ("tset", "perfect", "no split 'tset'; did you mean 'test'"),
        ("test", "as_rnu", "'as_rnu' is not known"),
    ):
        with one_line(line):
            simulate(source()).evaluate(split, links)
    agent = {"observes": ["symbol"], "objective": {"kind": "coding", "target": "target"}, "acts": True}
    with one_line("has no splits to evaluate on; its own figures in the run show progress: .*difficulty, so"):
        forward({"id": "antiphon/Copy-v0"}, {"a": agent}).evaluate()
    with one_line("no stream of examples, and only examples can be looked at"):
        next(evaluation.examples(counting().world.env, "test"))
