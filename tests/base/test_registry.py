"""Names of extension points: registered, of installed packages, in documents, checkpoints and the command line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

import antiphon
from antiphon import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import Scenario
from antiphon.telemetry import Metric, Recorder
from tests.base.test_extensions import Focal, Gated, Leaky, Lion, Robust
from tests.contracts.twins import hold
from tests.engine.numbers import assert_same_state, one_line
from tests.kit import seams

DOCUMENT = """
scenario: named
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image], network: {kind: leaky_of_mine, leak: 0.25}, clock: {unroll: 2}}
  b: {observes: [image], network: {kind: leaky_of_mine, leak: 0.25}, clock: {unroll: 2}}
  c:
    network: {hidden: [8], norm: none}
    fan_in: {kind: gated, sharp: 2.0}
    objective: {kind: focal, target: label, gamma: 1.5}
    optimiser: {kind: lion, lr: 0.001, beta: 0.8, schedule: {kind: falling, half: 40}}
channels:
  - {from: a, to: c, size: 4, gradient: {kind: robust, context: [label], width: 5}}
  - {from: b, to: c, size: 4, gradient: {kind: robust, context: [label], width: 5}}
  - {from: c, to: a, size: 4, coupling: unlocked, link: {delay: 1}, input: {kind: robust_input, context: [image]}}
training: {batch: 8, steps: 20, optimiser: {kind: NAdam, lr: 0.002}}
"""


class Falling:
    """A schedule that a factory makes."""

    def __init__(self, half: int = 100) -> None:
        self.half = half

    def __call__(self, step: int) -> float:
        return 0.5 ** (step / self.half)


class Lines(Recorder):
    """Writes its rows into a file."""

    def __init__(self, directory: Path, name: str = "lines.txt") -> None:
        self.path = directory / name

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            print(step, len(rows), file=file)

    def end(self, result: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            print(result["exit"], file=file)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Names for one test."""
    monkeypatch.setattr(seams.REGISTERED, {point: {} for point in resolve_name(seams.REGISTERED)})
    for point, name, factory in (
        ("objective", "focal", Focal),
        ("gradient", "robust", Robust),
        ("input", "robust_input", Robust),
        ("aggregation", "gated", Gated),
        ("optimiser", "lion", Lion),
        ("schedule", "falling", Falling),
        ("network", "leaky_of_mine", Leaky),
        ("recorder", "lines", Lines),
    ):
        antiphon.register(point, name, factory)
    yield
    resolve_name(seams.INSTALLED).cache_clear()


@pytest.mark.long
def test_a_document_of_registered_names_is_run_written_as_it_was_read_and_its_checkpoint_loaded(
    tmp_path: Path,
) -> None:
    scenario = Scenario.from_yaml(DOCUMENT)
    assert Scenario.from_yaml(scenario.to_yaml()) == scenario
    hold(scenario, steps=4)
    with Simulation(scenario) as whole:
        whole.run(steps=3)
        whole.save(tmp_path / "saved")
        whole.run(steps=3)
        with Simulation.load(tmp_path / "saved") as rest:
            rest.run(steps=3)
            assert_same_state(whole, rest)
    del resolve_name(seams.REGISTERED)["objective"]["focal"]
    with pytest.raises(
        ScenarioError, match=r"agents.c.objective.kind: unknown kind 'focal'; .* import that \(comm"
    ):
        Simulation.load(tmp_path / "saved")


def test_names_of_installed_packages_are_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    def entries(group: str) -> list[EntryPoint]:
        found = {
            "antiphon.objectives": [
                "hinge = tests.base.test_extensions:hinge_of",
                "gone = tests.nowhere:Gone",
            ]
        }
        return [EntryPoint(*map(str.strip, line.split("=")), group) for line in found.get(group, [])]

    resolve_name(seams.INSTALLED).cache_clear()
    monkeypatch.setattr(seams.ENTRY_POINTS, entries)
    scenario = Scenario.from_yaml(
        DOCUMENT.replace("kind: focal", "kind: hinge").replace("gamma: 1.5", "margin: 0.5")
    )
    hold(scenario, steps=3)
    with one_line(
        "agents.c.objective.kind: objective 'gone': its package cannot be loaded from tests.nowhere:Gone .No"
    ):
        Simulation(Scenario.from_yaml(DOCUMENT.replace("kind: focal", "kind: gone")))
