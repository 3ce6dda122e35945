"""The shape of the reference engine: short, a folder of its own, subclassed by nobody, sharing nothing with what it judges."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "engine" / "reference"
COMPUTING = (
    "engine",
    "forward",
    "mailbox",
    "ledger",
    "losses",
    "backward",
    "predictors",
    "state",
    "policies",
)
"""The files that decide what is computed."""
DECLARING = ("records", "checkpoint")
"""Declarations, and the form of a checkpoint."""
MOST_LINES = 1600
MOST_LOADED = 13
"""Files that loading the engine loads, beyond agents/, comms/ and nets/."""


def trees(folder: Path) -> Iterator[tuple[Path, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def test_a_newcomer_reads_it_in_a_sitting() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*COMPUTING, *DECLARING, "__init__"}
    lines = {name: len((FOLDER / f"{name}.py").read_text("utf-8").splitlines()) for name in COMPUTING}
    assert len(lines) <= 9
    assert sum(lines.values()) <= MOST_LINES, lines


@pytest.mark.long
def test_loading_it_loads_little() -> None:
    code = "import sys, antiphon.engine.reference.engine as e; print(*sorted(m for m in sys.modules if m.startswith('antiphon.')))"
    run = [sys.executable, "-c", code]
    names = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    ours = [name for name in names if name.split(".")[1] not in ("agents", "comms", "nets")]
    packages = {"antiphon.engine", "antiphon.engine.reference"}
    assert len(set(ours) - packages) <= MOST_LOADED, ours


def test_nobody_subclasses_it() -> None:
    own = {
        node.name
        for _, tree in trees(FOLDER)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    }
    assert own
    for folder in ("engine", "benchmarks"):
        for path, tree in trees(ROOT / folder):
            taken = {
                alias.asname or alias.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ImportFrom)
                if (node.module or "").startswith("antiphon.engine.reference")
                for alias in node.names
            }
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef):
                    bases = {ast.unparse(base) for base in node.bases}
                    assert not bases & (own if FOLDER in path.parents else taken), f"{path}: {node.name}"


def test_it_shares_nothing_with_other_engines_and_its_masks_are_tensors() -> None:
    """No `bool | Tensor`: a checkpoint alone may write one bool for all environments."""
    for path, tree in trees(FOLDER):
        imported = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        own = ("antiphon.engine.reference.", "antiphon.engine.core.clock")
        engine = {module for module in imported if module.startswith("antiphon.engine")}
        assert all(module.startswith(own) for module in engine), (path, engine)
        batched = {"stacked", "bundled", "stacking", "stacked_optimiser"}
        assert not {module.rsplit(".", 1)[-1] for module in imported} & batched, path
        text = path.read_text("utf-8") if path.stem in COMPUTING else ""
        assert "bool | Tensor" not in text
        assert "Tensor | bool" not in text
