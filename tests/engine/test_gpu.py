"""On a GPU no step of the library waits for it. Run by `make gpu`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, Simulation
from antiphon.scenarios import Template, library_names, load
from tests.contracts.library import write_pictures
from tests.contracts.twins import differences, facts

pytestmark = [
    pytest.mark.gpu,
    # torch says so once, as the mode is set: the mode would stay, and every later test fail
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]


WARM = 5
"""Steps at the beginning that are not counted, at least: constants are made, and messages under way."""
VARIANT = {
    "char-lm": "auxiliary",
    "feudal-keydoor": "feudal",
    "hyperplane": "deep",
    "lossy": "with_si",
    "unlocked": "unlocked",
}
"""What is run of a scenario; else `decoupled`."""
PERIOD = {
    "big-corporation": 6,
    "clockwork": 16,
    "corporation": 6,
    "three-timescales": 16,
    "two-timescales": 16,
}
"""Steps after which schedule and episodes repeat; else 2."""
EAGER = {
    *("cartpole-team", "copy", "feudal-keydoor", "repeat-copy", "cartpole-prior"),  # episodes vary in length
    *(
        "capture-flag",
        "referential-reward",
        "speaker-listener",
    ),  # credit that a gate, or weights fitted on the device, decide
}
"""Scenarios in which the host waits for the device."""


def scenario_of(name: str, variant: str, settings: Mapping[str, Any]) -> Scenario:
    """A variant of a library scenario with those of some settings that it has, on the embedded digits in place of MNIST."""
    text = load(name).text.replace("data: mnist", "data: digits")
    template = Template.from_yaml(text, name)
    values = {key: value for key, value in settings.items() if key in template.parameters}
    if "data" in values and template.parameters["data"].default != "cifar10":
        del values["data"]
    return template.resolve(variant, values)


def small(name: str) -> Scenario:
    """A library scenario in a few environments, without metrics in between."""
    settings = {"batch": 4, "agents": 12, "data": "shapes"}
    scenario = scenario_of(name, VARIANT.get(name, "decoupled"), settings)
    telemetry = scenario.telemetry.model_copy(update={"period": 10_000})
    return scenario.model_copy(update={"telemetry": telemetry})


@pytest.mark.parametrize("name", sorted(set(library_names()) - EAGER))
def test_no_step_waits_for_the_gpu(name: str) -> None:
    period = PERIOD.get(name, 2)
    simulation = Simulation(small(name), device="cuda")
    for _ in range(max(period, WARM)):
        simulation.step()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(period):
            simulation.step()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    assert simulation.now == max(period, WARM) + period


@pytest.mark.parametrize("name", ["corporation", "lossy", "mnist-cnn", "speaker-listener"])
def test_two_runs_have_the_same_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At their own sizes: among few numbers none comes before another."""
    write_pictures(tmp_path / "mnist")
    monkeypatch.setenv("ANTIPHON_DATA", str(tmp_path))
    runs = [Simulation(scenario_of(name, "decoupled", {}), seed=3, device="cuda") for _ in range(2)]
    for simulation in runs:
        simulation.run(24)
    assert not list(differences(*map(facts, runs), tolerance=0.0))
