"""A run directory whose files were damaged or deleted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from antiphon import RunError, Simulation, load
from antiphon.telemetry import read_run
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

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
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run to its end."""
    return trained(tmp_path_factory.mktemp("runs") / "whole", 6)


@pytest.fixture
def run(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "run")


def contents(run: Path) -> dict[str, bytes]:
    """The files of a checkpoint, but for the sizes of tables with times."""
    files = (path for path in run.rglob("*") if path.is_file() and path.name != "sizes.json")
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def gone_on_with(run: Path) -> None:
    with Simulation.resume(run) as simulation:
        simulation.run()


def file_of(run: Path, name: str) -> Path:
    (path,) = run.glob("events.*.antiphon" if name == "events" else name)
    return path


def test_whoever_reads_a_run_reads_its_tensors(original: Path) -> None:
    """A colleague evaluates a shared run: all files have the modes that the umask leaves."""
    modes = {path.stat().st_mode for path in (original / NEWEST).iterdir()}
    assert modes == {(original / "run.json").stat().st_mode}


def test_a_damaged_checkpoint_is_not_gone_on_from(run: Path) -> None:
    tensors = run / NEWEST / "state.safetensors"
    content = bytearray(tensors.read_bytes())
    content[-1] ^= 1
    tensors.write_bytes(content)
    with one_line(rf"^{re.escape(str(tensors))}: is damaged; delete this checkpoint to continue", RunError):
        gone_on_with(run)


@pytest.mark.parametrize("file", ["metrics.csv", "events", NEWEST])
def test_what_may_be_deleted_is_no_obstacle(run: Path, whole: Path, file: str) -> None:
    path = file_of(run, file)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    gone_on_with(run)
    last = Path("checkpoints") / "step-000000006"
    assert contents(run / last) == contents(whole / last)
    assert read_run(run).timeline == read_run(whole).timeline is not None


def test_a_run_whose_last_checkpoint_was_deleted_reaches_its_end_again(
    whole: Path, tmp_path: Path, cli: Commands
) -> None:
    run, last = shutil.copytree(whole, tmp_path / "run"), Path("checkpoints") / "step-000000006"
    gone_on_with(run)
    shutil.rmtree(run / last)
    cli("resume", run)
    assert contents(run / last) == contents(whole / last)
