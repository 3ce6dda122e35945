"""Accidents to real processes and disks: what is lost, what is said of it, and that the run goes on afterwards."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from antiphon import files, manifests
from antiphon.engine.runs import directory, run_writer
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError
from antiphon.scenarios import Template, load
from tests.recorded import metrics

ROOT = Path(__file__).parents[2]
STEPS, EVERY = 24, 6
MODULE = '''
import os
import signal
from pathlib import Path

import torch

import antiphon


class Killing(torch.nn.Linear):
    """A layer that kills its process once, after so many passes in training."""

    def __init__(self, inputs, outputs, passes):
        super().__init__(inputs, outputs)
        self.passes = passes

    def forward(self, values):
        self.passes -= 1
        if self.passes == 0 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(values)


def build(passes: int = -1):
    x = torch.arange(60.0).reshape(20, 3).sin()
    return antiphon.Scenario(
        scenario="kept",
        env=antiphon.envs.from_tensors(x=x, label=(x[:, 0] > 0).long()),
        agents={
            "eye": {"observes": ["x"], "network": lambda inputs, outputs: Killing(inputs, outputs, passes)},
            "mind": {"objective": {"kind": "classification", "target": "label"}},
        },
        channels=[{"from": "eye", "to": "mind", "size": 2}],
        training={"batch": 4, "steps": 300},
    )


build.variants = {"killed": {"passes": 250}, "calm": {}}
'''


def antiphon(*words: str, cwd: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "antiphon", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, **settings)


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text())
    return found


@pytest.mark.long
def test_a_killed_worker_of_a_study_loses_its_present_interval_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MODULE)
    words = ("study", "own:build", "--seeds", "1", "--jobs", "2", "--logdir", "study")
    done = antiphon(*words, cwd=tmp_path)
    killed = tmp_path / "study/killed-s0"
    error = "its process was killed (by hand, or the machine was out of memory)"
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"killed s0: failed: {error}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: 1 of the runs failed; the same command with --logdir"
    )
    assert f"killed-s0: missing, {error}." in done.stdout
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == [
        "step-000000100",
        "step-000000200",
    ]
    assert facts(tmp_path / "study/calm-s0")["exit"] == "done"
    again = antiphon(*words, cwd=tmp_path)
    assert (again.returncode, "missing" in again.stdout) == (0, False), again.stderr
    assert facts(killed)["exit"] == "done"
    assert metrics(killed) == metrics(
        tmp_path / "study/calm-s0"
    )  # to the bit, as the one that was never killed


def request() -> Request:
    text = load("digits-mlp").text + "telemetry: {every: 4, histograms: true}\n"
    values = {"depth": 2, "width": 32, "batch": 8}
    return Request(template=Template.from_yaml(text, "tiny.yaml"), values=values, steps=STEPS)


def go_on(path: Path) -> None:
    """Resume a run, if there is anything left to do."""
    resumed = resume(path)
    if isinstance(resumed, Run):
        resumed.train(checkpoint_every=EVERY)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    path = tmp_path_factory.mktemp("whole") / "run"
    begin(request(), path).train(checkpoint_every=EVERY)
    return path


def check_same(path: Path, whole: Path) -> None:
    """Check that a run came to the end of one that nothing happened to, to the bit, and left nothing else behind."""
    state = f"checkpoints/step-{STEPS:09d}/state.safetensors"
    assert (path / state).read_bytes() == (whole / state).read_bytes()
    assert metrics(path) == metrics(whole)
    assert facts(path)["exit"] == "done"
    names = {found.relative_to(path).as_posix() for found in path.rglob("*")}
    events = {name for name in names if name.startswith("events.")}
    assert names - events == {
        name
        for found in whole.rglob("*")
        if not (name := found.relative_to(whole).as_posix()).startswith("events.")
    }


# --- signals -----------------------------------------------------------------------------------------------


MODULES = {module.__file__ for module in (files, manifests, directory, run_writer, checkpoint)}
"""What writes a checkpoint, without the packing of tensors, which touches no file."""
WITHOUT = ("_pack", "_key", "finite")


class Points:
    """Counts the lines of code that write the checkpoint of one step, and does something at one of them."""

    def __init__(self, step: int, point: int | None = None, act: Callable[[], None] | None = None) -> None:
        self._step, self._point, self._act = step, point, act
        self.count = 0

    @contextmanager
    def watched(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        plain = RunDirectory.checkpoint

        def write(run: RunDirectory, simulation: Any) -> None:
            watched = simulation.now == self._step and not self.count
            if watched:
                sys.settrace(self._trace)
            try:
                plain(run, simulation)
            finally:
                sys.settrace(None)

        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "checkpoint", write)
            yield

    def _trace(self, frame: FrameType, event: str, argument: Any) -> Any:
        code = frame.f_code
        if code.co_filename not in MODULES or code.co_name in WITHOUT:
            return None
        if event == "line":
            self.count += 1
            if self.count == self._point and self._act is not None:
                self._act()
        return self._trace


def send(*numbers: int) -> None:
    """Send signals to this process."""
    for number in numbers:
        os.kill(os.getpid(), number)


def once(path: Path) -> None:
    outcome = begin(request(), path).train(checkpoint_every=EVERY)[0]
    assert (outcome.exit_code, outcome.status) == (143, "stopped")
    assert RunDirectory.open(path).checkpoint_step == 3 * EVERY


def twice(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        begin(request(), path).train(checkpoint_every=EVERY)
    assert facts(path)["exit"] == "stopped"
    assert RunDirectory.open(path).checkpoint_step in (2 * EVERY, 3 * EVERY)


def killed(path: Path) -> None:
    """In a process of its own, which ends at that point without another line of code."""
    child = os.fork()
    if not child:
        try:
            begin(request(), path).train(checkpoint_every=EVERY)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert facts(path)["exit"] == "running"
    assert RunDirectory.open(path).checkpoint_step in (2 * EVERY, 3 * EVERY)


@pytest.mark.parametrize(
    ("run", "numbers"),
    [
        pytest.param(once, [signal.SIGTERM], marks=pytest.mark.long),
        pytest.param(twice, [signal.SIGINT, signal.SIGTERM], marks=pytest.mark.long),
        (killed, [signal.SIGKILL]),
    ],
)
def test_a_signal_at_any_point_of_a_checkpoint_loses_the_present_interval_at_most(
    run: Callable[[Path], None],
    numbers: list[int],
    rounds: int,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At 50 points, evenly spread over the lines that write a checkpoint and remove the one before the last."""
    counted = Points(3 * EVERY)
    with counted.watched(monkeypatch):
        begin(request(), tmp_path / "counted").train(checkpoint_every=EVERY)
    assert counted.count >= 50
    points = 50 if rounds > 1 else 2
    for point in range(points):
        path = tmp_path / f"at-{point}"
        at = 1 + point * (counted.count - 1) // (points - 1)
        with Points(3 * EVERY, at, lambda: send(*numbers)).watched(monkeypatch):
            run(path)
        go_on(path)
        check_same(path, whole)
    with warnings.catch_warnings():  # of a file that a signal kept from being closed: no other test's
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


# --- disks -------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, kibibytes: int) -> Iterator[Callable[[str], None]]:
    """A disk of that size at a folder, and what mounts it anew with other options; skipped where this user may not."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a small disk")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a small disk")
def test_a_run_on_a_full_disk_says_so_and_goes_on_once_there_is_space(
    rounds: int, whole: Path, tmp_path: Path
) -> None:
    """On disks from one that nothing fits on to one that lacks the last file's bytes."""
    needed = sum(path.stat().st_blocks for path in whole.rglob("*")) // 2
    points = 24 if rounds > 1 else 2
    full = 0
    for point in range(points):
        with small_disk(tmp_path, 8 + (needed - 8) * point // points) as remount:
            try:
                begin(request(), tmp_path / "run").train(checkpoint_every=EVERY)
            except RunError as error:
                full += 1
                line = str(error)
                assert "cannot be written (No space left on device); free space there" in line
                assert "\n" not in line
                if (tmp_path / "run").exists():
                    noted = facts(tmp_path / "run")
                    ended = (noted["exit"], noted["error"])
                    assert ended in (("failed", line), ("running", None))  # no room for run.json either
                else:
                    assert not list(tmp_path.iterdir())
            remount("size=64m")
            if (tmp_path / "run").exists():
                go_on(tmp_path / "run")
            else:
                begin(request(), tmp_path / "run").train(checkpoint_every=EVERY)
            check_same(tmp_path / "run", whole)
    assert full >= points - 1


# --- memory ------------------------------------------------------------------------------------------------
