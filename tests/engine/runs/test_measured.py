"""Measurements made after a run stay with it (`keep_measured` of `engine/runs/run_writer.py`)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from antiphon import RunError, Simulation
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import LOCK, DirectoryLock
from antiphon.engine.runs.run_writer import keep_measured
from antiphon.manifests import read_cache
from antiphon.telemetry import Figure
from antiphon.telemetry.channels.reading import read_run
from tests.commands import Commands

ROWS = [Figure("channel", "n0->n1", "ablation", 0.25), Figure("run", "", "value", 1.0)]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=4)
    return tmp_path / "run"


def test_an_ablation_is_kept_and_shown_in_the_tab_and_the_run_goes_on(run: Path, cli: Commands) -> None:
    told = cli.json("evaluate", run, "--ablate zero --examples 40")["ablation"]
    kept = json.loads((run / "measured.json").read_text(encoding="utf-8"))["ablation"]
    assert kept == {"step": 4, "split": "test", **told}
    shown = read_run(run)
    series = shown.figures["channel", "ablation"]
    assert series.steps.tolist() == [4]
    names = [channel["name"] for channel in shown.graph["channels"]]
    losses = [told["channels"][name]["readouts"]["loss"]["change"] for name in names]
    np.testing.assert_allclose(series.values[0], losses, rtol=1e-6)
    assert shown.figures["channel", "age"].steps.tolist() == [1, 4], "what was there stays"
    cli("resume", run, "--steps 6")
    figures = read_run(run).figures
    assert figures["channel", "ablation"].steps.tolist() == [4]
    assert figures["channel", "age"].steps.tolist() == [1, 4, 6]


def test_a_second_measurement_takes_the_place_of_the_first_of_its_kind(run: Path) -> None:
    """The events of a run that goes on are left alone, and a damaged file is never replaced."""
    directory, before = RunDirectory.open(run), sorted(run.glob("events*"))
    with Simulation.load(run) as simulation:
        held = DirectoryLock(run)
        assert not keep_measured(directory, simulation, {"ablation": {"kind": "zero"}}, ROWS)
        assert sorted(run.glob("events*")) == before
        held.release()
        directory.note(exit="running")  # it was killed
        assert keep_measured(directory, simulation, {"value": {"rows": []}}, ROWS)
        assert len(sorted(run.glob("events*"))) == len(before) + 1
        assert not (run / LOCK).exists()
        assert keep_measured(directory, simulation, {"ablation": {"kind": "mean"}}, [])
        kept = {"ablation": {"step": 4, "kind": "mean"}, "value": {"step": 4, "rows": []}}
        assert read_cache(run / "measured.json") == kept
        (run / "measured.json").write_text("[", encoding="utf-8")
        line = r"measured.json: is not what was written \(checksum\); delete it, and it is written anew$"
        with pytest.raises(RunError, match=line):
            keep_measured(directory, simulation, {"value": {}}, [])
    assert (run / "measured.json").read_text(encoding="utf-8") == "["


def test_where_nothing_can_be_written_evaluate_still_tells(
    run: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    def refuse(*_: object) -> bool:
        raise RunError("measured.json: cannot be written (no space left on device)")

    monkeypatch.setattr("antiphon.terminal.measurements.keep_measured", refuse)
    cli("evaluate", run, "--ablate zero --examples 40")
    assert "not kept with the run: measured.json: cannot be written" in cli.err
