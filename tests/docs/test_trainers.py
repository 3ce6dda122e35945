"""The examples with Lightning and Hugging Face run where the package is installed."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

HOWTO = Path(__file__).resolve().parents[2] / "docs/howto"
SCRIPTS = {"lightning": "lightning_module.py", "transformers": "hugging_face_trainer.py"}


def script_of(package: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run an example in a folder and return its variables."""
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    return runpy.run_path(str(HOWTO / SCRIPTS[package]))


@pytest.mark.long
@pytest.mark.parametrize("package", SCRIPTS)
def test_the_example_runs_with_the_package(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    script_of(package, tmp_path, monkeypatch)
