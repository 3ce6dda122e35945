"""The notebook of docs/ runs from top to bottom; its first cell, which installs antiphon, is left out."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[2] / "docs" / "first-channel.ipynb"


@pytest.mark.long
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
        *("Scenario", "dict", "Figure", "Figure", "Evaluation", "Table", "Figure"),
    ]
    means = {line["variant"]: line["mean"]["value"] for line in namespace["table"].result["lines"]}
    assert means["decoupled"] > means["detached"]


def shown(source: str, name: str, namespace: dict[str, Any]) -> str:
    """Execute a cell; return the type of what a notebook shows below it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), namespace)  # noqa: S102 (our own)
    value = None if last is None else eval(compile(ast.Expression(last.value), name, "eval"), namespace)
    if value is None:
        return ""
    return type(value).__name__


def test_no_output_is_kept() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
