"""Recordings that fail, or are not what is computed step by step (engine/capture/loop.py, engine/capture/kernel_recorder.py)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation
from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.heart import ends
from tests.contracts.library import resolved
from tests.engine.capture.dispatch_recorder import DispatchRecorder
from tests.engine.capture.test_captured_loop import assert_same, simulation_of
from tests.engine.numbers import one_line
from tests.reference.backend import reference


@pytest.mark.long
def test_what_is_baked_in_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the step that the recording keeps: the replayed period differs, and no other is replayed."""
    monkeypatch.setattr(ends, "stamp_number", lambda step: step)
    scenario = resolved("lossy", {})
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    for simulation in (plain, captured):
        simulation.run(60)
    assert loop.obstacle == "a replayed period differs from one that is computed step by step"
    assert_same(captured, plain)


class Grown(nn.Linear):
    """A synthetic gradient, or input, that is another one after so many calls."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) * (1 if self.calls < 30 else 3)


class Graver:
    """A loss that weighs more after so many calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return nn.functional.cross_entropy(output, target, reduction="none") * (1 if self.calls < 30 else 3)


def _sum(messages: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    return messages.sum(1)


LABEL: dict[str, Any] = {"kind": "classification", "target": "label"}
OWN_LABEL: dict[str, Any] = {"kind": Graver, "target": "label"}


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (
            {"gradient": {"kind": Grown, "context": ["label"]}},
            "channels[0].gradient: 'Grown' is your own, and may",
        ),
        ({"input": {"kind": Grown, "context": ["image"]}}, "channels[0].input: 'Grown' is your own, and may"),
        ({"objective": OWN_LABEL}, "agents.b.objective: 'Graver' is your own, and may count its calls"),
        ({"objective": [LABEL, OWN_LABEL]}, "agents.b.objective[1]: 'Graver' is your own, and may count"),
        (
            {"fan_in": _sum},
            "agents.b.fan_in: '_sum' is your own, and may count its calls or depend on the step",
        ),
    ],
)
def test_steps_with_code_of_ones_own_that_a_replay_does_not_run_are_not_recorded(
    keys: dict[str, Any], line: str
) -> None:
    agent = {"objective": LABEL} | {key: each for key, each in keys.items() if key in ("objective", "fan_in")}
    channel = {"from": "a", "to": "b", "size": 4, "gradient": {"kind": "linear", "context": ["label"]}}
    channel |= {key: each for key, each in keys.items() if key in ("gradient", "input")}
    document: dict[str, Any] = {"scenario": "own", "env": {"id": "antiphon/Digits-v0"}, "channels": [channel]}
    document |= {"agents": {"a": {"observes": ["image"]}, "b": agent}, "training": {"batch": 4}}
    loop = CapturedLoop(DispatchRecorder)
    plain, captured = (
        Simulation(Scenario.model_validate(document), seed=3, capture=how) for how in (None, loop)
    )
    for simulation in (plain, captured):
        simulation.run(40)
    assert_same(captured, plain)
    assert str(loop.obstacle).startswith(line)


def test_capture_is_asked_for_and_refused_where_it_cannot_be() -> None:
    gpu = torch.device("cuda")
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    for device, backend in ((torch.device("cpu"), "cohort"), (gpu, reference), (gpu, "native")):
        with one_line("capture: True on .* recorded steps are CUDA graphs of the cohort backend"):
            captured_loop(device, backend, capture=True)
    with one_line("capture: the steps of parts are not captured; leave out one of them"):
        captured_loop(gpu, "cohort", capture=True, parts=True)
