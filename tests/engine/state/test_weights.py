"""Weights of another run: what fits is taken, on both backends, and the statement says what was not and why."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Simulation, load
from tests.contracts.builders import LABEL, OWN, Document, document
from tests.contracts.twins import made
from tests.engine.numbers import equal, parameters
from tests.engine.scenes import BATCH_NORM, gradient
from tests.kit.commands import Commands
from tests.reference.backend import Chosen, reference
from tests.running.left import facts

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


@pytest.mark.parametrize(("kind", "backend"), [("RMSprop", "cohort"), ("Adagrad", reference)])
def test_an_optimiser_of_torch_begins_anew(kind: str, backend: Chosen, tmp_path: Path) -> None:
    own: Document = {"optimiser": {"kind": kind, "lr": 0.01}}
    giver, taker, fresh = (made(scene("ab", a=own, b=own), backend, seed=n) for n in (1, 2, 3))
    giver.run(steps=3)
    taker.run(steps=3)
    taker.load_weights(giver.save(tmp_path / "giver"))
    for name in "ab":
        assert equal(parameters(taker, name), parameters(giver, name))
        assert str(taker.agents[name].optimiser) == str(fresh.agents[name].optimiser)
    taker.run(steps=2)


def test_a_run_directory_notes_weights_as_long_as_its_state_has_them(tmp_path: Path, cli: Commands) -> None:
    small = {"values": {"depth": 3, "width": 4, "batch": 4}}
    with Simulation(load("digits-mlp").resolve(**small), seed=1) as simulation:
        simulation.run(steps=2)
        giver = simulation.save(tmp_path / "giver")
    path = tmp_path / "run"
    simulation = Simulation(load("digits-mlp").resolve(**small), logdir=path)
    for agent in ("n0", "n1"):
        simulation.run(steps=3)
        simulation.load_weights(giver, [agent])
    simulation.close()
    noted = facts(path)["weights"]
    assert [(each["step"], each["from"], each["from_step"]) for each in noted] == [
        (3, f"{giver}:n0", 2),
        (6, f"{giver}:n1", 2),
    ]
    assert "n0 loaded the weights of" in (shown := cli("show", path))
    assert "(step 2) at step 3" in shown
    shutil.rmtree(path / "checkpoints/step-000000006")  # as if it had been killed before its checkpoint
    with Simulation.resume(path) as resumed:
        resumed.run(steps=1)
    assert [each["agent"] for each in facts(path)["weights"]] == ["n0"]


@pytest.mark.parametrize("backend", ["cohort", reference])
def test_an_open_window_begins_with_the_statistics_that_are_loaded(backend: Chosen, tmp_path: Path) -> None:
    """The value head of the other run is of its returns."""
    agent: Document = {"observes": ["observation"], "acts": True, "clock": {"unroll": 4}}
    agent |= {"network": {"kind": "mlp", "hidden": [4]}, "objective": {"kind": "a2c", "normalise": "returns"}}
    pole = document({"hand": agent}, [], env={"id": "antiphon/CartPole-v0"})
    with made(pole, "cohort") as trained:
        trained.run(steps=8)
        theirs = trained.agents["hand"].buffers["value.returns"]
        source = trained.save(tmp_path / "run")
    simulation = made(pole, backend, seed=9)
    simulation.run(steps=6)
    simulation.load_weights(source)
    (group,) = simulation.running.state_dict()["system"]["groups"]
    assert torch.equal(group["window"]["statistics_before"]["hand"]["value.returns"], theirs)
