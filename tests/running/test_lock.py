"""The lock of a run directory: a second writer is refused, what a killed process left is removed."""

from __future__ import annotations

import re
import shutil
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


def test_this_process_has_it_once(run: Path) -> None:
    with Simulation.resume(run) as simulation, refused(run):
        Simulation.resume(run)
    simulation.close()
    Simulation.resume(run).close()
    assert not (run / LOCK).exists()


@pytest.mark.long
def test_a_run_begins_where_a_process_was_killed_as_it_began_one(tmp_path: Path, cli: Commands) -> None:
    """It had the lock, and not yet run.json; a folder of somebody else's is let alone."""
    words = "run digits-mlp --set width=4 --steps 2 --name run --logdir"
    run = tmp_path / "run"
    for names in (
        [],
        ["scenario.yaml"],
        [".scenario.yaml.0123abcd.tmp"],
        ["scenario.yaml", ".run.json.0123abcd.tmp"],
    ):
        run.mkdir()
        with holder(run, *names):
            assert "run: is being written by " in cli.refused(words, tmp_path)
        cli(words, tmp_path)
        assert not list(run.glob(".*"))
        assert not (tmp_path / "run-2").exists()
        shutil.rmtree(run)
    for names in (["scenario.yaml"], [LOCK, "notes.txt"]):
        run.mkdir()
        for name in names:
            (run / name).write_text("mine")
        cli(words, tmp_path)
        assert sorted(path.name for path in run.iterdir()) == sorted(names)
        shutil.rmtree(run)
        shutil.rmtree(tmp_path / "run-2")
