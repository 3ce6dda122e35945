"""A run that is resumed again and again: a resume costs what the first did."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import antiphon


def test_a_resume_waits_for_the_disk_as_often_after_many_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with antiphon.Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(2, progress=False)
    waits: list[int] = []
    synced = os.fsync

    def counted(file: int) -> None:
        waits[-1] += 1
        synced(file)

    monkeypatch.setattr(os, "fsync", counted)
    for _ in range(4):
        waits.append(0)
        simulation = antiphon.Simulation.resume(tmp_path / "run")
        waits_of_resume = waits[-1]
        simulation.run(1, progress=False)
        simulation.close()
        waits[-1] = waits_of_resume
    assert waits[1:] == [waits[1]] * 3
