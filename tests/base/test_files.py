"""Errors are one line each; files of run directories; progress of what takes long."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from antiphon import Simulation, load
from antiphon.base import files, progress
from antiphon.base.errors import RunError, suggest
from antiphon.running.callbacks import RunProgress
from antiphon.running.loop import train
from antiphon.running.run import Run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.json"


def test_what_is_written_is_on_the_disk_before_it_gets_its_name(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda n: (done.append(os.readlink(f"/proc/self/fd/{n}")), fsync(n)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    files.write_json(path, {"a": float("nan")})
    assert path.read_text() == '{\n  "a": null\n}\n'
    assert [Path(entry).name[:9] for entry in done] == [".run.json", "replace", path.parent.name[:9]]


@pytest.mark.parametrize("version", [files.FORMAT - 1, files.FORMAT + 1])
def test_a_file_of_another_version_is_refused(path: Path, version: int) -> None:
    files.write_json(path, {"format": version, "antiphon": "9.9"})
    line = rf"^{path}: was written by antiphon 9.9 \(format {version}, here {files.FORMAT}\); read it with that version"
    with pytest.raises(RunError, match=line):
        files.read_json(path)


# --- errors ----------------------------------------------------------------------------------------------


def test_an_error_is_one_line() -> None:
    assert str(RunError("a file: é\nof two lines")) == r"a file: é\nof two lines"


def test_the_nearest_name_is_suggested_or_the_known_ones_are_listed() -> None:
    assert suggest("widht", ["width", "depth"]) == "; did you mean 'width'?"
    assert suggest("zz", ["width", "depth"]) == "; known: depth, width"


# --- progress --------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock takes a second."""
    clock = count(0.0)
    monkeypatch.delenv("ANTIPHON_PROGRESS")
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What happens to bars on a terminal."""
    found: list[tuple[str, object]] = []

    class Bar:
        task_ids = (0,)

        def __init__(self, column: object, *_: object, **__: object) -> None:
            found.append(("bar", column.text_format))  # type: ignore[attr-defined]

        def update(self, *_: object, completed: float, **__: object) -> None:
            found.append(("update", completed))

        add_task = start = lambda *_, **__: None

        def stop(self) -> None:
            found.append(("stop", None))

    monkeypatch.setattr(progress, "Bar", Bar)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    return found


def test_a_bar_comes_after_two_seconds_and_goes_at_the_end(calls: list[tuple[str, object]]) -> None:
    with progress.Progress("building", 6) as bar:
        bar.advance()
        assert not calls
        for _ in range(2):
            bar.advance(2)
    assert calls == [("bar", "building"), ("update", 3), ("update", 5), ("stop", None)]


def test_elsewhere_there_is_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Progress("steps", 4000) as steps:
        for _ in range(125):
            steps.advance(10, about=lambda: "loss 0.5")
    assert capsys.readouterr().err.splitlines() == [
        "steps 600/4,000 · loss 0.5",
        "steps 1,200/4,000 · loss 0.5",
    ]


def test_a_line_of_a_run_says_what_it_has_come_to(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = {"depth": 2, "width": 8, "batch": 16, "steps": 6}
    monkeypatch.setattr(progress, "_LINE_EVERY", 5.0)
    with Simulation(load("digits-mlp").resolve(None, words)) as simulation:
        capsys.readouterr()
        simulation.run(5)
        simulation.run(12, progress=False)
        monkeypatch.setenv("ANTIPHON_PROGRESS", "0")
        train([Run(simulation.running)], 12, [RunProgress(None, simulation.now)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("steps 4/5 · loss ")
    assert all(line.startswith("steps ") and "/5 · " in line and " · accuracy " in line for line in lines)
