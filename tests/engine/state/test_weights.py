"""Weights of another run: what fits is taken, on both backends, and the statement says what was not and why."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contracts.builders import LABEL, OWN, Document, document
from tests.contracts.twins import made
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import BATCH_NORM, gradient
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
