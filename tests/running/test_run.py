"""Runs of documents and of Python: what they leave, stopped, killed, damaged and gone on with to the same bits, and what is not gone on with."""

from __future__ import annotations

import csv
import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon import DivergenceError, RunError, Scenario, Simulation, Template, load
from antiphon.telemetry import read_run
from tests.engine.numbers import one_line
from tests.kit import seams
from tests.kit.commands import Commands, run_command
from tests.running.left import (
    TEXT,
    acting,
    assert_same_run,
    checkpoints,
    ended,
    facts,
    result,
    signalled,
)

VALUES = {"depth": 3, "width": 8, "batch": 16}
RUN = "run tiny.yaml --set depth=3 --set width=8 --set batch=16 --logdir . --name run"


@pytest.fixture(autouse=True)
def _document(here: Path) -> None:
    (here / "tiny.yaml").write_text(TEXT)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from Python that was never stopped: to be read only."""
    path = tmp_path_factory.mktemp("whole") / "run"
    scenario = Template.from_yaml(TEXT, "tiny.yaml").resolve(None, VALUES).with_training(steps=24)
    with Simulation(scenario, logdir=path, checkpoint_every=10) as simulation:
        simulation.run()
    return path


# --- what a run leaves ------------------------------------------------------------------------------------


def test_the_command_line_leaves_what_python_leaves(whole: Path, here: Path, cli: Commands) -> None:
    cli(RUN, "--steps 24 --checkpoint-every 10")
    run = here / "run"
    assert_same_run(whole, run)
    names = sorted(path.name.partition(".out")[0] for path in run.iterdir())
    assert names == ["checkpoints", "events", "metrics.csv", "result.json", "run.json", "scenario.yaml"]
    assert checkpoints(run) == checkpoints(whole) == [20, 24]
    scenario = Template.from_yaml(TEXT, "tiny.yaml").resolve(None, VALUES).with_training(steps=24)
    assert Scenario.from_yaml((run / "scenario.yaml").read_text()) == scenario
    found = facts(run)
    assert ended(run) == ("done", 24, None)
    assert (found["values"]["width"], found["values"]["steps"]) == (8, 24)
    assert found["template"] == {"source": "tiny.yaml", "text": TEXT}
    assert {"python", "torch", "antiphon"} <= found["versions"].keys()
    assert found["started"] <= found["finished"]


def test_the_result_has_scores_of_readouts_and_metrics_of_channels(
    whole: Path, here: Path, cli: Commands
) -> None:
    found = result(whole)
    assert [found[key] for key in ("scenario", "seed", "steps", "exit")] == ["digits-mlp", 0, 24, "done"]
    assert found["readout"] == "n2"
    assert 0 <= found["accuracy"] == found["agents"]["n2"]["accuracy"] <= 1
    assert (found["error"], found["bits"], found["env"]) == (None, None, {})
    assert found["agents"]["n0"]["updates"] == 24
    assert not {"accuracy", "loss"} & found["agents"]["n0"].keys()
    assert list(found["channels"]) == ["n0->n1", "n1->n2"]
    assert {"cosine", "norm_ratio", "sg_loss"} <= found["channels"]["n0->n1"].keys()
    cli(RUN, "--steps 2 --variant locked --seed 3")
    assert (found := result(here / "run"))["channels"]["n0->n1"]["cosine"] is None
    assert (found["variant"], found["seed"]) == ("locked", 3)


def test_ten_checkpoints_are_written_in_a_run_and_two_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seams.FEWEST_STEPS, 3)
    seen: dict[int, list[int]] = {}
    scenario = load("digits-mlp").resolve(None, {"depth": 2, "width": 8, "steps": 42})  # a tenth, rounded up
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run(callbacks=[lambda one: seen.update({one.now: checkpoints(tmp_path / "run")})])
    assert [steps[-1] for step, steps in seen.items() if steps and step % 5 == 1] == [*range(5, 41, 5)]
    assert {len(steps) for step, steps in seen.items() if step > 11} == {2}


def steps_of(run: Path) -> list[int]:
    """Steps of which a run's table has metrics of its readout."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if (row["name"], row["metric"]) == ("n2", "loss")]
    return [int(row["step"]) for row in rows]


def test_metrics_are_written_once_and_resume_moves_the_end_but_not_the_schedules(
    here: Path, cli: Commands
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with acting(12, signalled()):
        assert cli.code(RUN, "--steps 24") == 130
    cli("resume run")
    assert steps_of(here / "run") == [1, 5, 10, 15, 20, 24]
    cli("resume run --steps 30")
    events = EventAccumulator(str(here / "run")).Reload()
    assert [event.step for event in events.Scalars("agent/n2/loss")] == steps_of(here / "run")
    assert steps_of(here / "run") == [1, 5, 10, 15, 20, 24, 25, 30]
    assert Scenario.from_yaml((here / "run/scenario.yaml").read_text()).training.steps == 24
    before = (here / "run/run.json").read_bytes()
    assert cli.json("resume run")["steps"] == result(here / "run")["agents"]["n0"]["updates"] == 30
    assert (here / "run/run.json").read_bytes() == before
    assert "steps: 10, but run has done 30 already" in cli.refused("resume run --steps 10")
    assert "set: run is done, and nothing is left to change" in cli.refused(
        "resume run --set n0.learning_rate=3"
    )
    half = "resume run --steps 40 --set n0.learning_rate=3 --set n1.typo=3"
    assert "set: 'typo' of 'n1' cannot change during a run" in cli.refused(half)
    assert "changes" not in facts(here / "run"), "all settings are changed, or none"


# --- stopped, and gone on with ----------------------------------------------------------------------------


def test_a_run_stopped_by_signals_goes_on_to_the_same_bits(whole: Path, here: Path, cli: Commands) -> None:
    number, code = signal.SIGTERM, 143
    handler = signal.getsignal(number)
    with acting(7, signalled(number)):
        assert cli.code(RUN, "--steps 24") == code
    assert signal.getsignal(number) is handler
    assert ended(here / "run") == ("stopped", 7, None)
    assert (result(here / "run")["steps"], checkpoints(here / "run")) == (7, [7])
    with acting(16, signalled(number)):
        assert cli.code("resume run") == code
    assert checkpoints(here / "run") == [7, 16]
    cli(RUN, "--steps 24 --exist resume")
    assert_same_run(whole, here / "run")


def test_divergence_keeps_what_was_learned_and_says_who_and_when(here: Path, cli: Commands) -> None:
    assert cli.code(RUN, "--steps 24 --set lr=1e30") == 3
    exit, step, error = ended(here / "run")
    assert (exit, result(here / "run")["exit"], checkpoints(here / "run")) == ("diverged", "diverged", [step])
    assert str(error).startswith("channel n0->n1: the synthetic gradient ")
    assert f"at step {step + 1} " in str(error)
    with Simulation.load(here / "run") as simulation:
        assert simulation.now == step
        assert all(bool(p.isfinite().all()) for p in simulation.agents["n0"].parameters.values())
    assert cli.code("resume run") == 3
    assert "would do so again" in cli.err
    with pytest.raises(DivergenceError, match="would do so again"):
        Simulation.resume(here / "run")


# --- refused ----------------------------------------------------------------------------------------------


def test_a_folder_with_more_than_a_lock_is_no_new_run(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "run.lock").touch()
    (folder / "notes.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(RunError, match="already exists and holds no run"):
        Simulation("digits-mlp", logdir=folder, exist="overwrite")
    assert {each.name for each in folder.iterdir()} == {"run.lock", "notes.txt"}


# --- the lock --------------------------------------------------------------------------------------------


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


# --- damaged directories ---------------------------------------------------------------------------------


NEWEST = "checkpoints/step-000000004"


def trained(path: Path, steps: int) -> Path:
    scenario = load("digits-mlp").resolve(None, {"depth": 3, "width": 4, "batch": 8, "steps": 6})
    with Simulation(scenario, logdir=path, checkpoint_every=2) as simulation:
        for _ in (simulation.step() for _ in range(steps)):
            pass
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has stopped after four of six steps."""
    return trained(tmp_path_factory.mktemp("runs") / "run", 4)


@pytest.fixture(scope="module")
def undamaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run to its end."""
    return trained(tmp_path_factory.mktemp("runs") / "whole", 6)


@pytest.fixture
def damaged(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def contents(damaged: Path) -> dict[str, bytes]:
    """The files of a checkpoint, but for the sizes of tables with times."""
    files = (path for path in damaged.rglob("*") if path.is_file() and path.name != "sizes.json")
    return {str(path.relative_to(damaged)): path.read_bytes() for path in files}


def gone_on_with(damaged: Path) -> None:
    with Simulation.resume(damaged) as simulation:
        simulation.run()


def file_of(damaged: Path, name: str) -> Path:
    (path,) = damaged.glob("events.*.antiphon" if name == "events" else name)
    return path


def test_whoever_reads_a_run_reads_its_tensors(original: Path) -> None:
    """A colleague evaluates a shared run: all files have the modes that the umask leaves."""
    modes = {path.stat().st_mode for path in (original / NEWEST).iterdir()}
    assert modes == {(original / "run.json").stat().st_mode}


def test_a_damaged_checkpoint_is_not_gone_on_from(damaged: Path) -> None:
    tensors = damaged / NEWEST / "state.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with one_line(rf"^{re.escape(str(tensors))}: is damaged; delete this checkpoint to continue", RunError):
        gone_on_with(damaged)


@pytest.mark.parametrize("file", ["metrics.csv", "events", NEWEST])
def test_what_may_be_deleted_is_no_obstacle(damaged: Path, undamaged: Path, file: str) -> None:
    path = file_of(damaged, file)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    gone_on_with(damaged)
    last = Path("checkpoints") / "step-000000006"
    assert contents(damaged / last) == contents(undamaged / last)
    assert read_run(damaged).timeline == read_run(undamaged).timeline is not None


# --- accidents -------------------------------------------------------------------------------------------


TINY = "--set depth=2 --set width=8 --set batch=16 --logdir ."


# --- the disk --------------------------------------------------------------------------------------------------

OFTEN = "run often.yaml --steps 24 --checkpoint-every 8"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "often.yaml").write_text(load("digits-mlp").text + "telemetry: {period: 3}\n")
    words = f"{OFTEN} {TINY} --name a".replace("often", f"{folder}/often")
    assert run_command(words.replace("--logdir .", f"--logdir {folder}")) == 0
    return folder / "a"


@pytest.fixture
def often(unbroken: Path, here: Path) -> Path:
    """A folder with the document of `whole`."""
    shutil.copy(unbroken.parent / "often.yaml", here)
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
        *(pytest.param(errno.ENOSPC, call, marks=pytest.mark.nightly) for call in (3, 4, 6, 8, 10, 20, 24)),
        (errno.EROFS, 6),
        (errno.EMFILE, 6),
    ],
)
def test_a_disk_that_takes_no_more_ends_a_run_with_a_line(
    number: int,
    call: int,
    unbroken: Path,
    often: Path,
    monkeypatch: pytest.MonkeyPatch,
    cli: Commands,
) -> None:
    """Whichever file it is that cannot be written through to the disk."""
    with monkeypatch.context() as patch:
        patch.setattr("antiphon.base.files.os.fsync", refusing(number, call))
        assert cli.code(OFTEN, TINY, "--name a") == 2
    assert f"cannot be written ({os.strerror(number)})" in cli.err.splitlines()[-1]
    if not (often / "a").exists():  # nothing is left of a run that could not begin
        assert call < 6
        assert sorted(path.name for path in often.iterdir()) == ["often.yaml", "tiny.yaml"]
    cli(OFTEN, TINY, "--name a --exist resume")
    assert_same_run(unbroken, often / "a")


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
