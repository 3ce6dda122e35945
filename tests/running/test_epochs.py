"""Epochs: every example once in each, in an order of its own, the same however a run is computed; and runs of so many."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation
from antiphon.envs import Source, from_tensors
from tests.engine.scenes import CLASSIFY, scenario_of

COUNT = 21
NUMBERS = torch.arange(COUNT).float().unsqueeze(1)
LABELS = torch.arange(COUNT) % 3


def data(**options: Any) -> Source:
    return from_tensors(x=NUMBERS, label=LABELS, **{"test": 0.0, "validation": 0.0, **options})


def scene(env: Any = None, *, batch: int = 4, steps: int = 30) -> Scenario:
    """An eye that shows what it sees to a mind, a step late: in parts, they are one each."""
    agents = {"eye": {"observes": ["x"]}, "mind": {"objective": CLASSIFY}}
    channel = {"from": "eye", "to": "mind", "size": 2, "norm": "none", "link": {"delay": 1}}
    return scenario_of(agents, [channel], env or data(), batch=batch, steps=steps, telemetry={"period": 4})


def shown(simulation: Simulation, steps: int) -> list[list[int]]:
    """The examples of so many steps, and those of the step that is to come."""
    found = [simulation.signals["x"][:, 0].int().tolist()]
    for _ in range(steps):
        simulation.step()
        found.append(simulation.signals["x"][:, 0].int().tolist())
    return found


@pytest.mark.cases(2)
@pytest.mark.parametrize("hold", [1, 3])
@pytest.mark.parametrize("batch", [1, 4, 7, 21, 50])
def test_an_epoch_shows_every_example_once_and_the_next_one_in_another_order(batch: int, hold: int) -> None:
    with Simulation(scene(data(hold=hold), batch=batch)) as simulation:
        steps = shown(simulation, 3 * COUNT * hold // batch + hold)
    stream = [*chain(*steps[::hold])]
    epochs = [stream[start : start + COUNT] for start in range(0, 3 * COUNT, COUNT)]
    assert all(sorted(epoch) == list(range(COUNT)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(steps[at] == steps[at - at % hold] for at in range(len(steps)))


@pytest.mark.parametrize(
    ("batch", "hold", "epochs", "steps"), [(4, 1, 2, 11), (7, 3, 0.5, 5), (50, 1, 10, 5), (3, 1, 0, 0)]
)
def test_a_run_of_epochs_takes_the_steps_that_show_them(
    batch: int, hold: int, epochs: float, steps: int
) -> None:
    with Simulation(scene(data(hold=hold), batch=batch)) as simulation:
        for runs in (1, 2):  # from where it stands
            simulation.run(epochs=epochs)
            assert simulation.now == runs * steps
        assert simulation.epoch == pytest.approx(2 * steps * batch / (COUNT * hold))
        simulation.run(epochs=3, steps=1)
        assert simulation.now == 2 * steps + 1


def test_the_epoch_is_a_metric_and_in_the_result(tmp_path: Path) -> None:
    with Simulation(scene(), logdir=tmp_path / "run", parts=2) as simulation:
        simulation.run(epochs=1)
        history = simulation.history
    epochs = [(row.step, row.value) for row in history if row.metric == "epoch"]
    assert epochs == [(step, pytest.approx(4 * step / COUNT)) for step in (1, 4, 6)]
    assert json.loads((tmp_path / "run/result.json").read_text())["env"] == {"epoch": pytest.approx(24 / 21)}
