"""`antiphon export`: a run's system and its weights as files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiphon import Simulation
from tests.kit.commands import Commands

DOCUMENT = """
scenario: pair
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [5]}}
  ear: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}}
channels: [{from: eye, to: ear, size: 3, link: {delay: 1}}]
training: {batch: 4, steps: 6}
"""


@pytest.mark.long
def test_a_run_is_exported(cli: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pair.yaml").write_text(DOCUMENT)
    cli("run pair.yaml --name once --logdir runs")
    found = cli.json("export runs/once files/model.pt2")
    assert found == {
        "run_dir": "runs/once",
        "steps": 6,
        "file": "files/model.pt2",
        "bytes": Path("files/model.pt2").stat().st_size,
    }
    image = torch.rand(3, 1, 8, 8)
    with Simulation.load("runs/once") as simulation:
        expected = simulation.compose()({"image": image})["ear"]
    torch.testing.assert_close(
        torch.export.load("files/model.pt2").module()({"image": image})["ear"], expected
    )
    assert cli("export runs/once w.safetensors --agent ear").startswith("written      w.safetensors (")
    assert {name.split(".")[0] for name in load_file("w.safetensors")} == {"ear"}
    assert cli.refused("export runs/once w.pth").startswith("export: 'w.pth' has no known suffix; use")
    assert cli.refused("export runs/once m.pt2 --agent eye").startswith("compose: 'eye' has no objective")
    for file in ("m.pt2", "m.safetensors"):
        line = cli.refused(f"export runs/once {file} --agent eey")
        assert "no agent 'eey'; did you mean 'eye'?" in line
    assert "no run there" in cli.refused("export runs/none m.pt2")


@pytest.mark.long
def test_a_policy_is_exported_as_its_action_for_an_observation(
    cli: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pole.yaml").write_text("""
scenario: pole
env: {id: antiphon/CartPole-v0}
agents: {hand: {observes: [observation], acts: true, objective: {kind: a2c}, clock: {unroll: 4}}}
training: {batch: 4, steps: 4}
""")
    cli("run pole.yaml --name once --logdir runs")
    cli("export runs/once hand.pt2 --actions greedy")
    action = torch.export.load("hand.pt2").module()({"observation": torch.rand(3, 4)})
    assert (action.shape, action.dtype) == ((3,), torch.int64)
    assert cli.refused("export runs/once hand.pt2 --actions mean").startswith(
        "export: actions='mean'; write greedy or sampled"
    )
