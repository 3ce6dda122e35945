"""Ablation: channels ranked by what is lost without them, example by example; and what no probe can measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation
from antiphon.envs import from_tensors
from antiphon.inspection.ablation import ABLATIONS, ablate
from antiphon.inspection.language import language
from tests.engine.numbers import one_line, unchanged
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.inspection.probed import EYE, JUDGE, chain, make
from tests.inspection.test_language import talking

COUNT = 400
GENERATOR = torch.Generator().manual_seed(0)
X = torch.randn(COUNT, 4, generator=GENERATOR)
NOISE = torch.randn(COUNT, 4, generator=GENERATOR)
LABEL = (X[:, 0] > 0).long() + 2 * (X[:, 1] > 0).long()
SCORE = NOISE[:, 0]
NET = {"kind": "mlp", "hidden": [16], "norm": "none"}


def simulate(link: dict[str, Any] | None = None, **channel: Any) -> Simulation:
    """`eye` sees what decides, `ear` what does not (but the score); both speak to both judges."""
    env = from_tensors(x=X, noise=NOISE, label=LABEL, score=SCORE, test=0.5, training_only=["label", "score"])
    agents = {
        "eye": {"observes": ["x"], "network": NET},
        "ear": {"observes": ["noise"], "network": NET},
        "judge": {"network": NET, "objective": CLASSIFY},
        "other": {"network": NET, "objective": {"kind": "regression", "target": "score"}},
    }
    common = {"size": 4, "norm": "none", "coupling": "locked", "link": link or {}, **channel}
    channels = [{"from": a, "to": b, **common} for a in ("eye", "ear") for b in ("judge", "other")]
    adam = {"kind": "adam", "lr": 0.01}
    scenario = scenario_of(agents, channels, env, readout="judge", batch=32, steps=300, optimiser=adam)
    return Simulation(scenario, seed=1)


@pytest.fixture(scope="module")
def trained() -> Simulation:
    simulation = simulate()
    simulation.run(100)
    return simulation


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", ABLATIONS)
def test_the_channel_that_matters_comes_first_for_whom_it_matters(trained: Simulation, kind: str) -> None:
    found = ablate(trained, kind)
    assert found.ranked()[0] == "eye->judge"
    assert found.ranked("other")[0] == "ear->other"
    assert found.readouts["eye->judge"]["loss"].verdict == "helps"
    assert found.readouts["eye->judge"]["accuracy"].value < -0.2
    assert found.channels["ear->other"]["other"]["error"].value > 0.2
    unreached = found.channels["eye->judge"]["other"]["loss"]
    assert (unreached.value, unreached.half, unreached.verdict) == (0.0, 0.0, "unresolved")


def test_it_agrees_with_a_system_whose_channel_is_silent(trained: Simulation) -> None:
    found = ablate(trained, "zero")
    silent = trained.fork()
    head = silent.agents["eye"].parameters
    for name in ("to_judge.weight", "to_judge.bias"):
        head[name].data.zero_()
    whole, without = trained.evaluate(), silent.evaluate()
    changes = found.channels["eye->judge"]["judge"]
    assert found.intact["judge"]["loss"] == pytest.approx(whole.loss, rel=1e-5)
    assert changes["loss"].value == pytest.approx(without.loss - whole.loss, rel=1e-4)
    assert changes["accuracy"].value == pytest.approx(without.accuracy - whole.accuracy, abs=1e-6)


@pytest.mark.parametrize(
    "objective",
    [
        {"kind": "classification", "target": "rare"},
        {"kind": "classification", "target": "sites", "reduction": "mean"},
        [
            {"kind": "classification", "target": "label"},
            {"kind": "classification", "target": "rare", "scale": 3.0},
        ],
    ],
)
def test_its_means_are_those_of_evaluations_where_targets_are_missing(objective: Any) -> None:
    """A tenth of the examples has the target `rare`; `sites` are many where what the eye sees is small, else few."""
    chance = torch.rand(COUNT, 6, generator=torch.Generator().manual_seed(3))
    is_rare = chance[:, 0] < 0.1
    often = torch.where(X[:, :1] > 0, 0.1, 0.9)
    sites = (X[:, 1:2] + NOISE[:, :1] > 0).long().expand(-1, 6)
    data = {"x": X, "label": LABEL, "rare": LABEL, "_rare": is_rare, "sites": sites, "_sites": chance < often}
    env = from_tensors(**data, test=0.5, training_only=["label", "rare", "sites"])
    agents = {
        "eye": {"observes": ["x"], "network": NET},
        "judge": {"network": NET, "objective": CLASSIFY},
        "other": {"network": NET, "objective": objective},
    }
    common = {"from": "eye", "size": 4, "norm": "none", "coupling": "locked"}
    channels = [common | {"to": name} for name in ("judge", "other")]
    adam = {"kind": "adam", "lr": 0.01}
    scenario = scenario_of(agents, channels, env, batch=32, steps=300, optimiser=adam)
    with Simulation(scenario, seed=1) as simulation:
        simulation.run(60)
        found = ablate(simulation, "zero")
        whole = simulation.evaluate()
        for receiver in ("judge", "other"):
            silent = simulation.fork()
            for name in (f"to_{receiver}.weight", f"to_{receiver}.bias"):
                silent.agents["eye"].parameters[name].data.zero_()
            without = silent.evaluate()
            change = found.readouts[f"eye->{receiver}"]["loss"]
            assert change.value == pytest.approx(without.loss - whole.loss, rel=1e-4)
            for agent, metrics in whole.agents.items():
                assert found.intact[agent] == pytest.approx(metrics, rel=1e-5)
                for metric, value in metrics.items():
                    change = found.channels[f"eye->{receiver}"][agent][metric]
                    assert change.value == pytest.approx(
                        without.agents[agent][metric] - value, rel=1e-4, abs=1e-6
                    )


# --- returns -----------------------------------------------------------------------------------------------

ACTING = """
scenario: acting
env: {id: antiphon/CartPole-v0}
agents:
  sensor: {observes: [observation], network: {kind: mlp, hidden: [16]}}
  deaf: {observes: [observation], network: {kind: mlp, hidden: [4]}}
  motor: {network: {kind: mlp, hidden: [16]}, acts: true, clock: {unroll: 4}, objective: {kind: reinforce}}
channels:
  - {from: sensor, to: motor, size: 4, coupling: locked}
  - {from: deaf, to: motor, size: 2, coupling: locked}
readout: motor
training: {steps: 8, batch: 5, optimiser: {kind: adam, lr: 0.01}}
"""


@pytest.fixture(scope="module")
def acting() -> Simulation:
    simulation = Simulation(Scenario.from_yaml(ACTING), seed=3)
    simulation.run(4)
    return simulation


def test_where_readouts_act_returns_of_the_same_episodes_are_compared(acting: Simulation) -> None:
    with unchanged(acting):
        found = ablate(acting, "zero", episodes=1)
    silent = acting.fork()
    head = silent.agents["sensor"].parameters
    for name in ("to_motor.weight", "to_motor.bias"):
        head[name].data.zero_()
    whole, without = acting.evaluate(episodes=1).return_, silent.evaluate(episodes=1).return_
    assert (found.measure, found.count) == ("return", 5)
    assert found.intact == {"motor": {"return": whole}}
    change = found.channels["sensor->motor"]["motor"]["return"]
    assert change.value == pytest.approx(without - whole)
    assert change == found.change("sensor->motor")
    assert (change.verdict == "helps") == (change.value + (change.half or 0.0) < 0)
    rows = {(row.name, row.metric): row.value for row in found.metrics()}
    assert rows["sensor->motor", "ablation_zero"] == pytest.approx(whole - without)  # what is lost


# --- what is refused -------------------------------------------------------------------------------------


Scenes = dict[str, Simulation]
REFUSED: list[tuple[str, Callable[[Simulation], Any], str]] = [
    ("plain", lambda s: s.probe(horizon=-1), "probe: horizon=-1; must be a whole number, at least 0"),
    ("plain", lambda s: language(s), "language: no channel carries symbols"),
    ("talking", lambda s: language(s, channels=["b->a"]), "^language: 'b->a' is no channel of symbols; known: a->b$"),
    ("talking", lambda s: language(s, examples=0), "language: examples=0; must be a whole number, at least 1"),
    ("plain", lambda s: ablate(s, "resample", examples=1), "ablate: resample needs messages of another example"),
    ("plain", lambda s: ablate(s, "zreo"), "ablate: no kind 'zreo'; did you mean 'zero'"),
    ("plain", lambda s: ablate(s, "zero", channels=["a->bb"]), "ablate: 'a->bb' is no channel; did you mean 'a->b'"),
    ("plain", lambda s: ablate(s, "zero", split="tset"), "no split 'tset'; did you mean 'test'"),
    ("plain", lambda s: ablate(s, "zero", examples=0), "ablate: examples=0; must be a whole number, at least 1"),
    ("alone", lambda s: ablate(s, "zero"), "ablate: the scenario has no channels"),
]  # fmt: skip


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return {
        "plain": make({"a": EYE, "b": JUDGE}, [{"from": "a", "to": "b"}]),
        "locked": chain("locked"),
        "alone": make({"a": {**EYE, "objective": CLASSIFY}}, []),
        "talking": talking(),
    }


@pytest.mark.parametrize(("scene", "measure", "line"), REFUSED)
def test_what_cannot_be_measured_is_one_line(
    scene: str, measure: Callable[[Simulation], Any], line: str, scenes: Scenes
) -> None:
    with one_line(line):
        measure(scenes[scene])
