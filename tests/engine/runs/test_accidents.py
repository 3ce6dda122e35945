"""Accidents in mid-run: what the exit code, the line and run.json say of them, and that the run goes on to the same bits."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import begin
from antiphon.engine.runs.run_loop import RunLoop
from antiphon.engine.runs.run_writer import RunWriter
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import load
from tests.commands import Commands
from tests.recorded import metrics

TINY = "--set depth=2 --set width=8 --set batch=16"


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize(
    ("words", "runs", "remedy"),
    [
        ("--name a", ["a"], "antiphon resume a goes on from its latest checkpoint"),
        ("--name a --seeds 2", ["a-s0", "a-s1"], "the same command with --resume-if-exists goes on"),
    ],
)
def test_a_second_signal_is_a_line_and_exit_code_130(
    words: str, runs: list[str], remedy: str, here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    def twice(self: RunWriter, loop: RunLoop) -> None:
        if loop.running[0].now == 3:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "step", twice)
        assert cli.code("run digits-mlp --steps 6 --logdir .", TINY, words) == 130
    assert cli.err.splitlines()[-1] == f"stopped at once, without a checkpoint; {remedy}"
    for name in runs:
        noted = facts(here / name)
        line = "stopped at once by a second signal, without a checkpoint"
        assert (noted["exit"], noted["error"], noted["step"]) == ("stopped", line, 3)
    assert cli.code("run digits-mlp --steps 6 --logdir . --resume-if-exists", TINY, words) == 0


def test_a_second_signal_ends_a_study_with_a_line_too(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    def twice(self: RunWriter, loop: RunLoop) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)

    words = "study digits-mlp --steps 6 --seeds 1 --variant local --jobs 1 --logdir s"
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "step", twice)
        assert cli.code(words, TINY) == 130
    remedy = "the same command with --logdir s goes on"
    assert cli.err.splitlines()[-1] == f"stopped at once, without a checkpoint; {remedy}"
    assert facts(here / "s/local-s0")["exit"] == "stopped"
    assert cli.code(words, TINY) == 0


def test_memory_exhausted_by_what_is_written_is_one_line_too(
    here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("antiphon.engine.state.checkpoint.save_file", refuse)
        words = "run digits-mlp --steps 6 --logdir . --name a --checkpoint-every 4"
        assert cli.code(words, TINY) == 4
    line = cli.err.splitlines()[-1].removeprefix("error: ")
    assert line.startswith("out of memory; lower training.batch")
    noted = facts(here / "a")
    assert (noted["exit"], noted["error"], noted["step"]) == ("stopped", line, 4)
    assert cli.code("resume a") == 0


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


def after(step: int, act: Callable[[], object]) -> Callable[[RunWriter, RunLoop], None]:
    """Return an observer's `step` that does something once, when so many steps have been taken."""
    plain, done = RunWriter.step, []

    def following(self: RunWriter, loop: RunLoop) -> None:
        if loop.running[0].now == step and not done:
            done.append(act())
        plain(self, loop)

    return following


@pytest.mark.parametrize("every", [4, 100], ids=["at a checkpoint", "in between"])
@pytest.mark.parametrize("accident", ["deleted", "moved", "replaced"])
def test_a_run_whose_directory_is_gone_stops_and_says_so(
    accident: str, every: int, here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    path = here / "runs/a"

    def lose() -> None:
        if accident == "deleted":
            shutil.rmtree(path)
        else:
            path.rename(here / "elsewhere")
        if accident == "replaced":
            shutil.copytree(here / "elsewhere", path)

    words = f"run digits-mlp --steps 5000 --logdir runs --name a --checkpoint-every {every}"
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "step", after(8, lose))
        patch.setattr("antiphon.engine.runs.run_writer._LOOK_EVERY", 0.0)
        assert cli.code(words, TINY) == 2
    problem = "runs/a: was deleted or moved while the run wrote there, and the run has stopped; "
    assert cli.err.splitlines()[-1].startswith(f"error: {problem}")
    assert path.exists() == (accident == "replaced")
    if accident == "replaced":  # nothing was written into what is not its own
        assert facts(path) == facts(here / "elsewhere")
    if accident != "deleted":
        assert not list((here / "elsewhere").glob("checkpoints/*8"))
        assert cli.code("resume elsewhere --steps 12") == 0
        assert facts(here / "elsewhere")["step"] == 12


def test_steps_by_hand_stop_where_the_directory_is_gone(tmp_path: Path) -> None:
    simulation = Simulation("digits-mlp", logdir=tmp_path / "a", checkpoint_every=2)
    simulation.step()
    shutil.rmtree(tmp_path / "a")
    with pytest.raises(RunError, match="a: was deleted or moved"):
        simulation.step()
    with pytest.raises(RunError, match="a: was deleted or moved"):
        simulation.close()
    assert list(tmp_path.iterdir()) == []


# --- the disk --------------------------------------------------------------------------------------------------


STEPS = "run digits-mlp --steps 24 --logdir . --checkpoint-every 8"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    request = Request(template=load("digits-mlp"), values={"depth": 2, "width": 8, "batch": 16}, steps=24)
    begin(request, folder / "a").train(checkpoint_every=8)
    return folder / "a"


def same(one: Path, other: Path) -> bool:
    """Whether two runs have the same metrics, and the same last state to the bit."""
    file = "checkpoints/step-000000024/state.safetensors"
    return metrics(one) == metrics(other) and (one / file).read_bytes() == (other / file).read_bytes()


def refusing(number: int, call: int) -> Callable[..., None]:
    """Return a function in the place of fsync, whose `call`th call and all after it fail."""
    calls = itertools.count(1)

    def fsync(descriptor: int) -> None:
        if next(calls) >= call:
            raise OSError(number, os.strerror(number))

    return fsync


@pytest.mark.parametrize("call", [1, 3, 4, 5, 6, 8, 10, 16, 20, 24])
@pytest.mark.parametrize(
    ("number", "fix"),
    [(errno.ENOSPC, "free space there"), (errno.EROFS, "choose a log directory that can")],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_no_more_ends_a_run_with_a_line(
    number: int, fix: str, call: int, whole: Path, here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    """Whichever file it is that cannot be written through to the disk."""
    with monkeypatch.context() as patch:
        patch.setattr("antiphon.files.os.fsync", refusing(number, call))
        assert cli.code(STEPS, TINY, "--name a") == 2
    line = cli.err.splitlines()[-1]
    assert f"cannot be written ({os.strerror(number)}); {fix}" in line
    if not (here / "a").exists():  # nothing is left of a run that could not begin
        assert call < 6
        assert list(here.iterdir()) == []
    assert cli.code(STEPS, TINY, "--name a --resume-if-exists") == 0
    assert same(whole, here / "a")


def test_files_that_may_not_grow_end_a_run_with_a_line(
    whole: Path, here: Path, monkeypatch: pytest.MonkeyPatch, cli: Commands
) -> None:
    """As a quota, or a disk that fills up between two rows: run.json has the reason, and the run goes on."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit() -> None:
        size = (here / "a/metrics.csv").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))

    document = load("digits-mlp").text + "telemetry: {every: 3}\n"
    (here / "often.yaml").write_text(document)
    words = "run often.yaml --steps 24 --logdir . --checkpoint-every 8"
    cli(words, TINY, "--name whole")
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "step", after(19, limit))
        try:
            assert cli.code(words, TINY, "--name a") == 2
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    line = cli.err.splitlines()[-1].removeprefix("error: ")
    assert "cannot be written (File too large)" in line
    noted = facts(here / "a")
    assert (noted["exit"], noted["error"], noted["step"]) == ("failed", line, 21)
    assert [path.name for path in RunDirectory.open(here / "a").checkpoints] == [
        "step-000000008",
        "step-000000016",
    ]
    assert cli.code("resume a --checkpoint-every 8") == 0
    assert same(here / "whole", here / "a")


def test_a_checkpoint_that_replaces_one_is_there_whatever_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rename that is refused or interrupted, and a kill between the two renames, which the next start finds."""
    with Simulation("digits-mlp", logdir=tmp_path / "a") as simulation:
        directory = RunDirectory.open(tmp_path / "a")
        simulation.run(2)
        folder = tmp_path / "a/checkpoints"
        replace = os.replace
        for error in (OSError(errno.EIO, "broken"), KeyboardInterrupt()):

            def refuse(source: Any, target: Any, error: BaseException = error) -> None:
                if Path(target).name == "step-000000002" and not str(source).endswith(".old"):
                    raise error
                replace(source, target)

            with monkeypatch.context() as patch:
                patch.setattr("antiphon.engine.state.checkpoint.os.replace", refuse)
                with pytest.raises((RunError, KeyboardInterrupt)):
                    simulation.save(folder / "step-000000002")
            assert [path.name for path in folder.iterdir()] == ["step-000000002"]
    (folder / "step-000000002").rename(folder / ".step-000000002.old")
    directory.lock()
    directory.release()
    assert [path.name for path in directory.checkpoints] == ["step-000000002"]
    assert [path.name for path in folder.iterdir()] == ["step-000000002"]
