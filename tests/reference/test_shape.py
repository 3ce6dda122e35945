"""The shape of the reference engine: short, a folder of its own, sharing no calculation with what it judges."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
FILES = [
    path for path in FOLDER.glob("*.py") if path.name != "backend.py" and not path.name.startswith("test_")
]
"""All but what makes a backend of it, which keeps and restores state as the engine does."""
SHARED = tuple(f"antiphon.engine.heart.{name}" for name in ("ends", "signals", "updates", "window"))
"""What it has in common with what it judges: the types of what is kept and reported."""
DECLARATIONS = {
    "antiphon.engine.heart.agent": {"Agent", "Goal"},
    "antiphon.engine.heart.channel": {"Channel", "SyntheticGradient", "SyntheticInput"},
    "antiphon.engine.heart.predictors": {"Watch"},
    "antiphon.engine.heart.forward": {"as_input"},
    "antiphon.engine.heart.system": {"System"},
    "antiphon.engine.heart.timetable": {"ReadPlan"},
}
"""The types that say what was declared; nothing else of these modules is shared."""
MOST_LINES = 1845
"""Without the lines of imports."""


def imports(path: Path) -> dict[str, list[str]]:
    """Names that a file imports, by module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {node.module or "": [alias.name for alias in node.names] for node in nodes}


def _lines_to_read(source: str) -> int:
    imported = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    return len(source.splitlines()) - sum((node.end_lineno or 0) - node.lineno + 1 for node in imported)


def test_a_newcomer_reads_it_in_a_sitting() -> None:
    lines = {path.stem: _lines_to_read(path.read_text("utf-8")) for path in FILES}
    assert len(lines) <= 10
    assert sum(lines.values()) <= MOST_LINES, lines


def test_it_shares_no_calculation_with_other_engines() -> None:
    for path in FILES:
        for module, names in imports(path).items():
            own = not module.startswith("antiphon.engine")
            assert own or module in SHARED or set(names) <= DECLARATIONS.get(module, set()), (path, module)
        batched = {"stacked", "bundled", "stacking", "stacked_optimiser"}
        assert not {module.rsplit(".", 1)[-1] for module in imports(path)} & batched, path
