"""Accidents in mid-run: what the exit code, the line and run.json say of them, and that the run goes on to the same bits."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon import RunError, Simulation, load
from tests.kit import seams
from tests.kit.commands import Commands, run_command
from tests.running.left import assert_same_run

TINY = "--set depth=2 --set width=8 --set batch=16 --logdir ."


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
