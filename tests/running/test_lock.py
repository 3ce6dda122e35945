"""The lock of a run directory: a second writer is refused, what a killed process left is removed."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation, load
from antiphon.errors import RunError
from antiphon.running import directory
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

LOCK = "run.lock"
SCENARIO = load("digits-mlp").resolve(None, {"depth": 2, "width": 4, "batch": 8, "steps": 6})


@contextmanager
def holder(folder: Path, begin: Callable[[], object] = lambda: None) -> Iterator[int]:
    """The number of another process that has the lock of a folder, and has begun something there."""
    begun, tell = os.pipe()
    process = os.fork()
    if process == 0:
        held = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        begin()
        os.write(tell, b"1")
        signal.pause()
        os._exit(0)
    try:
        assert os.read(begun, 1)
        yield process
    finally:
        end(process)
        os.close(begun)
        os.close(tell)


def end(process: int) -> None:
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def refused(folder: Path) -> Any:
    return one_line(
        f"^{re.escape(str(folder))}: is being written now by (process|another process|a simulation in this)",
        RunError,
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two steps, of six."""
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run(2)
    return tmp_path / "run"


@pytest.mark.long
def test_show_says_that_no_process_writes_a_run_that_was_killed(tmp_path: Path, cli: Commands) -> None:
    code = (
        "import antiphon, sys\n"
        "scenario = antiphon.load('digits-mlp').resolve(None, {'depth': 2, 'width': 4, 'batch': 8, 'steps': 6})\n"
        "simulation = antiphon.Simulation(scenario, logdir=sys.argv[1])\n"
        "simulation.run(2)\n"
        "with simulation:\n"
        "    simulation.run(1, callbacks=lambda one: (print('begun', flush=True), input()))\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        line = "no process here writes it"
        assert line not in cli("show", tmp_path / "run")
        process.kill()
    shown = cli("show", tmp_path / "run")
    assert ", running\n" in shown
    assert line in shown
    assert "antiphon resume continues it" in shown


def test_a_run_is_written_too_where_the_system_lists_its_lock_as_of_another_device(
    tmp_path: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As overlayfs and btrfs do."""
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda path, *_, **__: "" if str(path) == "/proc/locks" else read(path)
    )
    shown: list[str] = []
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run(1, callbacks=lambda _: shown.append(cli("show", tmp_path / "run")))
    assert len(shown) == 1
    assert ", running\n" in shown[0]
    assert "no process here writes it" not in shown[0]


def test_a_second_process_is_refused_until_the_first_is_dead(run: Path, cli: Commands) -> None:
    """It changes nothing, and what the first has half written is removed once it is dead."""
    half = run / ".seeds.json.0123abcd.tmp"
    with holder(run, half.touch) as process:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        line = cli.refused("resume", run, "--steps 3")
        assert "run: is being written now by " in line
        if f" {process} " in line:  # not every system says who holds a lock
            assert f"by process {process}; wait until it has ended, or stop it (kill {process})" in line
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        end(process)
        assert {(run / LOCK).exists(), half.exists()} == {True}
        cli("resume", run, "--steps 3")
    assert {(run / LOCK).exists(), half.exists()} == {False}


def test_this_process_has_it_once(run: Path) -> None:
    with Simulation.resume(run) as simulation:
        with refused(run):
            Simulation.resume(run)
        if not os.fork():
            simulation.close()  # not what a process forked off has
            os._exit(0)
        os.wait()
        with refused(run):
            Simulation.resume(run)
    simulation.close()
    Simulation.resume(run).close()
    assert not (run / LOCK).exists()


def test_a_system_that_names_no_holders_has_the_same_refusal(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(1, "refused")

    line = "by another process, or by a simulation in this one; wait until it has ended, or stop it$"
    with Simulation.resume(run), monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)  # of /proc/locks
        with one_line(f"is being written now {line}", RunError):
            Simulation.resume(run)


def test_a_lock_that_is_no_file_is_one_line(run: Path) -> None:
    for make in (lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
        make(run / LOCK)
        with one_line(r"run\.lock: cannot be written", RunError):
            Simulation.resume(run)
        (run / LOCK).unlink() if (run / LOCK).is_symlink() else (run / LOCK).rmdir()


def test_a_system_that_removes_no_files_holds_no_lock(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation.resume(run)
    (run / ".run.json.0123abcd.tmp").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        simulation.close()
        with one_line(r"run\.lock: cannot be written \(refused\)", RunError):
            Simulation.resume(run)
    Simulation.resume(run).close()
    assert not {LOCK, ".run.json.0123abcd.tmp"} & {path.name for path in run.iterdir()}


@pytest.mark.long
def test_a_run_begins_where_a_process_was_killed_as_it_began_one(tmp_path: Path, cli: Commands) -> None:
    """It had the lock, and not yet run.json; a folder of somebody else's is let alone."""
    words = "run digits-mlp --set width=4 --steps 2 --name run --exist error --logdir"
    run = tmp_path / "run"
    for names in (
        [],
        ["scenario.yaml"],
        [".scenario.yaml.0123abcd.tmp"],
        ["scenario.yaml", ".run.json.0123abcd.tmp"],
    ):
        run.mkdir()
        with holder(run, lambda names=names: [(run / name).write_text("") for name in names]):  # type: ignore[misc]
            assert "run: is being written now by " in cli.refused(words, tmp_path)
        cli(words, tmp_path)
        assert not list(run.glob(".*"))
        for path in sorted(run.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        run.rmdir()
    for names in (["scenario.yaml"], [LOCK, "notes.txt"]):
        run.mkdir()
        for name in names:
            (run / name).write_text("mine")
        assert "run: already exists and is not empty" in cli.refused(words, tmp_path)
        assert sorted(path.name for path in run.iterdir()) == sorted(names)
        for name in names:
            (run / name).unlink()
        run.rmdir()


def test_a_folder_that_another_process_fills_before_it_is_locked_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Later(directory.DirectoryLock):
        def __init__(self, folder: Path) -> None:
            if folder.name == "run":
                folder.mkdir()
                (folder / "run.json").write_text("{}")
            super().__init__(folder)

    monkeypatch.setattr(directory, "DirectoryLock", Later)
    with one_line("run: already exists and is not empty", RunError):
        Simulation(SCENARIO, logdir=tmp_path / "run", exist="error")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folders_that_a_refused_study_has_made_are_gone(tmp_path: Path, cli: Commands) -> None:
    scenario = tmp_path / "lacking.yaml"
    agents = "a: {observes: [x], objective: {kind: regression, target: x}}"
    scenario.write_text(
        f"scenario: lacking\nenv: {{id: antiphon/Tensors-v0, file: none.npz}}\nagents: {{{agents}}}\n"
    )
    (tmp_path / "kept").mkdir()
    folder = tmp_path / "kept" / "made" / "below"
    assert cli.code("study", scenario, "--seeds 1 --logdir", folder) == 2
    assert "env.file" in cli.err
    assert [*(tmp_path / "kept").iterdir()] == []
