"""The composed system evaluated call by call has the bits of the exported module."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.inference.composed import ComposedSystem, as_argument
from antiphon.engine.inference.evaluation import examples
from antiphon.engine.inference.export import Ticks, export, observed
from antiphon.engine.simulation import Simulation
from antiphon.scenarios import load

SCENARIOS: list[tuple[str, str | None, dict[str, Any]]] = [
    ("digits-mlp", None, {}),
    ("corporation", None, {"agents": 12}),
    ("eyes", None, {}),
    ("lossy", None, {}),
    ("cifar10-cnn", None, {"data": "shapes"}),
]


@pytest.mark.parametrize(("name", "variant", "values"), SCENARIOS)
def test_its_outputs_are_those_of_the_exported_module(
    name: str, variant: str | None, values: dict[str, Any]
) -> None:
    simulation = Simulation(load(name).resolve(variant, values), seed=3)
    simulation.run(steps=8)
    agents = [name for name, agent in simulation.system.agents.items() if agent.goal is not None]
    batch = next(examples(simulation._env, "test", limit=40))
    system = simulation.system
    signals = {name: as_argument(system, name, batch[name]) for name in observed(system)}
    with torch.no_grad():
        module = export(simulation.system, agents)(*signals.values())
    count = 0

    def tick() -> None:
        nonlocal count
        count += 1

    composed = ComposedSystem(simulation.system, agents)
    found = composed.outputs(batch, tick)
    assert found.keys() == module.keys()
    assert count == len(composed.ticks) > 0
    assert all(torch.equal(found[name], module[name]) for name in agents)


def test_ticks_on_which_no_output_rests_are_left_out_and_old_messages_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = Simulation(load("corporation").resolve(None, {"agents": 12}), seed=0)
    kept: list[int] = []
    append = Ticks.append_tick

    def noted(ticks: Ticks, *tick: Any) -> None:
        append(ticks, *tick)
        kept.append(len(ticks.messages))

    monkeypatch.setattr(Ticks, "append_tick", noted)
    agents = list(simulation.scenario.readouts)
    batch = next(examples(simulation._env, "test", limit=4))
    composed = ComposedSystem(simulation.system, agents)
    composed.outputs(batch)
    steps = {step for _, step in composed.ticks}
    assert len(composed.ticks) < len(steps) * len(simulation.system.agents)
    assert max(kept) <= 3 * len(simulation.system.channels) < len(steps) * len(simulation.system.channels)
