"""The benchmarks of speed start: competitors compute what the backend does, and each script has its numbers."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from benchmarks import agents_scaling, slow_line, split


@pytest.mark.long
def test_programs_by_hand_compute_what_the_backend_does() -> None:
    found = agents_scaling.check(5, "cohort", "cpu")
    assert found.keys() == {"plain_loop", "plain_loop_fused", "stacked"}
    assert max(found.values()) < 1e-10


@pytest.mark.nightly
def test_a_split_is_timed_and_keeps_less_for_backward() -> None:
    rows = {row["way"]: row for row in split.measure(4, 2, width=16, length=16, batch=8)}
    assert rows[split.PLAIN]["ratio"] == 1.0
    assert rows["decoupled, sweep"]["kept_mb"] < rows["locked"]["kept_mb"]


@pytest.mark.parametrize("count", [2, 4])
def test_the_stages_of_a_pipeline_are_the_model(count: int) -> None:
    assert slow_line.HERE  # its import makes the programs in slow_line/ modules
    model = import_module("task").new_model(0)
    tokens = torch.arange(32).reshape(2, 16)
    x = tokens
    for index in range(count):
        x = import_module("torch_way").Stage(model, index, count)(x)
    torch.testing.assert_close(x, model(tokens), rtol=0, atol=0)
