"""Splitting a torch model into a chain of agents."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from antiphon.engine.simulation import Simulation
from antiphon.engine.split.split import split
from tests.engine.numbers import one_line
from tests.engine.split.parts import LOOP, ROUNDING

DIGITS = {"id": "antiphon/Digits-v0"}
ADAM = {"kind": "adam", "lr": 0.01}


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(48, 12),
        nn.BatchNorm1d(12),
        nn.Tanh(),
        nn.Linear(12, 10),
    )


@pytest.mark.parametrize("at", [[3], [1, 4, 6], [1, 2, 3, 4, 5, 6, 7]])
def test_locked_parts_equal_the_model_in_one_piece(at: list[int]) -> None:
    whole = model()
    before = {k: v.clone() for k, v in whole.state_dict().items()}
    scenario = split(whole, at, env=DIGITS, coupling="locked", batch=8, optimiser=ADAM)
    simulation = Simulation(scenario, dtype=torch.float64)
    whole = whole.double()
    optimiser = torch.optim.Adam(whole.parameters(), lr=0.01, fused=True)
    for _ in range(LOOP):
        signals = simulation.world.step_signals.signals
        loss = F.cross_entropy(whole(signals["image"]), signals["label"])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        info = simulation.step()
        assert abs(float(info["losses"][f"part{len(at)}"]) - loss.item()) < ROUNDING
    assert any(not torch.equal(before[k].double(), v) for k, v in whole.state_dict().items())
    ours = [p for name in scenario.agents for p in simulation.agents[name].parameters.values()]
    for p, q in zip(ours, whole.parameters(), strict=True):
        torch.testing.assert_close(p.data, q.data, atol=ROUNDING, rtol=0)
    signals = simulation.world.step_signals.signals
    before = {"image": signals["image"].clone()}
    found = simulation.compose()(image=signals["image"])[f"part{len(at)}"]
    assert torch.equal(signals["image"], before["image"])
    torch.testing.assert_close(found, whole.eval()(signals["image"]), atol=ROUNDING, rtol=0)


def test_the_model_itself_is_left_alone() -> None:
    whole = model()
    before = copy.deepcopy(whole.state_dict())
    simulation = Simulation(split(whole, [3], env=DIGITS, batch=8, optimiser=ADAM))
    simulation.run(5)
    assert whole.training
    assert all(torch.equal(v, before[k]) for k, v in whole.state_dict().items())


def test_decoupled_parts_learn() -> None:
    gradient = {"kind": "linear", "context": ["label"]}
    scenario = split(model(), [4, 6], env=DIGITS, gradient=gradient, batch=32, optimiser=ADAM, steps=200)
    assert [c.coupling for c in scenario.channels] == ["decoupled"] * 2
    assert [c.size for c in scenario.channels] == [48, 12]
    simulation = Simulation(scenario)
    simulation.run()
    assert simulation.evaluate().accuracy > 0.8


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"at": []}, None),
        ({"at": [0]}, "must rise between 1 and 7"),
        ({"at": [3, 3]}, "must rise between 1 and 7"),
        ({"at": [8]}, "must rise between 1 and 7"),
        ({"inputs": {"input": "left_half"}}, r"Sequential does not take input \[batch, 1, 8, 4\]"),
        ({"objective": "labl"}, "no signal 'labl'; did you mean 'label'"),
        ({"coupling": "loked"}, "loked"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(changes: dict[str, Any], expected: str | None) -> None:
    settings: dict[str, Any] = {"at": [3], "env": DIGITS, "batch": 4, **changes}
    if expected is None:
        assert list(split(model(), **settings).agents) == ["part0"]
        return
    with one_line(expected):
        Simulation(split(model(), **settings))
