"""Weights of another run and settings changed in mid-run: what fits is taken, what cannot change is refused."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import ScenarioError
from tests.contracts.builders import LABEL, OWN, Document, document, ring
from tests.contracts.twins import made
from tests.engine.numbers import equal, one_line, parameters
from tests.engine.scenes import BATCH_NORM, ENDS, gradient
from tests.reference.backend import Chosen, reference

WIDER: Document = {"network": {"kind": "mlp", "hidden": [7], "norm": "batch"}}


def scene(names: str, **agents: Any) -> Document:
    """Agents in a row, each with an objective."""
    found: Document = {n: {**OWN, **BATCH_NORM, "objective": LABEL, **agents.get(n, {})} for n in names}
    return document(found, [{"from": a, "to": b, "size": 4, **gradient()} for a, b in pairwise(names)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with made(scene("abc"), "cohort") as simulation:
        simulation.run(steps=6)
        return simulation.save(tmp_path / "run")


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", ["cohort", reference])
def test_all_that_fits_is_taken_and_the_rest_is_stated(run: Path, backend: Chosen) -> None:
    """b is wider, c the last there and not here, d new."""
    with made(scene("abc"), "cohort") as trained:
        trained.run(steps=6)
    simulation = made(scene("abcd", b=WIDER), backend, seed=9)
    simulation.run(steps=3)
    before = {n: [p.clone() for p in parameters(simulation, n)] for n in "abcd"}
    found = simulation.load_weights(run)
    assert found.left["a"] == {}
    assert equal(parameters(simulation, "a"), parameters(trained, "a"))
    statistics = [one.agents["a"].buffers.values() for one in (simulation, trained)]
    assert equal(*statistics)
    theirs, ours = trained.agents["c"].parameters, simulation.agents["c"].parameters
    assert set(found.taken["c"]) >= set(theirs)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())
    assert {why for name, why in found.left["c"].items()} == {"the run's agent has none"}
    assert "[7]" in "".join(found.left["b"].values())
    assert found.taken["d"] == []
    assert equal(before["d"], parameters(simulation, "d"))
    lines = str(found).splitlines()
    assert lines[0] == f"weights of {run}"
    assert lines[1] == f"a: {len(found.taken['a'])} of {len(found.taken['a'])} tensors taken"
    assert lines[4].startswith(f"d: 0 of {len(found.left['d'])} tensors taken; ")
    assert lines[4].endswith(" left: the run has no agent 'd'")
    assert simulation.events == [(3, f"weights of {run} are loaded into a, b, c")]
    moments = simulation.agents["a"].optimiser
    assert not any(bool(m.any()) for each in moments.values() for m in each)
    simulation.run(steps=5)
    assert not equal(parameters(simulation, "a"), parameters(trained, "a"))


# --- settings --------------------------------------------------------------------------------------------


INPUT: Document = {"kind": "linear", "context": ["x", "held", "age"]}
LOSSY: Document = {"link": {"delay": 1, "drop": 0.5}, "input": INPUT, **gradient(kind="mlp", hidden=[4])}
NAME = "n0->n1"


def scene_of_set() -> Document:
    return ring(4, agent={"clock": {"unroll": 4}, **BATCH_NORM}, channel=LOSSY, env=ENDS)


def test_one_that_is_frozen_stands_still_and_learns_again_with_a_new_optimiser() -> None:
    simulation = made(scene_of_set(), "cohort")
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
    simulation, other = made(scene_of_set(), "cohort"), made(scene_of_set(), "cohort")
    with one_line(why, ScenarioError):
        simulation.set(key, value)
    assert (simulation.changes, simulation.events, simulation.scenario) == ([], [], other.scenario)
