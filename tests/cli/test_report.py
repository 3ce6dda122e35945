"""The command `report`: which runs it finds, what it refuses, what it leaves on disk."""

from __future__ import annotations

import json
import os
import re
import shutil
from base64 import b64encode
from pathlib import Path

import pytest

import antiphon
from tests.kit import seams
from tests.kit.commands import Commands
from tests.telemetry.made import Elements

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of some steps."""
    folder = tmp_path_factory.mktemp("made")
    scenario = antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 4, "steps": 4})
    with antiphon.Simulation(scenario, logdir=folder / "one") as simulation:
        simulation.run()
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    return Path(shutil.copytree(made / "one", tmp_path / "runs" / "one"))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Where the report goes."""
    return tmp_path / "out.html"


def reported(cli: Commands, output: Path, *runs: Path) -> str:
    """Return the report on some runs."""
    cli("report", *runs, "-o", output)
    return output.read_text(encoding="utf-8")


def test_the_report_of_a_run_is_one_file(run: Path, tmp_path: Path, output: Path, cli: Commands) -> None:
    text = reported(cli, output, run)
    assert re.fullmatch(r"written {6}\S*out\.html \(1 run, 0\.\d MB\)\n", cli.out)
    assert cli.err == ""
    found = Elements(text)
    result = json.loads((run / "result.json").read_text())
    assert f"{100 * result['accuracy']:.2f} %" in found.texts
    assert '"run":"one"' in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "runs"]


def test_folders_are_searched_for_runs_but_not_runs_for_runs(
    run: Path, made: Path, output: Path, cli: Commands
) -> None:
    for place in ("deep/er/one", ".being-made", "one/checkpoints/inside"):
        shutil.copytree(made / "one", run.parent / place)
    names = re.findall(r'"run":"([^"]*)"', reported(cli, output, run.parent))
    assert names == ["deep/er/one", "one"]


def test_a_study_that_is_named_twice_is_there_once(tmp_path: Path, output: Path, cli: Commands) -> None:
    study = tmp_path / "study"
    cli("study digits-mlp --set depth=2 --set width=4 --steps 2 --seeds 1 -v locked --jobs 1 --logdir", study)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"/>'
    (study / "figure.svg").write_text(drawing, encoding="utf-8")
    text = reported(cli, output, study, study / ".")
    assert text.count("Study digits-mlp") == 1
    assert f"base64,{b64encode(drawing.encode()).decode()}" in text, "its picture"
    (study / "figure.svg").unlink()
    assert "image/svg+xml;base64" not in reported(cli, output, study)


def test_runs_that_may_be_meant_are_those_of_runs_too(run: Path, here: Path, cli: Commands) -> None:
    for place in ("b2", "runs/e1"):
        shutil.copytree(run, here / place)
    assert cli.refused("report zzz").endswith("; known: b2, runs/e1")
    assert cli.refused("report b").endswith("; did you mean 'b2'?")
    assert cli.refused("resume runs/e1/scenario.yaml").endswith("; did you mean 'runs/e1'?")


def test_what_is_no_run_is_refused(run: Path, tmp_path: Path, output: Path, cli: Commands) -> None:
    (tmp_path / "empty").mkdir()
    line = cli.refused("report", tmp_path / "empty" / "nowhere")
    assert line.endswith("; antiphon run SCENARIO --name NAME writes one, runs/NAME")
    line = cli.refused("report", run, tmp_path / "empty", "-o", output)
    assert line.endswith(f"; antiphon run SCENARIO --logdir {tmp_path / 'empty'} writes one")
    assert "is a folder; name a file" in cli.refused("report", run, "-o", tmp_path)
    assert "create it first" in cli.refused("report", run, "-o", tmp_path / "none" / "out.html")
    shutil.copytree(run, run.with_name("two"))
    (run / "run.json").write_text("{")
    assert "run.json: is damaged" in cli.refused("report", run, "-o", output)
    assert not output.exists()
    assert '"run":"two"' in reported(cli, output, run.parent)
    assert "skipped: " in cli.err


def test_a_link_as_output_is_followed_and_what_is_no_file_is_refused(
    run: Path, tmp_path: Path, output: Path, cli: Commands
) -> None:
    link, pipe = tmp_path / "link.html", tmp_path / "pipe.html"
    link.symlink_to(output)
    os.mkfifo(pipe)
    cli("report", run, "-o", link)
    assert link.is_symlink()
    assert output.read_text().startswith("<!doctype html>")
    assert "pipe.html: is not a regular file" in cli.refused("report", run, "-o", pipe)


def test_a_page_that_is_there_is_replaced_whole_or_not_at_all(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Path, cli: Commands
) -> None:
    output.write_text("old")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(seams.REPLACE_REPORT, full)
        line = cli.refused("report", run, "-o", output)
    assert "out.html: cannot be written (No space left on device)" in line
    assert output.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.html", "runs"]
    assert reported(cli, output, run).startswith("<!doctype html>")
