"""Studies from Python: the command's table and figure, of scenarios, templates and functions."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import antiphon
from antiphon import Scenario, load, study
from antiphon.envs import from_tensors
from antiphon.errors import RunError, ScenarioError
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands

TINY = {"depth": 2, "width": 8, "batch": 16}
X = torch.randn(120, 3, generator=torch.Generator().manual_seed(0))


def own(width: int = 4, coupling: str = "decoupled", shift: float = 0.0) -> Scenario:
    """Own data, a module of one's own, and parameters."""
    agents = {
        "a": {"observes": ["x"]},
        "b": {"network": nn.Sequential(nn.Linear(width, 2)), "objective": CLASSIFY},
    }
    channels = [{"from": "a", "to": "b", "size": width, "coupling": coupling, "norm": "none"}]
    env = from_tensors(x=X + shift, label=(X[:, 0] > 0).long())
    return scenario_of(agents, channels, env, batch=8, steps=6)


def test_mistakes_are_one_line_with_the_fix(tmp_path: Path) -> None:
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"values": ["width"]}, r"study: values=\['width'\]; must be a mapping"),
        (
            {"variants": "locked"},
            r"variants: 'locked'; must be a list of names, or a mapping; write \['locked'\]",
        ),
        ({"variants": {"a": ["width"]}}, r"variants.a: must map parameters to values, not list; write \{"),
        ({"grid": {"lr": {"from": 1, "to": 2}}}, "grid.lr: must be a list of values, .*; give each value"),
        ({"values": {"width": 4}, "grid": {"width": [4, 8]}}, "grid.width: is ignored, as values has it"),
        ({"values": {"lr": 0.1}, "tune": {"lr": [0.1, 1.0]}}, "tune.lr: is ignored, as values has it"),
        (
            {"values": {"width": 4}, "variants": {"a": {"width": 4}, "b": {"width": 8}}},
            "variants.b.width: is ignored, as values has it",
        ),
        ({"exist": "new"}, "exist: 'new'; must be number, overwrite, resume or error"),
    ]
    for given, line in mistakes:
        with one_line(line, ScenarioError):
            study("digits-mlp", logdir=tmp_path / "it", seeds=1, steps=1, **given)
    (tmp_path / "file").write_text("")
    with one_line("file: is a file, and runs are written to a folder; choose another name", RunError):
        study("digits-mlp", values=TINY, logdir=tmp_path / "file", seeds=1, steps=1, jobs=1)


@pytest.mark.long
def test_it_is_the_commands_table_and_figure(here: Path, cli: Commands) -> None:
    words = "study digits-mlp --set depth=2 --set width=8 --set batch=16 --variant locked --variant detached"
    printed = cli(words, "--steps 3 --seeds 2 --jobs 1 --logdir line")
    settings = {"variants": ["locked", "detached"], "seeds": 2, "steps": 3, "jobs": 1}
    table = antiphon.study("digits-mlp", values=TINY, **settings, logdir="line")
    shown, place = str(table).rsplit("\n\n", 1)
    assert printed.startswith(shown)  # the same runs: not a digit differs
    assert place == f"runs in {os.path.relpath(table.directory)}"
    assert repr(table) == str(table)
    other = study(load("digits-mlp"), values=TINY, **settings, logdir=here / "python")
    assert other.directory == here / "python"
    frame = other.to_pandas()
    with (here / "python/table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(frame.columns) == list(written[0])
    assert [str(value) for value in frame["mean"]] == [row["mean"] for row in written]
    assert [axes.get_ylabel() for axes in other.plot().axes] == ["accuracy %"]
    assert other.plot()._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_scenario_has_the_variants_of_its_channels_couplings(tmp_path: Path) -> None:
    channels = [{"from": "a", "to": "b", "size": 4}]
    agents = {"a": {"observes": ["image"]}, "b": {"objective": CLASSIFY}}
    scenario = scenario_of(agents, channels, batch=8, steps=3)
    variants = ["locked", "decoupled", "local"]
    table = study(scenario, variants=variants, seeds=1, jobs=1, logdir=tmp_path / "study")
    assert list(table.to_pandas()["variant"]) == variants
    with one_line("no variant 'tight'"):
        study(scenario, variants=["tight"], logdir=tmp_path / "other")
    with one_line("cannot be written as YAML"):
        study(own(), variants=["locked"], logdir=tmp_path / "third")


SCRIPT = """
import antiphon
from own_of_studies import build

print("begun")
print(antiphon.study(build, variants={"small": {"width": 2}, "large": {}}, seeds=1, jobs=2, logdir="study"))
"""
MODULE = """
import antiphon

def build(width=4):
    return antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": width, "batch": 8, "steps": 6})
"""


@pytest.mark.nightly
def test_a_script_without_a_guard_has_workers_that_import_its_function(tmp_path: Path) -> None:
    (tmp_path / "own_of_studies.py").write_text(MODULE)
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    assert "large" in done.stdout
    assert (tmp_path / "study/small-s0/result.json").exists()
