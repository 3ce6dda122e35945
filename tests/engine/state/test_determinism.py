"""Same seed, same bits; whoever watches changes none; names, not order, decide what is drawn; nobody waits."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.gradient import Example, Predictor
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario, load
from antiphon.telemetry import CsvRecorder, Recorder, RunDescription, TensorBoardRecorder

Document = dict[str, Any]


def corporation(**values: Any) -> Scenario:
    small = {"agents": 6, "readouts": 2, "hold": 2, "width": 5, "size": 3, "batch": 4}
    return load("corporation").resolve(values={**small, **values})


def document(names: str = "abc", channels: tuple[str, ...] = ("ab", "bc"), **channel: Any) -> Document:
    net = {"kind": "mlp", "hidden": [5]}
    agents: Document = {name: {"network": net} for name in names}
    agents["a"]["observes"] = ["image"]
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    return {
        "scenario": "determinism",
        "env": {"id": "antiphon/Digits-v0"},
        "agents": agents,
        "channels": [{"from": c[0], "to": c[1], "size": 4, **channel} for c in channels],
        "training": {"batch": 4, "optimiser": {"kind": "adam", "lr": 0.01}},
        "telemetry": {"every": 3, "histograms": True},
    }


def numbers(simulation: Simulation) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, agent in simulation.system.agents.items():
        found |= {f"{name}/{k}": p.data.clone() for k, p in agent.learner.parameters.items()}
        found |= {f"{name}/{k}": b.clone() for k, b in agent.learner.buffers.items()}
    for name, channel in simulation.system.channels.items():
        if channel.predictor is not None:
            found |= {f"{name}/{k}": p.data.clone() for k, p in channel.predictor.parameters.items()}
            found |= {f"{name}/{k}": b.clone() for k, b in channel.predictor.buffers.items()}
    return found


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    assert one.keys() == other.keys()
    return {name for name, value in one.items() if not torch.equal(value, other[name])}


@pytest.mark.parametrize("gradient", ["linear", "mlp", "local"])
def test_telemetry_changes_no_bit(gradient: str, tmp_path: Path) -> None:
    spec = {"kind": gradient, "target": "label", "context": ["label"]}
    scenario = Scenario.model_validate(document(gradient=spec))
    plain, watched = Simulation(scenario), Simulation(scenario)
    recorders: list[Recorder] = [CsvRecorder(tmp_path / "metrics.csv"), TensorBoardRecorder(tmp_path)]
    description = RunDescription(
        yaml=scenario.to_yaml(),
        hparams={},
        graph=watched.graph,
        names={"agents": list(scenario.agents), "channels": [(c.name, c.slug) for c in scenario.channels]},
    )
    for recorder in recorders:
        recorder.begin(description)
        watched.recorders.append(recorder)
    for _ in range(7):
        watched.step()
        plain.step()
        watched.evaluate()
        watched.channel_figures()
        assert watched.graph.number_of_edges() == 2
    watched.close()
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["step"] for row in rows} == {"1", "3", "6"}
    metrics = {(row["name"], row["metric"]) for row in rows}
    assert {("a->b", "sg_loss"), ("c", "loss"), ("c", "accuracy"), ("a", "updates")} <= metrics
    assert sum(path.stat().st_size for path in tmp_path.glob("events*")) > 1000
    assert not differing(numbers(plain), numbers(watched))


def test_the_same_seed_gives_the_same_bits_and_another_gives_others() -> None:
    runs = [Simulation(corporation(), seed=seed) for seed in (0, 0, 1)]
    for simulation in runs:
        simulation.run(5)
    assert not differing(numbers(runs[0]), numbers(runs[1]))
    assert differing(numbers(runs[0]), numbers(runs[2]))


def test_a_reset_begins_the_same_run_again() -> None:
    simulation = Simulation(corporation(), seed=3)
    simulation.run(5)
    first = numbers(simulation)
    assert simulation.reset()["step"] == simulation.now == 0
    simulation.run(5)
    assert not differing(first, numbers(simulation))
    simulation.reset(seed=4)
    assert simulation.seed == 4
    assert not simulation.learned.updates
    simulation.run(5)
    fresh = Simulation(corporation(), seed=4)
    fresh.run(5)
    assert not differing(numbers(fresh), numbers(simulation))


def test_the_order_in_which_a_document_is_written_does_not_matter() -> None:
    one, other = document(), document()
    other["agents"] = dict(reversed(other["agents"].items()))
    other["channels"] = other["channels"][::-1]
    runs = [Simulation(Scenario.model_validate(d)) for d in (one, other)]
    for simulation in runs:
        simulation.run(4)
    assert not differing(numbers(runs[0]), numbers(runs[1]))


def test_another_agent_or_channel_changes_nobody_elses_first_weights() -> None:
    few = numbers(Simulation(Scenario.model_validate(document())))
    more = numbers(Simulation(Scenario.model_validate(document("abXc", ("ab", "bc", "aX", "Xc")))))
    same = {name for name in few if torch.equal(few[name], more.get(name, torch.empty(0)))}
    # Only what takes in the new message is another.
    assert {n for n in few if n.startswith(("a/", "b/", "a->b/", "b->c/"))} <= same
    assert "c/0.weight" not in same


def settings(first: str, second: str, unroll: int = 1, **channel: Any) -> Simulation:
    """A sender and a receiver whose names put either of them first."""
    found = document(channels=())
    net = {"kind": "mlp", "hidden": [5]}
    found["agents"] = {
        first: {"observes": ["image"], "network": net, "clock": {"unroll": unroll}},
        second: {"network": net, "objective": {"kind": "classification", "target": "label"}},
    }
    found["channels"] = [
        {"from": first, "to": second, "size": 4, "gradient": {"context": ["label"]}, **channel}
    ]
    return Simulation(Scenario.model_validate(found))


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize(("sender", "receiver"), [("a", "b"), ("z", "b")])
def test_at_every_injection_nothing_has_come_back(
    sender: str, receiver: str, delay: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = settings(sender, receiver, link={"delay": delay})
    (channel,) = simulation.system.channels.values()
    assert channel.predictor is not None
    asked: list[Tensor | None] = []
    predict: Any = channel.predictor.predict

    def watch(example: Example) -> Tensor:
        asked.append(example.delta)
        prediction: Tensor = predict(example)
        return prediction

    monkeypatch.setattr(channel.predictor, "predict", watch)
    simulation.run(8)
    assert asked == [None] * 8
    assert bool(simulation.learned.updates)
    assert isinstance(channel.predictor, Predictor)


@pytest.mark.parametrize("change", ["noise", "freeze"])
@pytest.mark.parametrize("unroll", [1, 3])
@pytest.mark.parametrize(("sender", "receiver"), [("a", "b"), ("z", "b")])
def test_a_decoupled_sender_does_not_depend_on_its_receivers_present(
    sender: str, receiver: str, unroll: int, change: str
) -> None:
    """Whatever becomes of the receiver before step t, the sender's update at t is the same to the bit."""
    simulation = settings(sender, receiver, unroll=unroll)
    for t in range(1, 8):
        simulation.step()
        twin = simulation.fork()
        learner = twin.system.agents[receiver].learner
        if change == "noise":
            for p in learner.parameters.values():
                p.data.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(t)))
        else:
            learner.frozen, learner.trainable = True, []
        ahead = simulation.fork()
        twin.step()
        ahead.step()
        for key, p in ahead.agents[sender].parameters.items():
            assert torch.equal(p, twin.agents[sender].parameters[key]), (t, key)
    assert ahead.agents[sender].updates == 8 // unroll
    assert bool(ahead.system.channels[f"{sender}->{receiver}"].predictor.parameters["last.weight"].any())  # type: ignore[union-attr]
