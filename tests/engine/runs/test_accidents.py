"""Accidents in mid-run: what the exit code, the line and run.json say of them, and that the run goes on to the same bits."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.run_loop import RunLoop
from antiphon.engine.runs.run_writer import RunWriter
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from tests.commands import Commands

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
    assert line.startswith("out of memory: 'digits-mlp' needs about ")
    noted = facts(here / "a")
    assert (noted["exit"], noted["error"], noted["step"]) == ("stopped", line, 4)
    assert cli.code("resume a") == 0


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
