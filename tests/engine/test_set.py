"""Settings changed in mid-run: what follows is what a simulation with these settings does from there, on both backends."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Scenario, ScenarioError, Simulation
from tests.contracts.builders import Document, ring
from tests.contracts.twins import differences, facts, made
from tests.engine.numbers import all_parameters, equal, one_line, parameters
from tests.engine.scenes import BATCH_NORM, ENDS, gradient
from tests.reference.backend import Chosen, reference

INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
LOSSY: Document = {"link": {"delay": 1, "drop": 0.5}, "input": INPUT, **gradient(kind="mlp", hidden=[4])}
NAME = "n0->n1"
CHANGES: dict[str, Any] = {
    "n0.learning_rate": 0.005,
    "n0.schedule": {"kind": "linear", "scale": 0.0},
    "n0.learn": False,
    "n0.scale": 0.5,
    "n0.optimiser.clip": 0.01,
    f"{NAME}.learning_rate": 0.005,
    f"{NAME}.schedule": {"kind": "linear", "warmup": 0.4},
    f"{NAME}.scale": 0.3,
    f"{NAME}.learn": False,
    f"{NAME}.input.learning_rate": 0.005,
    f"{NAME}.input.schedule": {"kind": "cosine"},
    f"{NAME}.input.learn": False,
    f"{NAME}.clip": 1e-3,
    f"{NAME}.drop": 1.0,
    f"{NAME}.noise": 0.3,
    f"{NAME}.bits": 2,
    "n*.learning_rate": 0.002,
}


def scene() -> Document:
    return ring(4, agent={"clock": {"unroll": 4}, **BATCH_NORM}, channel=LOSSY, env=ENDS)


def changed_at(
    step: int, key: str, value: Any, backend: Chosen = "cohort", steps: int = 6, **how: Any
) -> Simulation:
    """Return a simulation in which a setting changed at a step, so many steps later."""
    simulation = made(scene(), backend, **how)
    simulation.run(steps=step)
    if key:
        simulation.set(key, value)
    simulation.run(steps=steps)
    return simulation


@cache
def unchanged() -> dict[str, Any]:
    """Everything known after as many steps without a change."""
    return {**facts(changed_at(6, "", None)), "events": []}


FURTHER = ("n*.learning_rate", f"{NAME}.schedule", f"{NAME}.input.learning_rate", f"{NAME}.input.schedule")
"""What other keys try in another place."""


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.long if key in FURTHER else ()) for key in CHANGES]
)
def test_both_backends_go_on_alike(key: str) -> None:
    """Within a window: at step 6 of windows of 4."""
    ours, theirs = (facts(changed_at(6, key, CHANGES[key], backend)) for backend in ("cohort", reference))
    found = list(differences(theirs, ours))
    assert not found, found[:6]
    assert list(differences(unchanged(), {**ours, "events": []}))


def test_a_change_is_what_a_scenario_with_it_does_from_the_same_state() -> None:
    simulation = made(scene(), "cohort")
    simulation.run(steps=6)
    state = simulation.running.state_dict()
    declared = scene()
    declared["agents"]["n2"]["optimiser"] = {**declared["training"]["optimiser"], "lr": 0.005}
    with made(declared, "cohort") as other:
        other.running.load_state_dict(state)
        simulation.set("n2.learning_rate", 0.005)
        for each in (simulation, other):
            each.run(steps=7)
        assert equal(all_parameters(simulation), all_parameters(other))


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_checkpoints_and_forks_go_on_with_it(tmp_path: Path, backend: Chosen) -> None:
    simulation = changed_at(5, "n1.learning_rate", 0.005, backend, steps=2)
    for key in (f"{NAME}.learn", "n3.learn"):
        simulation.set(key, False)
    simulation.run(steps=2)
    simulation.save(tmp_path / "c")
    loaded = Simulation.load(tmp_path / "c", scenario=Scenario.model_validate(scene()), backend=backend)
    fork = simulation.fork()
    for twin in (loaded, fork):
        assert twin.changes == simulation.changes
        assert twin.scenario.agents == simulation.scenario.agents
    for each in (simulation, loaded, fork):
        each.run(steps=6)
    for twin in (loaded, fork):
        assert not list(differences(facts(simulation), facts(twin), tolerance=0.0))


def test_one_that_is_frozen_stands_still_and_learns_again_with_a_new_optimiser() -> None:
    simulation = made(scene(), "cohort")
    simulation.run(steps=8)
    simulation.set("n1.learn", False)
    simulation.set(f"{NAME}.learn", False)

    def standing() -> list[torch.Tensor]:
        predictor = simulation.channels[NAME].synthetic_gradient
        assert predictor is not None
        found = [*simulation.agents["n1"].parameters.values(), *simulation.agents["n1"].buffers.values()]
        return [tensor.detach().clone() for tensor in (*found, *predictor.parameters.values())]

    before = standing()
    simulation.run(steps=8)
    assert equal(before, standing())
    simulation.set("n1.learn", True)
    assert [float(count) for count in simulation.agents["n1"].optimiser["steps"]] == [0.0]
    own = parameters(simulation, "n1")
    simulation.run(steps=8)
    assert not equal(own, parameters(simulation, "n1"))


REFUSED: dict[Any, tuple[Any, str]] = {
    "n9.learn": (False, "set: no agent 'n9'; known: n0, n1"),
    "n0->n9.scale": (1.0, "set: no channel 'n0->n9'"),
    "n0.clock": (
        2,
        "'clock' of 'n0' cannot change during a run; these can: clip, discount, .*schedule",
    ),
    f"{NAME}.delay": (2, f"'delay' of '{NAME}' cannot change during a run; these can: bits, .*schedule$"),
    f"{NAME}.drop": (0.0, "changes only between values above 0"),
    "n0.learning_rate": (-1.0, "set: n0.learning_rate: must be greater than 0, not -1"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_change_is_refused_and_nothing_has_changed(key: Any) -> None:
    value, why = REFUSED[key]
    simulation, other = made(scene(), "cohort"), made(scene(), "cohort")
    with one_line(why, ScenarioError):
        simulation.set(key, value)
    assert (simulation.changes, simulation.events, simulation.scenario) == ([], [], other.scenario)
