"""Messages: masked, rounded, absent, forgotten, released; what is injected into each (semantics 5, 17, 19, 20)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import DivergenceError, Scenario, Simulation
from antiphon.nets.random import uniform
from benchmarks.split import Kept
from tests.contracts.builders import GOAL, LABEL, TOLD, Document, document
from tests.contracts.twins import made
from tests.engine.numbers import all_parameters, equal
from tests.engine.scenes import scenario_of
from tests.numerics.linear import simulation_of
from tests.numerics.recurring import BATCH as ROWS
from tests.numerics.recurring import STEPS, played
from tests.reference.backend import Chosen, reference

LINEAR: Document = {"network": {"kind": "mlp", "hidden": [], "norm": "none"}}


# --- masks -----------------------------------------------------------------------------------------------


BACKENDS = pytest.mark.parametrize("backend", ["cohort", reference])
SEED, BATCH = 3, 4


def masked_pair(**channel: Any) -> Document:
    """Agent a tells agent b, which classifies, where it is near."""
    agents = {"a": {"observes": ["x"], **LINEAR}, "b": {"observes": ["y"], **LINEAR, "objective": LABEL}}
    told = {"from": "a", "to": "b", "size": 4, "norm": "none", "link": {"delay": 1}, "mask": "near"}
    return document(agents, [{**told, "gradient": {"kind": "linear"}, **channel}])


@BACKENDS
@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_where_a_mask_is_zero_nothing_is_sent_counted_or_injected(coupling: str, backend: Chosen) -> None:
    seen = []
    clock = {"clock": {"unroll": 2}}
    scene = masked_pair(coupling=coupling)
    scene["agents"] = {name: {**agent, **clock} for name, agent in scene["agents"].items()}
    with made({**scene, "telemetry": {"period": 1}}, backend, seed=SEED) as simulation:
        history = simulation.history
        for step in range(10):
            simulation.step()
            message = simulation.channels["a->b"].messages[step]
            far = uniform(97 * SEED + 14, step, BATCH) >= 0.6
            seen.append(far)
            assert torch.equal(message.void, far)
            assert torch.equal(message.injects, ~far)
            assert torch.equal(message.value.any(1), ~far)
            read = simulation.channels["a->b"].messages.get(step - 1)
            if read is not None and read.finished is not None and coupling == "decoupled":
                assert torch.equal(read.counted, ~seen[step - 1])
                assert read.gradient is not None
                assert torch.equal(read.gradient.any(1), ~seen[step - 1])
        bits = [
            4 * torch.finfo(simulation.running.settings.dtype).bits * (~far).double().mean().item()
            for far in seen
        ]
        assert [row["a->b.traffic"] for row in history.rows()] == bits
    assert {True, False} == set(torch.stack(seen).flatten().tolist())


@BACKENDS
@pytest.mark.parametrize("gradient", [{"kind": "linear"}, {"kind": "local", "target": "label"}])
def test_a_message_that_is_sent_nowhere_moves_nothing_by_momentum(
    gradient: Document, backend: Chosen
) -> None:
    scene = masked_pair(gradient=gradient)
    scene["training"]["batch"] = 1
    moved: dict[bool, list[bool]] = {True: [], False: []}
    with made(scene, backend, seed=SEED) as simulation:
        models = [simulation.agents["a"]]
        if gradient["kind"] == "local":
            models.append(simulation.channels["a->b"].synthetic_gradient)
        for step in range(14):
            before = [{name: value.clone() for name, value in own.parameters.items()} for own in models]
            simulation.step()
            near = bool(uniform(97 * SEED + 14, step, 1) < 0.6)
            for own, values in zip(models, before, strict=True):
                changed = any(not torch.equal(own.parameters[name], values[name]) for name in values)
                moved[near].append(changed)
    assert moved[False]
    assert not any(moved[False])
    assert any(moved[True])


# --- edges -----------------------------------------------------------------------------------------------


MLP: Document = {"kind": "mlp", "hidden": [5], "norm": "none"}


@pytest.mark.parametrize("kind", ["linear", "local", "sobolev_label"])
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_absent_target_teaches_nothing_whatever_stands_in_its_place(kind: str, backend: Chosen) -> None:
    runs: list[list[torch.Tensor]] = []
    for value in (1e6, float("nan")):
        source = played(endless=True)
        present = torch.tensor([True, False] * 2).expand(STEPS, ROWS)
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


# --- the sweep order -------------------------------------------------------------------------------------


LOCAL: Document = {"gradient": {"kind": "local", "target": "label"}}
SOBOLEV: Document = {"gradient": {"kind": "sobolev_label", "target": "label", "hidden": [5]}}
DETACHED: Document = {"coupling": "detached"}


def swept(scene: Document, sweep: bool = True) -> Document:
    return {**scene, "training": {**scene["training"], "sweep": sweep}}


def wide(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inputs, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, outputs)
    )


def chain(count: int, channel: Document) -> Document:
    """Blocks in a chain, each the only reader of the one before; the last has an objective."""
    agents: Document = {f"m{i}": {"network": wide} for i in range(count)}
    agents["m0"]["observes"], agents[f"m{count - 1}"]["objective"] = ["x"], LABEL
    channels = [{"from": f"m{i}", "to": f"m{i + 1}", "size": 6, **channel} for i in range(count - 1)]
    return document(agents, channels)


def kept(count: int, sweep: bool, channel: Document) -> int:
    """Bytes kept for backward at most, over one step of a chain of so many blocks."""
    with Simulation(Scenario.model_validate(swept(chain(count, channel), sweep))) as simulation:
        simulation.run(2)
        own = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        account = Kept(own)
        most = account.during(simulation.step)
        assert account.now == 0
    return most


@pytest.mark.cases(1)
@pytest.mark.parametrize("channel", [DETACHED, LOCAL, SOBOLEV, TOLD])
def test_what_is_kept_for_backward_does_not_grow_with_the_chain(channel: Document) -> None:
    few, many, joint = kept(3, True, channel), kept(12, True, channel), kept(12, False, channel)
    assert many <= 1.1 * few
    assert joint >= 3 * many
