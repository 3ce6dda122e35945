"""The shape of the reference engine: short, a folder of its own, sharing nothing with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

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
"""The files that decide what is computed; `records` are declarations, `checkpoint` the form of a checkpoint."""
MOST_LINES = 1600


def imports(path: Path) -> dict[str, list[str]]:
    """Names that a file imports, by module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {node.module or "": [alias.name for alias in node.names] for node in nodes}


def test_a_newcomer_reads_it_in_a_sitting() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*COMPUTING, "records", "checkpoint", "__init__"}
    lines = {name: len((FOLDER / f"{name}.py").read_text("utf-8").splitlines()) for name in COMPUTING}
    assert sum(lines.values()) <= MOST_LINES, lines


def test_it_shares_nothing_with_other_engines() -> None:
    for path in FOLDER.glob("*.py"):
        engine = {module for module in imports(path) if module.startswith("antiphon.engine")}
        own = ("antiphon.engine.reference.", "antiphon.engine.core.clock")
        assert all(module.startswith(own) for module in engine), (path, engine)
        batched = {"stacked", "bundled", "stacking", "stacked_optimiser"}
        assert not {module.rsplit(".", 1)[-1] for module in imports(path)} & batched, path
