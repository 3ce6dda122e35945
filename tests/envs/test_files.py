"""Files of one's own data, in documents and in Python: the two kinds, splits, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from antiphon import Simulation, envs
from antiphon.errors import DataError, RunError, ScenarioError
from antiphon.scenarios import Scenario, Template, load
from tests.envs.made import message
from tests.kit.commands import Commands

COUNT = 60
X = np.arange(COUNT * 3, dtype=np.float32).reshape(COUNT, 3) / 100
LABEL = np.arange(COUNT) % 4
NAME = "antiphon/Tensors-v0"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the same data in two files, which is where we are."""
    np.savez(tmp_path / "data.npz", x=X, label=LABEL)
    np.savez(tmp_path / "held.npz", x=X[:8], label=LABEL[:8])
    save_file({"x": torch.tensor(X), "label": torch.tensor(LABEL)}, tmp_path / "data.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("options", [{"file": "data.npz"}, {"file": "data.safetensors"}])
def test_a_file_is_its_tensors(folder: Path, options: dict[str, Any]) -> None:
    direct = envs.from_tensors(x=X, label=LABEL)
    assert envs.describe({"id": NAME, **options}) == direct.description
    env, twin = envs.make({"id": NAME, **options}, batch=5), direct.make(batch=5)
    assert torch.equal(env.reset(seed=3)[0]["x"].float(), twin.reset(seed=3)[0]["x"])
    envs.check_vector_env(lambda: envs.make({"id": NAME, **options}, batch=3, split="test"))


def test_splits_are_shares_or_files(folder: Path) -> None:
    env = envs.make({"id": NAME, "file": "data.npz", "test": "held.npz", "validation": 0.1}, batch=2)
    assert env.description.example_counts == {"train": 54, "validation": 6, "test": 8}
    (batch,) = env.batches("test", 10)
    assert torch.equal(batch["x"], torch.tensor(X[:8]))


def test_a_file_is_read_once_while_it_does_not_change(folder: Path) -> None:
    first, loaded = envs.from_file("data.npz"), envs.from_file(folder / "data.npz")
    assert first.table is loaded.table
    np.savez(folder / "data.npz", x=X[:50], label=LABEL[:50])
    assert envs.from_file("data.npz").description.example_counts["train"] == 35


def test_a_scenario_names_the_line_of_a_file_that_is_missing(folder: Path, cli: Commands) -> None:
    goal = "{kind: classification, target: label}"
    (folder / "mine.yaml").write_text(
        "scenario: mine\nenv: {id: antiphon/Tensors-v0, file: none.npz}\n"
        f"agents: {{a: {{observes: [x], network: {{kind: mlp, hidden: []}}, objective: {goal}}}}}\n"
    )
    for command in ("check", "show", "run"):
        assert cli.refused(f"{command} mine.yaml").startswith("mine.yaml:2: env.file: none.npz: no such")
    text = (folder / "mine.yaml").read_text().replace("none", "data").replace("[x]", "[y]")
    (folder / "mine.yaml").write_text(text)
    assert cli.refused("show mine.yaml").startswith("mine.yaml:3: agents.a.observes: no signal 'y'")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"file": "none.npz"}, "none.npz: no such file; give the path of a file, .npz or .safetensors"),
        ({"file": "dat.npz"}, "dat.npz: no such file; did you mean 'data.npz'?"),
        ({"file": "data.csv"}, "data.csv: unknown type of file; use one of .npz, .safetensors"),
        ({"file": "short.npz"}, "short.npz: lengths disagree: x 60, label 3; pass one row per example in"),
        ({"file": "data.npz", "test": "wide.npz"}, "data.npz: test: x is torch.float64 [2] per row, but"),
        ({"file": "objects.npz"}, "objects.npz: column 'x' holds Python objects, which are not read; save"),
        ({"file": "words.npz"}, "words.npz: x: holds texts, not numbers; number its classes from 0"),
        ({"file": "cut.npz"}, "cut.npz: cannot be read ("),
        (
            {"file": "nan.npz"},
            "nan.npz: x: 180 of its values are not finite, the first at index [0, 0]; replace or drop them",
        ),
        ({"file": "data.npz", "training_only": ["y"]}, "data.npz: training_only: no tensor 'y'; known:"),
    ],
)
def test_bad_files_are_named(folder: Path, options: dict[str, Any], expected: str) -> None:
    (folder / "data.csv").write_text("x,label\n")
    np.savez(folder / "short.npz", x=X, label=LABEL[:3])
    np.savez(folder / "wide.npz", x=X[:, :2].astype(float), label=LABEL)
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    np.savez(folder / "words.npz", x=np.array(["she", "he"]))
    np.savez(folder / "nan.npz", x=X * np.nan, label=LABEL)
    whole = (folder / "data.npz").read_bytes()
    (folder / "cut.npz").write_bytes(whole[: len(whole) // 2])
    assert expected in message(lambda: envs.make({"id": NAME, **options}, batch=2))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "env.file: is missing"),
        ({"file": "data.npz", "test": [1]}, "env.test: input should be a valid number"),
        ({"file": "data.npz", "clases": {}}, "env.clases: unknown key 'clases'; did you mean 'classes'?"),
        ({"file": "data.npz", "hold": [1]}, "env.hold: must be a whole number, not [1]"),
    ],
)
def test_options_that_cannot_be_are_named(folder: Path, options: dict[str, Any], expected: str) -> None:
    for call in (
        lambda: envs.make({"id": NAME, **options}, batch=2),
        lambda: envs.describe({"id": NAME, **options}),
    ):
        with pytest.raises(ScenarioError) as caught:
            call()
        assert str(caught.value).startswith(expected)
        assert "\n" not in str(caught.value)


DOCUMENT = """
scenario: filed
env: {id: antiphon/Tensors-v0, file: data.npz, test: held.npz}
agents:
  a: {observes: [x], objective: {kind: classification, target: label}}
training: {batch: 4, steps: 5}
"""


def test_files_are_found_beside_the_document_from_anywhere(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "filed.yaml").write_text(DOCUMENT)
    by_name = load("filed.yaml").resolve()
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    by_path = load(folder / "filed.yaml").resolve()
    assert by_path == by_name
    assert str(folder / "data.npz") in by_path.to_yaml()
    assert Scenario.from_yaml(by_path.to_yaml(), "run/scenario.yaml") == by_path
    with Simulation(by_path) as simulation:
        simulation.run()
        assert simulation.evaluate().examples == 8


def test_a_checkpoint_says_which_data_it_is_of_and_refuses_others(folder: Path) -> None:
    scenario = Template.from_yaml(DOCUMENT).resolve()
    with Simulation(scenario) as simulation:
        simulation.run()
        saved = simulation.save(folder / "saved")
        digest = simulation.world.env.state_dict()["data"]
    assert digest in (saved / "state.json").read_text()
    with Simulation.load(saved) as loaded:
        assert loaded.now == 5
    np.savez(folder / "data.npz", x=X + 1, label=LABEL)
    with pytest.raises(RunError) as caught:
        Simulation.load(saved)
    assert f"env: the state is of other data or splits (SHA-256 {digest[:12]}…), not of these (" in str(
        caught.value
    )
    (folder / "data.npz").unlink()
    with pytest.raises(DataError, match=r"data\.npz: no such file"):
        Simulation.load(saved)


STEPS = np.array([3, 1, 4, 2, 2])
SEQUENCES = {"lengths": STEPS, "x": X[:12], "label": LABEL[:5], "place": X[20:25]}


def test_a_file_of_sequences_is_its_sequences_and_a_checkpoint_says_which(folder: Path) -> None:
    np.savez(folder / "sequences.npz", **SEQUENCES)
    env = {
        "id": "antiphon/Sequences-v0",
        "file": "sequences.npz",
        "pad_to_multiple": 2,
        "per_sequence": ["place"],
    }
    ends = STEPS.cumsum()[:-1]
    direct = envs.from_sequences(
        x=np.split(X[:12], ends), label=LABEL[:5], place=X[20:25], per_sequence=["place"], pad_to_multiple=2
    )
    assert envs.describe(env) == direct.description
    made, twin = envs.make(env, batch=2), direct.make(batch=2)
    for one, other in zip(made.reset(seed=3), twin.reset(seed=3), strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())
    envs.check_vector_env(lambda: envs.make(env, batch=2))
    agents = {"a": {"observes": ["x"], "objective": {"kind": "classification", "target": "label"}}}
    scenario = Scenario.model_validate(
        {"scenario": "read", "env": env, "agents": agents, "training": {"batch": 2}}
    )
    with Simulation(scenario) as simulation:
        simulation.run(epochs=2)
        saved = simulation.save(folder / "saved")
    np.savez(folder / "sequences.npz", **{**SEQUENCES, "lengths": STEPS[::-1]})
    with pytest.raises(RunError, match="env: the state is of other data or splits"):
        Simulation.load(saved)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"lengths": None}, "has no 'lengths', the steps of each sequence; save them too"),
        ({"lengths": np.array([3, 0, 9])}, "lengths: must be whole numbers from 1, one for each sequence"),
        ({"x": X[:11]}, "x has 11 rows; save one per step (12) or one per sequence (5)"),
    ],
)
def test_files_that_are_no_sequences_are_named(folder: Path, changes: dict[str, Any], expected: str) -> None:
    columns = {name: value for name, value in {**SEQUENCES, **changes}.items() if value is not None}
    np.savez(folder / "bad.npz", **columns)
    env = {"id": "antiphon/Sequences-v0", "file": "bad.npz"}
    assert f"bad.npz: {expected}" in message(lambda: envs.make(env, batch=2))
