"""Accidents in mid-run: what the exit code, the line and run.json say of them, and that the run goes on to the same bits."""

from __future__ import annotations

import errno
import itertools
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from antiphon import RunError, Simulation, load
from tests.kit import seams
from tests.kit.commands import Commands, run_command
from tests.running.left import acting, assert_same_run, checkpoints, ended, facts, signalled

TINY = "--set depth=2 --set width=8 --set batch=16 --logdir ."


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "runs", "remedy"),
    [
        ("run digits-mlp --name a", ["a"], "antiphon resume a continues from its latest checkpoint"),
        ("run digits-mlp --name a --seeds 2", ["a-s0", "a-s1"], "the same command with --exist resume continues"),
        (
            "study digits-mlp --seeds 1 --variant local --jobs 1",
            ["local-s0"],
            "the same command with --logdir . continues",
        ),
    ],
    ids=["run", "seeds", "study"],
)  # fmt: skip
def test_a_second_signal_is_a_line_and_exit_code_130(
    words: str, runs: list[str], remedy: str, here: Path, cli: Commands
) -> None:
    words = f"{words} --steps 6 {TINY}"
    with acting(3, signalled(signal.SIGINT, signal.SIGTERM)):
        assert cli.code(words) == 130
    assert cli.err.splitlines()[-1] == f"stopped at once, without a checkpoint; {remedy}"
    for name in runs:
        line = "stopped at once by a second signal, without a checkpoint"
        assert ended(here / name) == ("stopped", 3, line)
        assert checkpoints(here / name) == []
    cli(words, "" if words.startswith("study") else "--exist resume")  # from the beginning


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process from /proc")
def test_a_checkpoint_gives_back_the_memory_of_its_copy(tmp_path: Path) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()

    values = {"depth": 3, "width": 2048, "batch": 4}
    with Simulation(load("digits-mlp").resolve(values=values)) as simulation:
        simulation.run(1)
        before = resident()
        simulation.save(tmp_path / "a")
        taken = resident() - before
    assert (tmp_path / "a/state.safetensors").stat().st_size > 48 * 2**20
    assert taken < 16 * 2**20


# --- the run directory ---------------------------------------------------------------------------------------


@pytest.mark.cases(1)
@pytest.mark.parametrize("accident", ["deleted", "moved", "replaced"])
def test_a_run_whose_directory_is_gone_stops_at_the_next_checkpoint(
    accident: str, here: Path, cli: Commands
) -> None:
    path = here / "a"

    def lose(_: object) -> None:
        shutil.rmtree(path) if accident == "deleted" else path.rename(here / "elsewhere")
        if accident == "replaced":
            shutil.copytree(here / "elsewhere", path)

    with acting(8, lose):
        assert cli.code("run digits-mlp --steps 5000 --name a --checkpoint-every 4", TINY) == 2
    problem = "a: was deleted or moved while the run was writing to it, so the run has stopped; "
    assert cli.err.splitlines()[-1].startswith(f"error: {problem}")
    assert path.exists() == (accident == "replaced")
    if accident == "replaced":
        assert facts(path) == facts(here / "elsewhere")
    if accident != "deleted":
        assert 8 not in checkpoints(here / "elsewhere")
        cli("resume elsewhere --steps 12")
        assert facts(here / "elsewhere")["step"] == 12


def test_steps_by_hand_stop_where_the_directory_is_gone(tmp_path: Path) -> None:
    simulation = Simulation("digits-mlp", logdir=tmp_path / "a", checkpoint_every=2)
    simulation.step()
    shutil.rmtree(tmp_path / "a")
    for act in (simulation.step, simulation.close):
        with pytest.raises(RunError, match="a: was deleted or moved"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_moved_run_leaves_the_one_in_its_place_alone(tmp_path: Path) -> None:
    moved = Simulation("digits-mlp", logdir=tmp_path / "a")
    moved.step()
    (tmp_path / "a").rename(tmp_path / "elsewhere")
    with Simulation("digits-mlp", logdir=tmp_path / "a", seed=1) as other:
        other.step()
        before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
        with pytest.raises(RunError, match="a: was deleted or moved"):
            moved.run(2)
        moved.close()
        assert before == {path: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert (ended(tmp_path / "a"), facts(tmp_path / "a")["seed"]) == (("stopped", 1, None), 1)
    Simulation.resume(tmp_path / "elsewhere").close()


# --- the disk --------------------------------------------------------------------------------------------------

OFTEN = "run often.yaml --steps 24 --checkpoint-every 8"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "often.yaml").write_text(load("digits-mlp").text + "telemetry: {period: 3}\n")
    words = f"{OFTEN} {TINY} --name a".replace("often", f"{folder}/often")
    assert run_command(words.replace("--logdir .", f"--logdir {folder}")) == 0
    return folder / "a"


@pytest.fixture
def often(whole: Path, here: Path) -> Path:
    """A folder with the document of `whole`."""
    shutil.copy(whole.parent / "often.yaml", here)
    return here


def refusing(number: int, call: int) -> Callable[..., None]:
    """Return a function in the place of fsync, whose `call`th call and all after it fail."""
    calls = itertools.count(1)

    def fsync(descriptor: int) -> None:
        if next(calls) >= call:
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("number", "call"),
    [
        *((errno.ENOSPC, call) for call in (1, 5, 16)),
        *(pytest.param(errno.ENOSPC, call, marks=pytest.mark.long) for call in (3, 4, 6, 8, 10, 20, 24)),
        (errno.EROFS, 6),
        (errno.EMFILE, 6),
    ],
)
def test_a_disk_that_takes_no_more_ends_a_run_with_a_line(
    number: int, call: int, whole: Path, often: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    """Whichever file it is that cannot be written through to the disk."""
    with monkeypatch.context() as patch:
        patch.setattr("antiphon.base.files.os.fsync", refusing(number, call))
        assert cli.code(OFTEN, TINY, "--name a") == 2
    fixes = {errno.ENOSPC: "free disk space", errno.EMFILE: "raise the limit with `ulimit -n`"}
    fix = fixes.get(number, "choose a writable folder")
    assert f"cannot be written ({os.strerror(number)}); {fix}" in cli.err.splitlines()[-1]
    if not (often / "a").exists():  # nothing is left of a run that could not begin
        assert call < 6
        assert [path.name for path in often.iterdir()] == ["often.yaml"]
    cli(OFTEN, TINY, "--name a --exist resume")
    assert_same_run(whole, often / "a")


def test_an_end_that_cannot_be_written_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = resolve_name(seams.WRITE_FACTS)

    def refuse(path: Path, content: dict[str, Any]) -> None:
        if content["exit"] == "done":
            raise RunError(f"{path}: cannot be written (refused)")
        write(path, content)

    monkeypatch.setattr(seams.WRITE_FACTS, refuse)
    with (
        pytest.raises(RunError, match="refused"),
        Simulation("digits-mlp", logdir=tmp_path / "a") as simulation,
    ):
        simulation.run(2)
    assert ended(tmp_path / "a") == ("failed", 2, f"{tmp_path}/a/run.json: cannot be written (refused)")


def test_files_that_may_not_grow_end_a_run_with_a_line(whole: Path, often: Path, cli: Commands) -> None:
    """As a quota, or a disk that fills up between two rows: run.json has the reason, and the run goes on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(_: object) -> None:
        size = (often / "a/metrics.csv").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))

    with acting(19, limit):
        try:
            assert cli.code(OFTEN, TINY, "--name a") == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = cli.err.splitlines()[-1].removeprefix("error: ")
    assert "cannot be written (File too large)" in line
    assert (ended(often / "a"), checkpoints(often / "a")) == (("failed", 21, line), [8, 16])
    cli("resume a --checkpoint-every 8")
    assert_same_run(whole, often / "a")


def test_a_checkpoint_that_replaces_one_is_there_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that is refused or interrupted, and a kill between the two renames, which the next start finds."""
    folder = tmp_path / "a/checkpoints"
    replace = os.replace
    with Simulation("digits-mlp", logdir=tmp_path / "a") as simulation:
        simulation.run(2)
        for error in (OSError(errno.EIO, "broken"), KeyboardInterrupt()):

            def refuse(source: Any, target: Any, error: BaseException = error) -> None:
                if Path(target).name == "step-000000002" and not str(source).endswith(".old"):
                    raise error
                replace(source, target)

            with monkeypatch.context() as patch:
                patch.setattr(seams.REPLACE_CHECKPOINT, refuse)
                with pytest.raises((RunError, KeyboardInterrupt)):
                    simulation.save(folder / "step-000000002")
            assert [path.name for path in folder.iterdir()] == ["step-000000002"]
    (folder / "step-000000002").rename(folder / ".step-000000002.old")
    with Simulation.resume(tmp_path / "a", "digits-mlp") as simulation:
        assert simulation.now == 2
        assert [path.name for path in folder.iterdir()] == ["step-000000002"]
