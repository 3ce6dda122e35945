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
from antiphon.engine.inference.rollout import EnvironmentRollout, ExampleRollout
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.forward import ForwardPass
from antiphon.envs import from_tensors, registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.tensors import Source
from antiphon.errors import ScenarioError
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
    assert one.examples == 650
    monkeypatch.setattr(evaluation, "_ROWS", 7)
    many = simulation.evaluate()
    assert many.examples == 650
    assert many.accuracy == one.accuracy
    assert many.loss == pytest.approx(one.loss, rel=1e-5)
    rows = source(test=0.5).make(batch=1)._table.splits["test"]
    outputs = simulation.compose()(x=X[rows])["b"]
    assert one.accuracy == pytest.approx((outputs.argmax(1) == LABEL[rows]).float().mean().item())
    assert one.loss == pytest.approx(torch.nn.functional.cross_entropy(outputs, LABEL[rows]).item(), rel=1e-5)


def test_what_it_says() -> None:
    simulation = simulate(source())
    found = simulation.evaluate("validation")
    assert found.split == "validation"
    assert found.readout == ("b",)
    assert found.accuracy == found.agents["b"]["accuracy"]
    assert set(found.agents["c"]) == {"loss", "error"}
    assert "b (readout): loss" in str(found)
    assert str(found).startswith("validation: 130 examples")


def test_of_many_agents_it_lists_the_first_and_says_the_mean() -> None:
    agents = {f"n{i}": {"loss": i / 10, "accuracy": i / 100} for i in range(40)}
    head, *lines = str(evaluation.Evaluation("test", 1000, tuple(agents), agents)).splitlines()
    assert head == "test: 1,000 examples; mean of 40 readouts: loss 1.9500, accuracy 19.50 %"
    assert (len(lines), lines[19]) == (21, "  n19 (readout): loss 1.9000, accuracy 19.00 %")
    assert lines[20] == "  … and 20 more in `agents`"


@pytest.mark.parametrize(
    ("split", "links", "expected"),
    [
        ("tset", "perfect", "no split 'tset'; did you mean 'test'"),
        ("test", "as_rnu", "'as_rnu' is not known"),
    ],
)
def test_what_cannot_be_evaluated_is_one_clear_line(split: str, links: str, expected: str) -> None:
    with one_line(expected):
        simulate(source()).evaluate(split, links)


@pytest.mark.parametrize("name", ["input", "in-put", "lambda", "max", "x"])
def test_signals_may_have_any_name(name: str) -> None:
    agent = {"observes": [name, "1st"], "network": {"kind": "mlp", "hidden": [4]}, "objective": CLASSIFY}
    tensors: dict[str, Any] = {name: X, "1st": X[:, :1], "label": LABEL}
    simulation = Simulation(scenario_of({"a": agent}, env=from_tensors(**tensors), batch=4))
    simulation.run(2)
    assert 0 <= simulation.evaluate().accuracy <= 1


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


def test_bits_are_a_metric_like_others() -> None:
    simulation = reading()
    simulation.run(20)
    found = simulation.evaluate("validation")
    assert set(found.agents["a"]) == {"loss", "bits"}
    assert found.bits == found.agents["a"]["bits"] == pytest.approx(found.loss / math.log(2))
    assert math.isnan(found.accuracy)
    assert f"bits {found.bits:.4f}" in str(found)
    assert 1 < found.bits < 8


def test_running_forward_changes_no_bit_of_the_run() -> None:
    simulation = counting(1)
    simulation.run(3)
    before = kept(simulation._state_dict())
    simulation.evaluate("validation", "as_run")
    simulation.evaluate("train")
    assert_same_state(simulation, before)


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


def test_an_environment_without_splits_says_what_shows_progress() -> None:
    agent = {
        "observes": ["symbol"],
        "objective": {"kind": "coding", "target": "target"},
        "acts": True,
    }
    simulation = forward({"id": "antiphon/Copy-v0"}, {"a": agent})
    simulation.run(3)
    expected = "has no splits to evaluate on; its own figures in the run show progress: .*difficulty, solved"
    with one_line(expected):
        simulation.evaluate()


def test_a_split_that_is_none_is_refused_before_anything_is_made() -> None:
    with pytest.raises(ScenarioError, match="no split 'tset'; did you mean 'test'"):
        counting().evaluate("tset")


def test_only_examples_can_be_looked_at_one_by_one() -> None:
    with pytest.raises(ScenarioError, match="no stream of examples, and only examples can be looked at"):
        next(evaluation.examples(counting().world.env, "test"))


def test_a_short_text_is_read_by_fewer_lanes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/short.txt").write_text("abcdefgh" * 40, encoding="utf-8")
    agent = {"observes": ["char"], "objective": {"kind": "coding", "target": "next"}}
    simulation = forward({"id": "antiphon/CharText-v0", "text": "short"}, {"a": agent})
    assert simulation.evaluate("validation").examples == 8  # sixteen characters: eight lanes of two


def test_where_messages_are_large_fewer_examples_are_shown_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = simulate(source(test=0.5))
    shown: list[int] = []

    class Counted(ExampleRollout):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            shown.append(self.rows)

    monkeypatch.setattr(evaluation, "ExampleRollout", Counted)
    usual = simulation.evaluate("test")
    assert shown == [650]
    shown.clear()
    monkeypatch.setattr(
        evaluation, "_MEMORY", 4 * (2 * (4 + 4) + 3 + 1) * 100
    )  # two messages, three classes and a score
    few = simulation.evaluate("test")
    assert shown == [93] * 6 + [92]
    assert few.examples == usual.examples == 650
    for name, figures in usual.agents.items():
        assert few.agents[name] == pytest.approx(figures, rel=1e-5)
