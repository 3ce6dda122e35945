"""`antiphon graft`: an agent of one run in another, as a new run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from antiphon.engine.simulation import Simulation
from tests.commands import Commands

DOCUMENT = """
scenario: pair
parameters: {size: {type: int, default: 3}}
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [5]}}
  ear: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}}
channels: [{from: eye, to: ear, size: $size, link: {delay: 1}}]
training: {batch: 4, steps: 6}
"""


@pytest.fixture
def folder(cli: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, `runs/first` and `runs/second`, and one whose messages are wider, `runs/wide`."""
    monkeypatch.chdir(tmp_path)
    Path("pair.yaml").write_text(DOCUMENT)
    for number, name in enumerate(("first", "second")):
        cli(f"run pair.yaml --name {name} --seed {number}")
    cli("run pair.yaml --name wide --set size=4")
    return tmp_path


def test_a_graft_is_a_new_run_that_can_be_resumed(cli: Commands, folder: Path) -> None:
    out = cli("graft runs/first:eye runs/second:eye --name new")
    assert out.splitlines()[:2] == ["weights of runs/first", "eye: 12 of 12 tensors taken"]
    assert "written      runs/new (step 6 of 6)" in out
    assert "antiphon resume runs/new --steps N goes on with it" in cli.err
    with Simulation.load("runs/new") as new, Simulation.load("runs/first") as first:
        for name, value in first.agents["eye"].parameters.items():
            assert torch.equal(new.agents["eye"].parameters[name], value)
    assert cli.json("resume runs/new --steps 8")["steps"] == 8
    listed = cli("show runs/new").splitlines()
    assert "went on from runs/second at step 6" in listed
    assert "eye took the weights of runs/first:eye (step 6) at step 6" in listed


def test_several_agents_and_their_optimisers_are_named_in_pairs(cli: Commands, folder: Path) -> None:
    found = cli.json("graft runs/first:eye runs/second:eye runs/wide:ear runs/second:ear --adapt --name new")
    assert (Path(found["run_dir"]).name, found["step"], found["steps"]) == ("new", 6, 6)
    assert found["origin"] == {"run": "runs/second", "checkpoint": "step-000000006", "step": 6}
    assert [(each["from"], each["kept"]) for each in found["weights"]] == [
        ("runs/first:eye", []),
        ("runs/wide:ear", found["weights"][1]["kept"]),
    ]
    assert {name.split(".")[0] for name in found["weights"][1]["kept"]} == {"0"}
    found = cli.json("graft runs/first:eye runs/second:eye --optimiser --logdir others")
    assert found["run_dir"].startswith("others/second-graft-")
    assert found["weights"][0]["optimiser"] is True
    Path("alone").mkdir()
    with Simulation.load("runs/second") as simulation:
        simulation.save("alone")
    assert cli.json("graft runs/first:eye alone:eye --name third")["origin"]["run"] == "alone"


def test_what_does_not_fit_is_refused_in_one_line(cli: Commands, folder: Path) -> None:
    line = cli.refused("graft runs/wide:eye runs/second:eye --name new")
    assert "to_ear.weight ([4, 5] in the run, [3, 5] here)" in line
    assert "--adapt" in line
    assert "has no target" in cli.refused("graft runs/first:eye runs/second:eye runs/first:ear")
    assert "two targets" in cli.refused("graft runs/first:eye runs/second:eye runs/first:ear runs/wide:ear")
    assert "write RUN:agent" in cli.refused("graft runs/first runs/second:eye")
    assert "neither a checkpoint nor a run" in cli.refused("graft runs/none:eye runs/second:eye")
    assert "is there already" in cli.refused("graft runs/first:eye runs/second:eye --name wide")
    assert "leave out --adapt" in cli.refused("graft runs/first:eye runs/second:eye --adapt --optimiser")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["first", "second", "wide"]


def test_diff_names_the_weights_that_grafts_took(cli: Commands, folder: Path) -> None:
    for name, source in (("one", "first"), ("two", "wide")):
        cli(f"graft runs/{source}:ear runs/second:ear --name {name} --adapt")
        cli(f"resume runs/{name} --steps 30 --checkpoint-every 12")
    assert cli.code("diff runs/one runs/two") == 1
    assert "weights (run.json)" in cli.out
