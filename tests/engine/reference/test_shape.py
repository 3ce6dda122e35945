"""The shape of the reference engine: short, a folder of its own, sharing no calculation with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "engine" / "reference"
SHARED = (
    *(
        f"antiphon.engine.heart.{name}"
        for name in ("agent", "channel", "clock", "message", "system", "updates")
    ),
    "antiphon.engine.policies.policy_window",
)
"""What it has in common with what it judges: declared agents and channels, and the types of what is kept and reported."""
MOST_LINES = 1360


def imports(path: Path) -> dict[str, list[str]]:
    """Names that a file imports, by module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {node.module or "": [alias.name for alias in node.names] for node in nodes}


def test_a_newcomer_reads_it_in_a_sitting() -> None:
    lines = {path.stem: len(path.read_text("utf-8").splitlines()) for path in FOLDER.glob("*.py")}
    assert len(lines) <= 10
    assert sum(lines.values()) <= MOST_LINES, lines


def test_it_shares_no_calculation_with_other_engines() -> None:
    for path in FOLDER.glob("*.py"):
        engine = {module for module in imports(path) if module.startswith("antiphon.engine")}
        assert all(module in SHARED or module.startswith("antiphon.engine.reference") for module in engine), (
            path
        )
        batched = {"stacked", "bundled", "stacking", "stacked_optimiser"}
        assert not {module.rsplit(".", 1)[-1] for module in imports(path)} & batched, path
