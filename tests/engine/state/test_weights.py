"""Weights of another run and settings changed in mid-run: what cannot change is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import ScenarioError
from tests.contracts.builders import LABEL, OWN, Document, document, ring
from tests.contracts.twins import made
from tests.engine.numbers import equal, one_line, parameters
from tests.engine.scenes import BATCH_NORM, ENDS, gradient
from tests.kit.some import some


def scene(**agent: Any) -> Document:
    return document({"a": {**OWN, **BATCH_NORM, "objective": LABEL, **agent}}, [])


def test_the_weights_of_another_run_are_taken_by_an_agent_of_its_make(tmp_path: Path) -> None:
    with made(scene(), "cohort") as trained:
        trained.run(steps=6)
        source = f"{trained.save(tmp_path / 'run')}:a"
    with made(scene(parameters=source), "cohort", seed=9) as other:
        assert equal(parameters(other, "a"), parameters(trained, "a"))
        assert equal(*(one.agents["a"].buffers.values() for one in (other, trained)))
    with one_line("agents.a.parameters: .* of 'a' is .* there and .* here; give both agents", ScenarioError):
        made(scene(parameters=source, network={"kind": "mlp", "hidden": [7], "norm": "batch"}), "cohort")


# --- settings --------------------------------------------------------------------------------------------


INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
LOSSY: Document = {"link": {"delay": 1, "drop": 0.5}, "input": INPUT, **gradient(kind="mlp", hidden=[4])}
NAME = "n0->n1"


def scene_of_set() -> Document:
    return ring(4, agent={"clock": {"unroll": 4}, **BATCH_NORM}, channel=LOSSY, env=ENDS)


def test_what_is_frozen_stands_still() -> None:
    frozen = ring(
        4, agent={"learn": False}, channel={**LOSSY, **gradient(kind="mlp", hidden=[4], learn=False)}
    )
    simulation = made(frozen, "cohort")
    predictor = some(simulation.channels[NAME].synthetic_gradient)

    def standing() -> list[torch.Tensor]:
        found = [*simulation.agents["n1"].parameters.values(), *predictor.parameters.values()]
        return [tensor.detach().clone() for tensor in found]

    before = standing()
    simulation.run(steps=8)
    assert equal(before, standing())


REFUSED: dict[Any, tuple[Any, str]] = {
    "n9.p_update": (0.5, "set: no agent 'n9'; known: n0, n1"),
    "n0->n9.scale": (1.0, "set: no channel 'n0->n9'"),
    "n0.clock": (
        2,
        "'clock' of 'n0' cannot change during a run; known: clip, discount, .*scale",
    ),
    f"{NAME}.delay": (2, f"'delay' of '{NAME}' cannot change during a run; known: discount, drop, .*scale$"),
    f"{NAME}.drop": (0.0, "changes only between values above 0"),
    "n0.learning_rate": (-1.0, "set: n0.learning_rate: must be greater than 0, not -1"),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_cannot_change_is_refused_and_nothing_has_changed(key: Any) -> None:
    value, why = REFUSED[key]
    simulation, other = made(scene_of_set(), "cohort"), made(scene_of_set(), "cohort")
    with one_line(why, ScenarioError):
        simulation.set(key, value)
    assert (simulation.running.changes, simulation.events, simulation.scenario) == ([], [], other.scenario)
