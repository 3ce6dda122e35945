"""Studies from Python: the command's table and figure, of scenarios, templates and functions."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import antiphon
from antiphon import Scenario, load, study
from antiphon.envs import ExampleStream, from_tensors
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
def test_what_a_study_does_where_its_folder_exists_is_what_a_run_does(here: Path, cli: Commands) -> None:
    """It resumes by default."""
    settings: dict[str, Any] = {"values": TINY, "variants": ["locked"], "seeds": 1, "jobs": 1}

    def begun(folder: str = "it") -> float:
        return (here / folder / "locked-s0/run.json").stat().st_mtime_ns

    first = study("digits-mlp", **settings, steps=2, logdir="it")
    time = begun()
    again = study("digits-mlp", **settings, steps=2, logdir="it", exist="resume")
    assert again.result["lines"] == first.result["lines"]
    assert begun() == time
    for exist in ("error", "overwrite"):  # nothing is there yet
        assert study("digits-mlp", **settings, steps=2, logdir=exist, exist=exist).directory.name == exist
    with one_line(r"it: already exists and is not empty; .* \(in Python exist=…\)", RunError):
        study("digits-mlp", **settings, steps=3, logdir="it", exist="error")
    assert study("digits-mlp", **settings, steps=3, logdir="it", exist="number").directory.name == "it-2"
    assert begun() == time
    (here / "it/notes").write_text("mine")
    assert study("digits-mlp", **settings, steps=3, logdir="it", exist="overwrite").result["steps"] == [3]
    assert (here / "it/notes").read_text() == "mine"
    with one_line("it-2: already exists and holds no run of this study, so nothing is removed", RunError):
        study("digits-mlp", **{**settings, "variants": ["detached"]}, logdir="it-2", exist="overwrite")
    words = "study digits-mlp --set width=8 --set batch=16 --variant locked --seeds 1 --steps 3 --jobs 1"
    assert cli.json(f"{words} --logdir it --exist number")["study_dir"].endswith("it-3")
    assert "it: already exists and is not empty" in cli.refused(f"{words} --logdir it --exist error")


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


@pytest.mark.long
def test_variants_are_parameters_of_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variants = {
        "locked": {"coupling": "locked"},
        "decoupled": None,
        "detached": {"coupling": "detached", "width": np.int64(3)},
    }
    table = study(own, variants=variants, seeds=2, steps=2, jobs=1, logdir=tmp_path / "s")
    assert [line["variant"] for line in table.result["lines"]] == ["locked", "decoupled", "detached"]
    facts = json.loads((tmp_path / "s/detached-s1/run.json").read_text())
    assert facts["values"] == {"width": 3, "coupling": "detached", "shift": 0.0}
    assert facts["template"]["source"] == "tests.api.test_studies:own"
    assert table.result["lines"][0]["contrast"] is not None  # locked against detached
    assert table.result["study"] == own().scenario
    again = study(own, variants=variants, seeds=2, steps=2, jobs=1, logdir=tmp_path / "s")
    assert again.result == table.result
    with one_line(r"locked-s0: holds another run \(shift is 0\.0, not 1\.0\)", RunError):
        study(own, variants=variants, values={"shift": 1.0}, seeds=2, logdir=tmp_path / "s")
    monkeypatch.chdir(tmp_path)
    named = study(own, seeds=1, steps=1, jobs=1).directory.name
    assert named.startswith(f"study-{own().scenario}-")


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


@pytest.mark.long
def test_what_others_cannot_import_runs_in_this_process_and_goes_on(tmp_path: Path) -> None:
    scenario, folder = own(), tmp_path / "s"

    step, taken = ExampleStream.step, itertools.count(1)

    def interrupted(self: ExampleStream, actions: Any = None) -> Any:
        if self.num_envs == scenario.training.batch and next(taken) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(self, actions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExampleStream, "step", interrupted)
        with pytest.raises(KeyboardInterrupt, match=rf"the same call with logdir='{folder}' continues"):
            study(scenario, seeds=2, logdir=folder)
    assert json.loads((folder / "default-s0/run.json").read_text())["exit"] == "stopped"
    with pytest.warns(UserWarning, match="in this process, as others cannot import the scenario"):
        table = study(scenario, seeds=2, jobs=2, logdir=folder)
    whole = study(scenario, seeds=2, logdir=tmp_path / "whole")
    assert table.result["lines"][0]["mean"] == whole.result["lines"][0]["mean"]
    with one_line(r"default-s0: holds another run \(env: this Source holds other data", RunError):
        study(own(shift=1.0), seeds=2, logdir=folder)


@pytest.mark.long
def test_all_variants_run_at_every_point_of_a_grid(tmp_path: Path) -> None:
    grid = {"width": np.array([2, 3]), "shift": [0.0, 0.5]}
    variants = {"locked": {"coupling": "locked"}, "detached": {"coupling": "detached"}}
    table = study(own, grid=grid, variants=variants, seeds=1, steps=1, jobs=1, logdir=tmp_path / "s")
    assert [(*line["point"].values(), line["variant"]) for line in table.result["lines"]] == [
        (width, shift, variant)
        for width in (2, 3)
        for shift in (0.0, 0.5)
        for variant in ("locked", "detached")
    ]
    assert (tmp_path / "s/width-2-shift-0.5-locked-s0").exists()


@pytest.mark.parametrize(
    ("scenario", "options", "line"),
    [
        (3, {}, "^scenario: must be a scenario, a template, a name or a function, not int$"),
        (
            {},
            {},
            r"or a function, not dict; write antiphon\.Scenario\.model_validate\(…\), which makes one of it$",
        ),
        ("digits-mpl", {}, "no study or scenario 'digits-mpl'; did you mean 'digits-mlp'"),
        (own, {"seeds": 0}, "^study: seeds=0; must be a whole number, at least 1$"),
        (own, {"variants": {}}, "^variants: is empty; leave it out, or name one$"),
        (own, {"variants": 3}, "^variants: 3; must be a list of names, or a mapping$"),
        (
            own,
            {"variants": {"a": 3}},
            r"^variants\.a: must map parameters to values, not int; write {'lr': 0.01}$",
        ),
        (
            own,
            {"variants": {"a": {"wdth": 3}}},
            "tests.api.test_studies:own has no parameter 'wdth'; did you mean",
        ),
        (own, {"variants": ["a"]}, "^own has no variant 'a'"),
        (own, {"variants": {"a": {"coupling": "lockd"}}}, "unknown coupling 'lockd'; did you mean 'locked'"),
        (
            own(),
            {"variants": {"fast": {"lr": 1.0}}},
            "has no parameter 'lr'; give a function of its parameters",
        ),
        (own, {"grid": {"width": 3}}, r"^grid\.width: must be a list of values"),
        (own, {"grid": {"width": [object()]}}, r"^grid\.width\[0\]: must be plain data"),
        (own, {"device": "nosuch"}, "^device: no device 'nosuch'"),
        (own, {"metric": "acuracy"}, "^metric: unknown metric 'acuracy'; did you mean 'accuracy'"),
        (lambda: 3, {}, r"returns int; it must return an antiphon\.Scenario"),
    ],
)
def test_what_is_not_accepted_is_one_line(
    scenario: Any, options: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with one_line(line, ScenarioError):
        study(scenario, logdir=tmp_path / "s", **options)
    assert not (tmp_path / "s").exists()
