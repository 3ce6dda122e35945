"""The notebook of docs/ runs from top to bottom; its first cell, which installs antiphon, is left out."""

from __future__ import annotations

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
    for number, source in enumerate(sources[1:], 1):
        exec(compile(source, f"{NOTEBOOK.name}, code cell {number}", "exec"), namespace)  # noqa: S102 (our own)
    pyplot.close("all")
    accuracy = {
        name: history.of("mind", "accuracy")[1][-1] for name, history in namespace["histories"].items()
    }
    assert accuracy["decoupled"] > accuracy["detached"]


def test_no_output_is_kept() -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]
