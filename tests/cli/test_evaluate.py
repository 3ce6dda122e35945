"""What is made of a run: `antiphon evaluate`, `export`, `report` and `show --timeline`."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from antiphon import Simulation
from tests.kit.commands import Commands, run_command

TINY = ["--steps", "20", "--set", "depth=3", "--set", "width=8", "--set", "batch=16"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three agents."""
    folder = tmp_path_factory.mktemp("runs")
    assert run_command(["run", "digits-mlp", *TINY, "--name", "a", "--logdir", str(folder)]) == 0
    return folder / "a"


def test_links_as_run_lose_what_they_are_told(run: Path, cli: Commands) -> None:
    perfect = cli.json("evaluate", run)
    assert (perfect["links"], perfect["drop"]) == ("perfect", None)
    clean = cli.json("evaluate", run, "--links as_run")
    assert clean["accuracy"] == perfect["accuracy"]
    lossy = cli.json("evaluate", run, "--links as_run --drop 0.9")
    assert lossy["loss"] != clean["loss"]
    assert lossy == cli.json("evaluate", run, "--links as_run --drop 0.9")


@pytest.mark.long
def test_ablation_ranks_the_channels_each_with_one_word(run: Path, tmp_path: Path, cli: Commands) -> None:
    own = Path(shutil.copytree(run, tmp_path / "own"))
    found = cli.json("evaluate", own, "--ablate resample --examples 100")["ablation"]
    assert (found["kind"], found["measure"], found["count"]) == ("resample", "loss", 100)
    assert sorted(found["ranked"]) == ["n0->n1", "n1->n2"]
    cli("evaluate", own, "--ablate zero --links as_run")
    assert "Without each channel (zero): change over 360 examples of test, links as in the run" in cli.out
    (row,) = (line.split() for line in cli.out.splitlines() if line.startswith("n0->n1"))
    assert {"helps", "harms", "unresolved"} & {*row}


SYMBOLS = """
scenario: words
env: {id: antiphon/Digits-v0}
agents:
  a: {observes: [image], network: {kind: mlp, hidden: [8]}}
  b: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [8]}}
channels:
  - {from: a, to: b, sample: {kind: gumbel, vocabulary: 4, size: 2}}
training: {batch: 16}
"""


@pytest.mark.long
def test_language_is_measured_and_kept(here: Path, cli: Commands) -> None:
    run = cli.trained(SYMBOLS, "--steps 5")
    found = cli.json("evaluate", run, "--language --examples 200")["language"]["channels"]["a->b"]
    assert (found["messages"], len(found["entropy"])) == (200, 2)
    assert found["message_entropy"] <= sum(found["entropy"]) + 1e-9
    assert 0 <= found["information"]["label"] <= found["message_entropy"] + 1e-9
    kept = json.loads((run / "measured.json").read_text())["language"]
    assert kept["channels"]["a->b"] == found
    text = cli("evaluate", run, "--language")
    assert "about label" in text
    assert "topographic" in text


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("--drop 0.2", "drop: perfect links lose nothing, got 0.2; use links 'as_run'"),
        (
            "--language",
            "language: no channel carries symbols; give one `sample: {kind: gumbel, vocabulary: …}`",
        ),
        ("--ablate zero --episodes 2", "episodes has no effect here: no agent has a policy"),
        ("--examples 5", "--examples: has no effect here; use it with --ablate or --language"),
    ],
)
def test_bad_input_is_one_line(run: Path, words: str, problem: str, cli: Commands) -> None:
    assert problem in cli.refused("evaluate", run, words)


# --- export ----------------------------------------------------------------------------------------------


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
    cli("export runs/once files/model.pt2")
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


# --- report ----------------------------------------------------------------------------------------------


def test_the_report_of_a_run_is_one_file(run: Path, tmp_path: Path, cli: Commands) -> None:
    output = tmp_path / "out.html"
    cli("report", run, "-o", output)
    assert re.fullmatch(r"written {6}\S*out\.html \(1 run, 0\.\d MB\)\n", cli.out)
    text = output.read_text(encoding="utf-8")
    result = json.loads((run / "result.json").read_text())
    assert f"<td>{100 * result['accuracy']:.2f} %</td>" in text
    assert '"run":"a"' in text
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_folders_are_searched_for_runs(run: Path, tmp_path: Path, cli: Commands) -> None:
    for place in ("one", "deep/er/one"):
        shutil.copytree(run, tmp_path / "runs" / place)
    assert "(2 runs" in cli("report", tmp_path / "runs", tmp_path / "runs/one", "-o", tmp_path / "out.html")
    assert "runs/deep/er/one" in (tmp_path / "out.html").read_text(encoding="utf-8")


# --- timeline --------------------------------------------------------------------------------------------


def test_the_timeline_of_a_hierarchy(cli: Commands) -> None:
    text = cli("show two-timescales --timeline --steps 8")
    lines = text.splitlines()
    assert lines[0].split() == ["step", *map(str, range(1, 9))]
    assert lines[1].split() == ["A", "o", "o", "o", "#", "o", "o", "o", "#"]
    assert lines[2].split() == ["B", ".", ".", ".", "o", ".", ".", ".", "o"]
    assert max(map(len, lines[:-4])) <= 120
