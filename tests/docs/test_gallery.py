"""Programs of docs/ run as a new user's do: the gallery's scripts, the notebook, worlds by kind, trainers of other packages."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import antiphon
from antiphon import Scenario, Simulation
from tests.envs.adaptors.test_gymnasium import Counter

# --- the gallery -----------------------------------------------------------------------------------------


ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs/gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))
LONGEST = 40
"""Lines of a user's own code."""


def own_lines(text: str) -> int:
    """Return how many lines of a program are the user's own code."""
    others: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        if imported or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            others.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and line[0] != "#" and n not in others for n, line in enumerate(lines, start=1))


def without_numbers(output: str) -> str:
    """Return what a program prints with its numbers, and the widths that they give to columns, left out."""
    return " ".join(re.sub(r"─+|[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", output).split())


def run_script(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder as its user would, on one thread."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.nightly
@pytest.mark.parametrize("script", [pytest.param(script, id=script.stem) for script in SCRIPTS])
def test_a_script_does_what_it_claims_and_prints_what_the_page_shows(script: Path, tmp_path: Path) -> None:
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning either
    expected = script.with_suffix(".txt").read_text(encoding="utf-8")
    assert without_numbers(done.stdout) == without_numbers(expected)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_short_asserts_something_and_is_on_the_page(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert own_lines(text) <= LONGEST
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
    page = (GALLERY / "index.md").read_text(encoding="utf-8")
    assert f"\n[{script.name}]({script.name}), [output]({script.stem}.txt)\n" in page


# --- the notebook ----------------------------------------------------------------------------------------


NOTEBOOK = Path(__file__).parents[2] / "docs" / "first-channel.ipynb"


@pytest.mark.nightly
def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert sources[0].startswith("%pip install")
    namespace: dict[str, Any] = {}
    displayed = [shown(source, f"cell {number}", namespace) for number, source in enumerate(sources[1:], 1)]
    pyplot.close("all")
    assert [kind for kind in displayed if kind] == [
        *("Scenario", "dict", "Axes", "ndarray", "Evaluation", "Table", "Axes"),
    ]
    means = {line["variant"]: line["mean"]["value"] for line in namespace["table"].result["lines"]}
    assert means["decoupled"] > means["detached"]


def shown(source: str, name: str, namespace: dict[str, Any]) -> str:
    """Execute a cell; return the type of what a notebook shows below it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)
    value = None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    if value is None:
        return ""
    return type(value).__name__


def test_no_output_is_kept() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


# --- worlds by kind --------------------------------------------------------------------------------------


PAGE = Path(__file__).resolve().parents[2] / "docs/howto/worlds.md"
SCENARIOS = {
    text.split()[1]: text for text in re.findall(r"```yaml\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
}
"""By the scenario's name."""
NEEDS = {"lander": "Box2D", "racing": "Box2D", "rooms": "minigrid", "pong": "ale_py"}


def test_each_has_at_most_six_lines() -> None:
    assert len(SCENARIOS) == 6
    assert {name: text.count("\n") for name, text in SCENARIOS.items() if text.count("\n") > 6} == {}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", SCENARIOS)
def test_each_trains(name: str) -> None:
    if name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed")
    for package in ("minigrid", "ale_py"):
        if NEEDS.get(name) == package:
            importlib.import_module(package)
    if name == "mine" and "my/World-v0" not in antiphon.envs.ids():
        antiphon.envs.register("my/World-v0", Counter)
    scenario = Scenario.from_yaml(SCENARIOS[name])
    batch = {"batch": 2}
    with Simulation(
        scenario.model_copy(update={"training": scenario.training.model_copy(update=batch)})
    ) as simulation:
        simulation.run(steps=16, progress=False)
        assert all(agent.updates for agent in simulation.agents.values())


# --- trainers --------------------------------------------------------------------------------------------


HOWTO = Path(__file__).resolve().parents[2] / "docs/howto"
TRAINERS = {"lightning": "lightning_module.py", "transformers": "hugging_face_trainer.py"}


def script_of(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run an example in a folder and return its variables."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    return runpy.run_path(str(HOWTO / TRAINERS[package]))


@pytest.mark.long
@pytest.mark.parametrize("package", TRAINERS)
def test_the_example_runs_with_the_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    script_of(package, tmp_path, monkeypatch)
