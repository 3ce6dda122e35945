"""`--scenario MODULE:FUNCTION`: Python scenarios on the command line, and runs that hold Python objects."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from tests.kit import seams
from tests.kit.commands import Commands

MODULE = """
import torch
from torch import nn

import antiphon
from antiphon.envs import from_tensors

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))


def network(inputs, outputs):
    return nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))


CALLS = []


def build(width: int = 4, coupling: str = "decoupled", shift: float = 0.0):
    CALLS.append(width)
    head = nn.Sequential(nn.Linear(width, 2))
    return antiphon.Scenario.model_validate({
        "scenario": "mine",
        "env": from_tensors(x=X + shift, label=(X[:, 0] > 0).long()),
        "agents": {
            "a": {"observes": ["x"], "network": network},
            "b": {"network": head, "objective": {"kind": "classification", "target": "label"}},
        },
        "channels": [{"from": "a", "to": "b", "size": width, "coupling": coupling, "norm": "none"}],
        "training": {"batch": 8, "steps": 12},
    })


def shifted():
    return build(shift=1.0)
"""
WORLD = """
import antiphon
from antiphon.envs import from_tensors
from own import X


@antiphon.environment("world")
def world():
    return from_tensors(x=X, label=(X[:, 0] > 0).long())
"""


@pytest.fixture(autouse=True)
def _module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module in the working directory."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (here / "own.py").write_text(MODULE)
    yield
    sys.modules.pop("own", None)


@pytest.mark.long
def test_a_python_scenario_is_run_resumed_and_evaluated(here: Path, cli: Commands) -> None:
    result = cli.json("run own:build --set width=3 --steps 10 --name a --logdir .")
    assert (result["scenario"], result["steps"], result["exit"]) == ("mine", 10, "done")
    facts = json.loads((here / "a/run.json").read_text())
    assert facts["template"] == {"source": "own:build", "text": ""}
    assert facts["values"] == {"width": 3, "coupling": "decoupled", "shift": 0.0}
    assert sys.modules["own"].CALLS == [3]
    again = "run own:build --set width=3 --steps 10 --name a --logdir . --exist resume"
    assert cli.json(again) == result
    assert cli.json("resume a --scenario own:build --steps 14")["steps"] == 14
    found = cli.json("evaluate a --scenario own:build --ablate zero")
    assert found["steps"] == 14
    assert list(found["ablation"]["channels"]) == ["a->b"]
    assert json.loads((here / "a/measured.json").read_text()).keys() == {"ablation_zero"}


def test_a_run_needs_the_module_that_has_its_environment(
    here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "world.py").write_text(WORLD)
    monkeypatch.setenv("ANTIPHON_IMPORT", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    agents = "{a: {observes: [x], objective: {kind: classification, target: label}}}"
    (here / "w.yaml").write_text(f"scenario: w\nenv: {{id: world}}\nagents: {agents}\n")
    cli("--import world run w.yaml --steps 1 --name b --logdir .")
    monkeypatch.delitem(sys.modules, "world")
    monkeypatch.setenv("ANTIPHON_IMPORT", "")
    monkeypatch.setattr(seams.ENVIRONMENTS, {**resolve_name(seams.ENVIRONMENTS)})
    resolve_name(seams.ENVIRONMENTS).pop("world")
    assert "antiphon --import MODULE" in cli.refused("resume b --steps 2")
    cli("--import world resume b --steps 2")


def test_check_builds_it(here: Path, cli: Commands) -> None:
    assert cli("check own:build").endswith("own:build: ok\n")
    assert cli.code("check own:build --set coupling=lokced") == 2
    assert "coupling" in cli.out + cli.err


def test_what_has_no_variants_has_couplings_also_on_resume(here: Path, cli: Commands) -> None:
    assert "--variant detached" in cli("study own:build --variant detached --list")
    cli("run own:build --variant detached --steps 2 --name d --logdir .")
    assert "coupling: detached" in (here / "d/scenario.yaml").read_text()
    assert cli.json("resume d --scenario own:build --steps 3")["steps"] == 3
    assert cli.refused("run own:build --variant lokal").startswith("build has no variant 'lokal'; did you")


def test_a_document_cannot_name_python(here: Path, cli: Commands) -> None:
    """Code is named on the command line alone."""
    (here / "bad.yaml").write_text(
        "scenario: bad\nenv: {python: own}\nagents: {a: {network: {python: build}}}\n"
    )
    assert cli.refused("run bad.yaml").startswith("bad.yaml:2: env")
    (here / "study.yaml").write_text("study: s\nscenario: own:build\nbudgets: {default: {steps: 2}}\n")
    assert "own:build" in cli.refused("study study.yaml")
    assert "own" not in sys.modules
