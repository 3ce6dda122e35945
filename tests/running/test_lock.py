"""The lock of a run directory: a second writer is refused, what a killed process left is removed."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation, load
from antiphon.errors import RunError
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

LOCK = "run.lock"
SCENARIO = load("digits-mlp").resolve(None, {"depth": 2, "width": 4, "batch": 8, "steps": 6})


HOLD = """
import fcntl, pathlib, sys
lock, *begun = sys.argv[1:]
held = open(lock, "a")
fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
for path in begun:
    pathlib.Path(path).touch()
print(flush=True)
sys.stdin.read()
"""
"""Takes a lock, makes files, says so and waits."""


@contextmanager
def holder(folder: Path, *begun: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock of a folder, and has begun files there."""
    paths = [str(folder / name) for name in (LOCK, *begun)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", HOLD, *paths], text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline()
        yield process
        process.kill()


def refused(folder: Path) -> Any:
    return one_line(
        f"^{re.escape(str(folder))}: is being written by another process",
        RunError,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps, of six."""
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run(2)
    return tmp_path / "run"


def test_a_second_process_is_refused_until_the_first_is_dead(run: Path, cli: Commands) -> None:
    """It changes nothing, and what the first has half written is removed once it is dead."""
    half = run / ".seeds.json.0123abcd.tmp"
    with holder(run, half.name) as process:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        line = cli.refused("resume", run, "--steps 3")
        assert "run: is being written by " in line
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        process.kill()
        process.wait()
        assert {(run / LOCK).exists(), half.exists()} == {True}
        cli("resume", run, "--steps 3")
    assert {(run / LOCK).exists(), half.exists()} == {False}
