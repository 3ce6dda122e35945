"""A run's last step has figures, wherever it ends."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from antiphon.engine.runs.run import resume
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from antiphon.scenarios import load


def steps_of(run: Path) -> set[int]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["step"]) for row in csv.DictReader(file)}


def test_a_short_run_ends_with_figures_and_so_does_what_goes_on_from_it(tmp_path: Path) -> None:
    run = tmp_path / "short"
    with Simulation(load("digits-mlp").resolve(values={"width": 8, "steps": 20}), logdir=run) as simulation:
        simulation.run(steps=5)
    assert steps_of(run) == {1, 5}
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == result["agents"]["n0"]["updates"] == 5
    more = resume(run, steps=9)
    assert not hasattr(more, "exit_code")
    (outcome,) = more.train()  # type: ignore[union-attr]
    assert steps_of(run) == {1, 5, 9}
    assert outcome.result["agents"]["n0"]["updates"] == 9


def test_what_cannot_be_a_device_is_one_line() -> None:
    with pytest.raises(ScenarioError, match=r"^device: there is no device 'meta' here; use cpu"):
        Simulation("digits-mlp", device="meta")
