"""Accidents in mid-run: what the exit code, the line and run.json say of them, and that the run goes on to the same bits."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.run_loop import RunLoop
from antiphon.engine.runs.run_writer import RunWriter
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
