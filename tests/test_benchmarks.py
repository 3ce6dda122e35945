"""The benchmarks of speed start: competitors compute what the backend does, and each script has its numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from benchmarks import agents_scaling, building, parts, shuffled_credit, split


@pytest.mark.long
def test_programs_by_hand_compute_what_the_backend_does() -> None:
    found = agents_scaling.check(5, "cohort", "cpu", ["reference"])
    assert found.keys() == {"reference", "plain_loop", "plain_loop_fused", "stacked", "stacked_autograd"}
    assert max(found.values()) < 1e-10


@pytest.mark.long
def test_one_part_and_two_compute_the_same(tmp_path: Path) -> None:
    learned = {}
    for name, each in parts.contestants("local", 6, 4, 2, str(tmp_path)).items():
        assert isinstance(each, parts.Local)
        seconds, _ = each.turn(8)
        assert len(seconds) == len(each.parts) == {"one": 1, "two": 2}[name]
        learners = [part.state_dict()["system"]["learners"] for part in each.parts]
        learned[name] = {k: own["parameters"] for part in learners for k, own in part.items()}
        each.close()
    torch.testing.assert_close(learned["one"], learned["two"], rtol=0, atol=0)
    row = parts.measure("local", agents=6, delay=4, every=2, steps=4, rounds=2)
    assert row["cpu_ratio"] == pytest.approx(row["cpu_ms_one"] / row["cpu_ms_two"], rel=0.5)


@pytest.mark.long
def test_many_agents_are_built_saved_and_stepped() -> None:
    found = building.row(16, only_build=16)
    assert {*(f"s_{part}" for part in building.PARTS), "step_ratio", "python_kb"} <= found.keys()
    assert building.missed([found]) == []


@pytest.mark.long
def test_a_split_is_timed_and_keeps_less_for_backward() -> None:
    rows = {row["way"]: row for row in split.measure(4, 2, width=16, length=16, batch=8)}
    assert rows[split.PLAIN]["ratio"] == 1.0
    assert rows["decoupled, sweep"]["kept_mb"] < rows["locked"]["kept_mb"]


def test_a_shuffled_prediction_is_that_of_the_next_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "shuffled_credit.py digits-mlp --set depth=2 --set width=8 --set batch=16 --steps 3 --seeds 1 --json"
    )
    monkeypatch.setattr(sys, "argv", words.split())
    shuffled_credit.main()
    assert '"shuffled": true' in capsys.readouterr().out
