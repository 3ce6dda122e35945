"""Measurements made after a run stay with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon import Simulation
from antiphon.telemetry import read_run
from tests.kit.commands import Commands

ABLATE = "--examples 40 --ablate"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=4)
    return tmp_path / "run"


def kept(run: Path, kind: str = "zero") -> Any:
    """What is kept of an ablation of a run."""
    return json.loads((run / "measured.json").read_text(encoding="utf-8")).get(f"ablation_{kind}")


def test_an_ablation_is_kept_and_shown_in_the_tab_and_the_run_goes_on(run: Path, cli: Commands) -> None:
    told = cli.json("evaluate", run, ABLATE, "zero")["ablation"]
    assert kept(run) == {"step": 4, "split": "test", **told}
    shown = read_run(run)
    series = shown.metrics["channel", "ablation_zero"]
    assert series.steps.tolist() == [4]
    names = [channel["name"] for channel in shown.graph["channels"]]
    losses = [told["channels"][name]["readouts"]["loss"]["change"] for name in names]
    np.testing.assert_allclose(series.values[0], losses, rtol=1e-6)
    assert shown.metrics["channel", "age"].steps.tolist() == [1, 4], "what was there stays"
    cli("resume", run, "--steps 6")
    metrics = read_run(run).metrics
    assert metrics["channel", "ablation_zero"].steps.tolist() == [4]
    assert metrics["channel", "age"].steps.tolist() == [1, 4, 6]


@pytest.mark.long
def test_a_value_stands_with_its_interval_and_one_word_for_it(tmp_path: Path, cli: Commands) -> None:
    """Of all channels together first, then of the channels; those without a value last."""
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=20)
    told = cli("evaluate", tmp_path / "run", "--value --horizon 4 --repeats 3")
    value = json.loads((tmp_path / "run/measured.json").read_text(encoding="utf-8"))["value"]
    table = told[told.index("channel        its signal") :].split("\n\n")[0].splitlines()
    shown = [line.split() for line in table[2:]]
    assert shown[0][:2] == ["all", "channels"]
    channels = {line[0]: line[1:] for line in shown[1:]}
    value = json.loads((tmp_path / "run/measured.json").read_text(encoding="utf-8"))["value"]
    for row in value["rows"][1:]:
        if row["value"] is None:
            assert channels[row["name"]][0] == "undefined"
        else:
            word = "helps" if row["low"] > 0 else "harms" if row["high"] < 0 else "unresolved"
            assert channels[row["name"]][:2] == [word, f"{row['value']:.2f}"]
