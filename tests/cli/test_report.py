"""The command `report`: which runs it finds, and what it refuses."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

import antiphon
from tests.kit.commands import Commands


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of some steps."""
    folder = tmp_path_factory.mktemp("made")
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 4, "steps": 4})
    with antiphon.Simulation(scenario, logdir=folder / "one") as simulation:
        simulation.run()
    return folder


def test_the_report_of_a_run_is_one_file(made: Path, tmp_path: Path, cli: Commands) -> None:
    output = tmp_path / "out.html"
    cli("report", made / "one", "-o", output)
    assert re.fullmatch(r"written {6}\S*out\.html \(1 run, 0\.\d MB\)\n", cli.out)
    text = output.read_text(encoding="utf-8")
    result = json.loads((made / "one/result.json").read_text())
    assert f"<td>{100 * result['accuracy']:.2f} %</td>" in text
    assert '"run":"one"' in text
    assert [path.name for path in tmp_path.iterdir()] == ["out.html"]


def test_folders_are_searched_for_runs_but_not_runs_for_runs(
    made: Path, tmp_path: Path, cli: Commands
) -> None:
    for place in ("one", "deep/er/one", ".being-made", "one/checkpoints/inside"):
        shutil.copytree(made / "one", tmp_path / "runs" / place)
    told = cli.json("report", tmp_path / "runs", tmp_path / "runs/one", "-o", tmp_path / "out.html")
    assert told["runs"] == ["deep/er/one", "one"]
