"""The lock of a run directory: a second writer is refused, what a killed process left is removed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.errors import RunError
from antiphon.running.lock import LOCK, DirectoryLock
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

SCENARIO = "digits-mlp"


@contextmanager
def holder(folder: Path, begin: Callable[[], object] = lambda: None) -> Iterator[int]:
    """The number of another process that has the lock of a folder, and has begun something there."""
    begun, tell = os.pipe()
    process = os.fork()
    if process == 0:
        held = DirectoryLock(folder)
        begin()
        os.write(tell, str(held).encode()[:1])
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


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        with refused(tmp_path):
            DirectoryLock(tmp_path)
        end(process)
        assert (tmp_path / LOCK).exists()
        DirectoryLock(tmp_path).release()
    assert not (tmp_path / LOCK).exists()


def test_this_process_has_it_once(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path)
    with refused(tmp_path):
        DirectoryLock(tmp_path)
    if not os.fork():
        held.release()  # not what a process forked off has
        os._exit(0)
    os.wait()
    with refused(tmp_path):
        DirectoryLock(tmp_path)
    held.release()
    held.release()
    DirectoryLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_system_that_names_no_holders_has_the_same_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(1, "refused")

    line = "by another process, or by a simulation in this one; wait until it has ended, or stop it$"
    with DirectoryLock(tmp_path), monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", refuse)  # of /proc/locks
        with one_line(f"is being written now {line}", RunError):
            DirectoryLock(tmp_path)


def test_a_lock_that_is_no_file_is_one_line(tmp_path: Path) -> None:
    for make in (lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
        make(tmp_path / LOCK)
        with one_line(r"run\.lock: cannot be written", RunError):
            DirectoryLock(tmp_path)
        (tmp_path / LOCK).unlink() if (tmp_path / LOCK).is_symlink() else (tmp_path / LOCK).rmdir()


def test_a_folder_of_results_is_made_and_removed_again(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with DirectoryLock(folder):
        (folder / ".seeds.json.0123abcd.tmp").touch()
        with refused(folder), DirectoryLock(folder):
            pass
        (folder / ".seeds.json.0123abcd.tmp").unlink()
    assert not folder.exists()
    folder.mkdir()
    (folder / ".seeds.json.0123abcd.tmp").touch()
    with DirectoryLock(folder):
        assert [path.name for path in folder.iterdir()] == [LOCK]
    assert list(folder.iterdir()) == []


def test_a_system_that_removes_no_files_holds_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".run.json.0123abcd.tmp").touch()
    held = DirectoryLock(tmp_path)
    (tmp_path / ".run.json.0123abcd.tmp").touch()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "refused")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", refuse)
        held.release()
        with one_line(r"run\.lock: cannot be written \(refused\)", RunError):
            DirectoryLock(tmp_path)
    DirectoryLock(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


# --- run directories -------------------------------------------------------------------------------------------


def test_one_process_writes_in_a_run_directory(tmp_path: Path, cli: Commands) -> None:
    run = tmp_path / "run"
    with Simulation(SCENARIO, logdir=run) as simulation:
        simulation.run(2)
        with refused(run):
            Simulation.resume(run)
    assert not (run / LOCK).exists()
    with holder(run) as process:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        line = cli.refused("resume", run, "--steps 3")
        assert "run: is being written now by " in line
        if f" {process} " in line:  # not every system says who holds a lock
            assert f"by process {process}; wait until it has ended, or stop it (kill {process})" in line
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    cli("resume", run, "--steps 3")
    assert not (run / LOCK).exists()


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
