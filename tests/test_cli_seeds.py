"""`antiphon run --seeds K`: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from antiphon.cli import main
from antiphon.commands.run import show_seeds
from antiphon.engine.runs.multi_seed import MultiSeedOutcome
from antiphon.engine.runs.trainer import Outcome

TINY = ["run", "digits-mlp", "--steps", "6", "--set", "depth=2", "--set", "width=8", "--set", "batch=16"]
SHORT = ["run", "copy", "--steps", "3"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def last_json(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


def test_seeds_are_told_one_by_one_and_together(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "--seeds", "3", "--seed", "4", "--variant", "local", "--logdir", "mine", "--name", "exp"]
    assert main(words) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert lines[1].startswith("digits-mlp · local · 3 seeds · 6 steps · ")
    assert lines[3].split() == ["seed", "run", "accuracy", "loss"]
    assert [line.split()[:2] for line in lines[5:8]] == [
        [str(seed), f"mine/exp-s{seed}"] for seed in (4, 5, 6)
    ]
    rows = [
        line
        for line in lines
        if line.startswith(("mean ± standard error", "median", "interquartile", "its 95"))
    ]
    assert len(rows) == 4
    assert all("%" in row for row in rows)
    assert " ± " in rows[0].removeprefix("mean ± standard error")
    assert "over seeds   mine/exp-seeds/seeds.json" in lines
    assert "TensorBoard  antiphon tb mine" in lines
    assert captured.err.count("6/6 steps  100 %  loss") == 1  # one bar, or one row of lines
    assert sorted(path.name for path in (here / "mine").iterdir()) == [
        "exp-s4",
        "exp-s5",
        "exp-s6",
        "exp-seeds",
    ]
    assert main(["resume", "mine/exp-s5", "--steps", "8"]) == 0
    assert main(["evaluate", "mine/exp-s5"]) == 0
    assert main(["show", "mine/exp-s5"]) == 0


def test_the_object_of_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--seeds", "5", "--name", "exp", "--logdir", "mine", "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert list(found) == ["seeds", "summary", "apart"]
    assert found["apart"] is None
    assert [one["seed"] for one in found["seeds"]] == [0, 1, 2, 3, 4]
    for one in found["seeds"]:
        assert json.loads((here / one["run_dir"] / "result.json").read_text()) == one
    accuracy = found["summary"]["accuracy"]
    assert list(accuracy) == ["mean", "error", "median", "iqm", "low", "high", "n"]
    assert accuracy["n"] == 5
    assert accuracy["low"] <= accuracy["iqm"] <= accuracy["high"]
    assert json.loads((here / "mine/exp-seeds/seeds.json").read_text()) == found


def test_directories_have_one_time_where_there_is_no_name(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*TINY, "--seeds", "2", "--logdir", "mine", "--json"]) == 0
    names = sorted(path.name for path in (here / "mine").iterdir())
    time = names[0].removeprefix("digits-mlp-default-s0")
    assert names == [f"digits-mlp-default-{what}{time}" for what in ("s0", "s1", "seeds")]


def test_seeds_that_cannot_be_joined_say_why(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SHORT, "--seeds", "2", "--json"]) == 0
    captured = capsys.readouterr()
    reason = "how long an episode is differs from seed to seed"
    assert captured.err.count(f"the seeds run one after the other: {reason}") == 1
    found = last_json(captured.out)
    assert found["apart"] == reason
    assert {"solved", "difficulty"} <= found["summary"].keys()


def test_one_seed_is_told_as_several_are(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--seeds", "1"]) == 0
    captured = capsys.readouterr()
    assert "one after the other" not in captured.err
    assert "digits-mlp · 1 seed · 6 steps" in captured.out
    assert "–" in next(line for line in captured.out.splitlines() if line.startswith("its 95 % interval"))


@contextmanager
def interrupted_when(path: Path) -> Iterator[None]:
    """Send SIGINT to this process as soon as a file is there."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            if path.exists():
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def test_ctrl_c_ends_all_and_the_same_command_goes_on(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "--seeds", "2", "--name", "exp", "--logdir", "mine"]
    words += ["--steps", "4000", "--checkpoint-every", "3"]
    with interrupted_when(here / "mine/exp-s1/checkpoints/step-000000003/state.json"):
        assert main(words) == 130
    captured = capsys.readouterr()
    assert captured.out.count("(stopped at step ") == 2
    assert "stopped; the same command with --resume-if-exists goes on" in captured.err
    assert main([*words, "--resume-if-exists", "--json"]) == 0
    found = last_json(capsys.readouterr().out)
    assert {(one["exit"], one["steps"]) for one in found["seeds"]} == {("done", 4000)}


def test_all_that_diverge_are_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*TINY, "--steps", "40", "--set", "lr=1.0e+30", "--seeds", "2", "--name", "exp"]
    assert main(words) == 3
    captured = capsys.readouterr()
    assert captured.err.count("error: seed 0: ") == captured.err.count("error: seed 1: ") == 1
    assert captured.out.count("(diverged at step ") == 2
    assert "mean" not in captured.out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--seeds", "0"], "--seeds: got 0; give at least 1"),
        (["--seeds", "-2"], "--seeds: got -2; give at least 1"),
        (["--seeds", "2", "--name", "x"], "x-s1: is there already and not empty; choose another name"),
        (["--seeds", "2", "--name", "a/b"], "cannot name a run directory"),
        (["--seeds", "2", "--resume-if-exists"], "which run? name it with --name"),
        (["--seeds", "2", "--name", "x", "--resume-if-exists"], "x-s1: no run there"),
        (["--seeds", "2", "--set", "widht=3"], "no parameter 'widht'"),
        (["--seeds", "2", "--backend", "cohrt"], "there is no 'cohrt'; did you mean 'cohort'?"),
        (["--seeds", "2", "--logdir", "file"], "cannot be written"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], problem: str
) -> None:
    (here / "file").write_text("")
    (here / "runs/x-s1").mkdir(parents=True)
    (here / "runs/x-s1/notes").write_text("")
    logdir = [] if "--logdir" in words else ["--logdir", "runs"]
    assert main([*TINY, *words, *logdir]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert problem in captured.err
    assert [path.name for path in (here / "runs").iterdir()] == ["x-s1"]


def test_what_is_counted_and_what_is_measured(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def ended(seed: int, solved: float, exit: str = "done") -> Outcome:
        figures = {
            "accuracy": None,
            "error": None,
            "bits": 0.25,
            "loss": None,
            "env": {"solved": solved, "odd": None},
        }
        head = {
            "scenario": "toy",
            "variant": None,
            "seed": seed,
            "steps": 400,
            "seconds": 1.5,
            "run_dir": f"r{seed}",
        }
        return Outcome(exit, result={**head, **figures, "exit": exit})

    show_seeds(
        MultiSeedOutcome({0: ended(0, 9.0), 1: ended(1, 12.0), 2: ended(2, 1.0, "diverged")}, None, 0),
        here,
        here,
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "toy · 3 seeds · 400 steps · 4.5 s"
    assert lines[3].split() == ["seed", "run", "bits", "solved"]
    assert lines[5].split() == ["0", "r0", "0.250", "9"]
    assert lines[7].split()[-4:] == ["400)", "r2", "0.250", "1"]
    assert lines[9].split()[-6:] == ["0.250", "±", "0.000", "10.500", "±", "1.500"]
    assert "Over 2 of 3 seeds: those that came to their end." in lines
