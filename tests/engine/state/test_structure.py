"""Damaged checkpoints: every byte is covered by a digest, and what digests cover is compared with the scenario."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError
from antiphon.scenarios import load


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over links that lose messages, with two checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "lossy"
    scenario = load("lossy").resolve(None, {"width": 4, "batch": 4})
    with Simulation(scenario, logdir=path, checkpoint_every=3) as simulation:
        simulation.run(6)
    return path


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_every_flipped_bit_is_refused_in_one_line_that_offers_the_checkpoint_before(
    run: Path, file: str
) -> None:
    path = run / "checkpoints" / "step-000000006" / file
    whole, rng = path.read_bytes(), random.Random(0)
    try:
        for _ in range(120):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            with pytest.raises(RunError) as found:
                checkpoint.read(path.parent)
            line = str(found.value)
            assert "\n" not in line
            assert str(path.parent) in line
            offers = "delete it to go on from step-000000003" in line
            assert offers or "newer" in line or "is no version" in line, line
    finally:
        path.write_bytes(whole)


Change = Callable[[dict[str, Any]], object]


def _reshaped(tree: dict[str, Any], key: str) -> None:
    tree[key] = tree[key].flatten()


def _learner(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["system"]["learners"]["n0"]
    return found


def _record(state: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = state["system"]["ledgers"]["n0->n1"]["records"][0]
    return found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.update(now="6"), r"state.now: '6' in place of a whole number"),
        (lambda s: s.update(now=-1), r"state.now: -1 in place of"),
        (lambda s: s.update(now=10**30), r"state.now: 1"),
        (lambda s: s.pop("tally"), r"an object with 'tally'"),
        (lambda s: s.update(more=1), r"'more' in place of no other entries"),
        (lambda s: _record(s).update(message=torch.zeros(4, 5)), r"message: a tensor \[4, 5\] of float32 in place of"),
        (lambda s: _record(s).update(delta=torch.zeros(4, 4).long()), r"of int64 in place of"),
        (lambda s: _record(s).update(message=torch.zeros(4, 32).double()), r"of float64 in place of .* of float32"),
        (lambda s: s["present"].update(label=torch.ones(4)), r"classes below 10"),
        (lambda s: _record(s).update(counted=torch.ones(3) > 0), r"counted: a tensor \[3\] of bool"),
        (lambda s: s["present"].update(label=torch.full((4,), 100)), r"classes below 10"),
        (lambda s: s["system"]["units"][0].update(tape=[]), r"tape: a list of 0 in place of an object"),
        (lambda s: _learner(s).update(updates=None), r"updates: None in place of"),
        (lambda s: _learner(s)["optimiser"].update(steps=[1]), r"steps\[0\]: 1 in place of a tensor"),
        (lambda s: _reshaped(_learner(s)["parameters"], next(iter(_learner(s)["parameters"]))), r"parameters"),
        (lambda s: s["system"]["learners"].pop("n0"), r"'n0'"),
        (lambda s: _record(s).update(stamp=77), r"does not fit its scenario"),
        (lambda s: s["env"].pop("tick"), r"does not fit its scenario \(no 'tick'\)"),
    ],
)  # fmt: skip
def test_a_state_of_another_form_is_one_line_and_nothing_is_loaded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)  # of a long path the line would have the ends alone
    manifest, state = checkpoint.read(run / "checkpoints" / "step-000000006")
    kept = {key: manifest[key] for key in ("scenario", "seed", "step", "dtype")}
    change(state)
    checkpoint.write(Path("changed"), kept, state)
    with pytest.raises(RunError, match=reason) as found:
        Simulation.load("changed")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    "name",
    ["char-lm", "clockwork", "copy", "feudal-keydoor", "hyperplane", "referential-game", "speaker-listener"],
)
def test_what_a_simulation_saves_is_accepted(tmp_path: Path, name: str) -> None:
    with Simulation(load(name).resolve(None, {})) as simulation:
        for step in range(1, 8):
            simulation.step()
            if step in (1, 7):
                simulation.save(tmp_path / str(step))
    for step in (1, 7):
        with Simulation.load(tmp_path / str(step)) as loaded:
            assert loaded.step()["step"] == step


def test_a_manifest_without_its_digest_is_read_and_other_entries_are_not(run: Path, tmp_path: Path) -> None:
    manifest, state = checkpoint.read(run / "checkpoints" / "step-000000006")
    kept = {key: manifest[key] for key in ("scenario", "seed", "step", "dtype")}
    path = tmp_path / "older"
    checkpoint.write(path, kept, state)
    content = json.loads((path / "state.json").read_text(encoding="utf-8"))
    del content["manifest_sha256"]
    (path / "state.json").write_text(json.dumps(content), encoding="utf-8")
    found = checkpoint.read(path)[1]["system"]["learners"]["n0"]["parameters"]
    assert all(isinstance(tensor, Tensor) for tensor in found.values())
    (path / "state.json").write_text(json.dumps({**content, "manifest_sha257": "x"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"state.json has other entries than a checkpoint"):
        checkpoint.read(path)
