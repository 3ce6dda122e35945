"""Measurements made after a run stay with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from antiphon.cli import app
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import LOCK, DirectoryLock
from antiphon.engine.runs.run import resume
from antiphon.engine.runs.run_writer import keep_measured
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.manifests import read_cache
from antiphon.telemetry import Figure
from antiphon.telemetry.channels.reading import read_run

ROWS = [Figure("channel", "n0->n1", "ablation", 0.25), Figure("run", "", "value", 1.0)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=4)
    return tmp_path / "run"


def test_an_ablation_is_kept_and_shown_in_the_tab(run: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(run), "--ablate", "zero", "--examples", "40", "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout.splitlines()[-1])["ablation"]
    kept = json.loads((run / "measured.json").read_text(encoding="utf-8"))["ablation"]
    assert kept == {"step": 4, "split": "test", **told}
    shown = read_run(run)
    series = shown.figures["channel", "ablation"]
    assert series.steps.tolist() == [4]
    names = [channel["name"] for channel in shown.graph["channels"]]
    losses = [told["channels"][name]["readouts"]["loss"]["change"] for name in names]
    np.testing.assert_allclose(series.values[0], losses, rtol=1e-6)
    assert shown.figures["channel", "age"].steps.tolist() == [1, 4], "what was there stays"


def test_a_second_measurement_takes_the_place_of_the_first_of_its_kind(run: Path) -> None:
    directory = RunDirectory.open(run)
    with Simulation.load(run) as simulation:
        assert keep_measured(
            directory, simulation, {"ablation": {"kind": "zero"}, "value": {"rows": []}}, ROWS
        )
        assert keep_measured(directory, simulation, {"ablation": {"kind": "mean"}}, [])
    kept = read_cache(run / "measured.json")
    assert kept == {"ablation": {"step": 4, "kind": "mean"}, "value": {"step": 4, "rows": []}}


def test_a_damaged_file_is_never_replaced(run: Path) -> None:
    (run / "measured.json").write_text("[", encoding="utf-8")
    line = r"measured.json: is not what was written \(checksum\); delete it, and it is written anew$"
    with Simulation.load(run) as simulation, pytest.raises(RunError, match=line):
        keep_measured(RunDirectory.open(run), simulation, {"value": {}}, [])
    assert (run / "measured.json").read_text(encoding="utf-8") == "["


def test_the_events_of_a_run_that_goes_on_are_left_alone(run: Path) -> None:
    before = sorted(run.glob("events*"))
    held = DirectoryLock(run)
    with Simulation.load(run) as simulation:
        assert not keep_measured(RunDirectory.open(run), simulation, {"ablation": {}}, ROWS)
        assert sorted(run.glob("events*")) == before
        assert (run / "measured.json").exists()
        held.release()
        RunDirectory.open(run).note(exit="running")  # it was killed
        assert keep_measured(RunDirectory.open(run), simulation, {"ablation": {}}, ROWS)
    assert len(sorted(run.glob("events*"))) == len(before) + 1
    assert not (run / LOCK).exists()


def test_a_run_goes_on_after_it_was_measured(run: Path) -> None:
    with Simulation.load(run) as simulation:
        keep_measured(RunDirectory.open(run), simulation, {"ablation": {}}, ROWS)
    more = resume(run, steps=6)
    assert not hasattr(more, "exit_code")
    more.train()  # type: ignore[union-attr]
    figures = read_run(run).figures
    assert figures["channel", "ablation"].steps.tolist() == [4]
    assert figures["channel", "age"].steps.tolist() == [1, 4, 6]


def test_where_nothing_can_be_written_evaluate_still_tells(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise RunError("measured.json: cannot be written (no space left on device)")

    monkeypatch.setattr("antiphon.terminal.measurements.keep_measured", refuse)
    done = CliRunner().invoke(app, ["evaluate", str(run), "--ablate", "zero", "--examples", "40"])
    assert done.exit_code == 0
    assert "not kept with the run: measured.json: cannot be written" in done.stderr
