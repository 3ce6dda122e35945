"""Runs in processes whose streams are absent or cannot write every character (base/errors.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import antiphon
from tests.kit.commands import run_command

TINY = {"width": 8, "depth": 2, "batch": 8}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.long
def test_a_process_without_streams_trains_as_any_other(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stderr", "stdout"):
        monkeypatch.setattr(sys, name, None)
        with antiphon.Simulation(
            antiphon.load("digits-mlp").resolve(values=TINY), logdir="run"
        ) as simulation:
            simulation.run(steps=2)
            assert simulation.now == 2
    rates = [0.25, 0.5]
    members = antiphon.population("digits-mlp", vary={"lr": rates}, values=TINY, members=2, steps=2)
    assert members.result["exit_code"] == 0
    assert run_command("show digits-mlp") == 0
    assert run_command("show digits") == 2
    assert run_command("show --nothing") == 2
