"""Precision of matrix products: a run that is resumed has the one that it began with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from antiphon import Simulation


@pytest.mark.long
def test_a_resumed_run_has_the_precision_and_threads_that_it_began_with(tmp_path: Path) -> None:
    torch.set_float32_matmul_precision("high")
    how = {"logdir": tmp_path / "run", "checkpoint_every": 2, "threads": 2}
    with Simulation("digits-mlp", **how) as simulation:
        simulation.run(2, progress=False)
    assert json.loads((tmp_path / "run/run.json").read_text())["matmul_precision"] == "high"
    torch.set_float32_matmul_precision("highest")
    torch.set_num_threads(1)
    with Simulation.resume(tmp_path / "run"):
        assert (torch.get_float32_matmul_precision(), torch.get_num_threads()) == ("high", 2)


@pytest.mark.long
def test_a_precision_without_a_name_is_left_as_it_is(tmp_path: Path) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.step()
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    assert json.loads((tmp_path / "run/run.json").read_text())["matmul_precision"] is None
