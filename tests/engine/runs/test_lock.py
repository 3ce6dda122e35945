"""The lock of a run directory: a second writer is refused, a dead one's lock and left-overs are removed."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from antiphon import Simulation
from antiphon.engine.runs import lock
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.lock import LOCK, DirectoryLock, remove_abandoned, remove_temporary
from antiphon.errors import RunError
from tests.commands import Commands


@contextmanager
def holder(folder: Path) -> Iterator[int]:
    """The number of another process that has the lock of a folder."""
    begun, tell = os.pipe()
    process = os.fork()
    if process == 0:
        held = DirectoryLock(folder)
        os.write(tell, held.path.name.encode())
        signal.pause()
        os._exit(0)
    try:
        assert os.read(begun, 100) == LOCK.encode()
        yield process
    finally:
        end(process)
        os.close(begun)
        os.close(tell)


def end(process: int, number: int = signal.SIGKILL) -> None:
    """Kill a process, if it is still there."""
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(process, number)
        os.waitpid(process, 0)


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that keeps no locks."""

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(lock.fcntl, "flock", refuse)


def pretend(folder: Path, **changes: object) -> None:
    """Rewrite what the lock's file says of its holder."""
    path = folder / LOCK
    path.touch()
    own = {"pid": os.getpid(), "host": socket.gethostname(), "since": "2026-01-01T00:00:00+00:00"}
    path.write_text(json.dumps({**own, "inode": path.stat().st_ino, "process_start": None, **changes}))


@pytest.mark.parametrize("locks", [True, False])
def test_a_second_process_is_refused_and_told_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    if not locks:
        without_locks(monkeypatch)
    with holder(tmp_path) as process:
        found = f"{tmp_path}: is being written by process {process} on {socket.gethostname()} since "
        with pytest.raises(RunError, match=f"^{re.escape(found)}.*; wait until it has ended, or stop it$"):
            DirectoryLock(tmp_path)


@pytest.mark.parametrize("locks", [True, False])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_dead_process_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool, number: int
) -> None:
    if not locks:
        without_locks(monkeypatch)
    with holder(tmp_path) as process:
        end(process, number)
        assert (tmp_path / LOCK).exists()
        DirectoryLock(tmp_path).release()
    assert not (tmp_path / LOCK).exists()


def test_another_process_of_the_same_number_is_not_the_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    pretend(tmp_path, process_start="another boot 17")
    DirectoryLock(tmp_path).release()


def test_the_lock_of_another_machine_is_kept(tmp_path: Path) -> None:
    pretend(tmp_path, host="elsewhere", pid=17)
    line = f"by process 17 on elsewhere since 2026-01-01T00:00:00+00:00; if that process is gone, delete {tmp_path / LOCK}"
    with pytest.raises(RunError, match=re.escape(line)):
        DirectoryLock(tmp_path)
    assert (tmp_path / LOCK).exists()


def test_a_copied_lock_holds_nothing(tmp_path: Path) -> None:
    pretend(tmp_path, host="elsewhere", inode=0)
    DirectoryLock(tmp_path).release()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 5000, '{"pid": 1e999}', '{"pid": null, "host": 1}', "\x00\xff" * 3000]
)
def test_a_damaged_lock_holds_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / LOCK).write_text(text)
    DirectoryLock(tmp_path).release()


def test_a_lock_that_is_a_link_or_a_pipe_is_one_line(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to("/dev/zero")
    with pytest.raises(RunError, match="cannot be written"):
        DirectoryLock(tmp_path)
    (tmp_path / LOCK).unlink()
    os.mkfifo(tmp_path / LOCK)
    with pytest.raises(RunError, match="is no regular file; delete it"):
        DirectoryLock(tmp_path)


def test_this_process_has_it_once(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path)
    with pytest.raises(RunError, match=f"process {os.getpid()} .*: close the simulation that writes there"):
        DirectoryLock(tmp_path)
    held.release()
    held.release()
    DirectoryLock(tmp_path).release()


def test_what_is_not_referred_to_any_more_is_released(tmp_path: Path) -> None:
    held = DirectoryLock(tmp_path)
    del held
    assert not (tmp_path / LOCK).exists()


def test_half_written_files_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in (".run.json.0123abcd", ".metrics.csv.tmp"):
        (tmp_path / name).write_text("{")
    kept = [".notes", "run.json.0123abcd", ".run.json.0123abcg", ".a.0123abcde"]
    for name in kept:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".folder.0123abcd").mkdir()
    (tmp_path / ".link.0123abcd").symlink_to(tmp_path / ".notes")
    remove_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*kept, ".folder.0123abcd", ".link.0123abcd"}


def test_half_made_run_directories_of_dead_processes_are_removed(tmp_path: Path) -> None:
    dead, living, foreign, empty, old = (tmp_path / f".{name}.0123abcd" for name in "abcde")
    for folder in (dead, living, foreign, empty, old):
        folder.mkdir()
    with holder(dead) as process:
        end(process)
    for name in ("scenario.yaml", ".run.json.0123abcd"):
        (dead / name).write_text("")
    (foreign / "notes.txt").write_text("mine")
    os.utime(old, (0, 0))
    held = DirectoryLock(living)
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in (living, foreign, empty)}
    held.release()


# --- run directories -------------------------------------------------------------------------------------------

SCENARIO = "digits-mlp"


def test_a_second_resume_is_refused(tmp_path: Path, cli: Commands) -> None:
    run = tmp_path / "run"
    cli("run", SCENARIO, "--set width=4 --steps 2 --name run --logdir", tmp_path)
    assert not (run / LOCK).exists()
    with holder(run) as process:
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        refused = cli.refused("resume", run, "--steps 3")
        assert f"is being written by process {process} on {socket.gethostname()}" in refused
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    cli("resume", run, "--steps 3")


def test_a_simulation_keeps_its_directory_until_it_is_closed(tmp_path: Path) -> None:
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run(1)
        with pytest.raises(RunError, match="close the simulation"):
            Simulation.resume(tmp_path / "run")
    with Simulation.resume(tmp_path / "run") as resumed:
        assert resumed.now == 1
    assert not (tmp_path / "run" / LOCK).exists()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    with Simulation(SCENARIO, logdir=tmp_path / "run") as simulation:
        simulation.run(1)
    run = tmp_path / "run"
    (run / ".run.json.0123abcd").write_text("{")
    (run / ".metrics.csv.tmp").write_text("step")
    (run / "checkpoints/.step-000000002.0123abcd").mkdir()
    (run / "checkpoints/.step-000000002.0123abcd/state.json").write_text("{")
    directory = RunDirectory.open(run)
    directory.lock()
    directory.release()
    assert not list(run.rglob(".*"))


def test_a_run_that_is_done_is_rid_of_what_a_killed_process_left(tmp_path: Path, cli: Commands) -> None:
    """It was killed after it had written its end: the same command, or `resume`, only reads the result."""
    words = "run digits-mlp --set width=4 --steps 2 --name run --resume-if-exists --logdir"
    cli(words, tmp_path)
    for again in ((words, tmp_path), ("resume", tmp_path / "run")):
        with holder(tmp_path / "run") as process:
            cli(*again)  # another process may go on with it to a later step
            end(process)
        (tmp_path / "run/.run.json.0123abcd").write_text("{")
        assert (tmp_path / "run" / LOCK).exists()
        cli(*again)
        assert not (tmp_path / "run" / LOCK).exists()
        assert not list((tmp_path / "run").glob(".*"))


def test_a_folder_whose_lock_was_never_written_is_removed_once_it_is_old(tmp_path: Path) -> None:
    old, young = tmp_path / ".run.01234567", tmp_path / ".run.89abcdef"
    for folder in (old, young):
        folder.mkdir()
        (folder / LOCK).touch()
    os.utime(old, (0, 0))
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == [young]
