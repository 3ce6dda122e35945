"""The benchmark of parts: one part and two compute the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import parts


def test_one_part_and_two_compute_the_same(tmp_path: Path) -> None:
    found = parts.contestants("local", 6, 4, 2, str(tmp_path))
    learned = {}
    for name, each in found.items():
        assert isinstance(each, parts.Local)
        seconds, wall = each.turn(8)
        assert len(seconds) == len(each.parts) == {"one": 1, "two": 2}[name]
        assert min(seconds) > 0
        assert wall is None
        assert {part.now for part in each.parts} == {8}
        agents = {k: v for part in each.parts for k, v in part.backend.per_agent().agents.items()}
        learned[name] = {k: dict(agent.learner.parameters) for k, agent in agents.items()}
        each.close()
    assert learned["one"].keys() == learned["two"].keys()
    for name, own in learned["one"].items():
        for key, value in own.items():
            assert torch.equal(value, learned["two"][name][key])


def test_the_row_of_a_measurement() -> None:
    row = parts.measure("local", agents=6, delay=4, every=2, steps=4, rounds=2)
    assert row["cpu_ratio"] == pytest.approx(row["cpu_ms_one"] / row["cpu_ms_two"], rel=0.5)
    assert "wall_ratio" not in row
    assert isinstance(row["met"], bool)
