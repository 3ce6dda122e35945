"""Precision of matrix products: a run has the one that it began with, and the caller's program keeps its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import Simulation
from tests.kit.running import matmul_precision

_SEEN: list[str] = []
"""The precisions in which modules were called."""


class Seen(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        _SEEN.append(matmul_precision())
        return super().forward(x.flatten(1))


@pytest.fixture(autouse=True)
def unseen() -> None:
    _SEEN.clear()


def scenario() -> antiphon.Scenario:
    goal = {"kind": "classification", "target": "label"}
    agents = {"a": {"observes": ["image"], "network": Seen, "objective": goal}}
    return antiphon.Scenario(
        scenario="one", env={"id": "antiphon/Digits-v0"}, agents=agents, training={"batch": 4, "steps": 6}
    )


def seen() -> set[str]:
    found = {*_SEEN}
    _SEEN.clear()
    return found


@pytest.mark.long
def test_a_run_keeps_the_precision_that_it_began_with_and_the_caller_has_its_own(tmp_path: Path) -> None:
    torch.set_float32_matmul_precision("high")
    with Simulation(scenario(), logdir=tmp_path / "run", checkpoint_every=2) as simulation:
        assert seen() == {"high"}
        torch.set_float32_matmul_precision("highest")
        simulation.run(2, progress=False)
        simulation.step()
        simulation.evaluate()
        with simulation.fork() as twin:
            twin.step()
        assert seen() == {"high"}
        assert torch.get_float32_matmul_precision() == "highest"
    for again in (
        lambda: Simulation.resume(tmp_path / "run", scenario()),
        lambda: Simulation(scenario(), logdir=tmp_path / "run", exist="resume"),
    ):
        with again() as simulation:
            simulation.step()
            torch.set_float32_matmul_precision("medium")
            simulation.step()
        assert seen() == {"high"}
        assert torch.get_float32_matmul_precision() == "medium"
        torch.set_float32_matmul_precision("highest")
    Simulation(scenario()).close()
    assert seen() == {"highest"}


@pytest.mark.long
def test_a_precision_of_one_backend_that_torch_has_no_name_for(tmp_path: Path) -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="mix of the legacy and new APIs"):
        torch.get_float32_matmul_precision()
    with Simulation(scenario(), logdir=tmp_path / "run", checkpoint_every=1) as simulation:
        simulation.step()
    assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"  # type: ignore[attr-defined]
    assert json.loads((tmp_path / "run/run.json").read_text())["matmul_precision"] == "cuda ieee, mkldnn bf16"
    torch.set_float32_matmul_precision("highest")
    assert seen() == {"cuda ieee, mkldnn bf16"}
    with Simulation.resume(tmp_path / "run", scenario()) as simulation:
        assert torch.get_float32_matmul_precision() == "highest"
        torch.backends.mkldnn.matmul.fp32_precision = "tf32"  # type: ignore[attr-defined]
        simulation.step()
    assert torch.backends.mkldnn.matmul.fp32_precision == "tf32"  # type: ignore[attr-defined]
    assert seen() == {"cuda ieee, mkldnn bf16"}
