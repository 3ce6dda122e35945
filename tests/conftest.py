"""What every test stands on: one thread, no outside folders, the same random examples on every machine."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.commands import Commands

torch.set_num_threads(1)

gc.set_threshold(50_000, 20, 20)

hypothesis.settings.register_profile("antiphon", deadline=None, derandomize=True)
hypothesis.settings.load_profile("antiphon")


def pytest_collection_finish() -> None:
    """Search what is imported, and the tests themselves, for garbage no more: they stay, and are millions of objects."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send runs that name no folder to a temporary one, and show local data to the tests marked `data` alone."""
    monkeypatch.setenv("ANTIPHON_LOGDIR", str(tmp_path / "runs"))
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("ANTIPHON_DATA", raising=False)
    elif not os.environ.get("ANTIPHON_DATA"):
        pytest.skip("ANTIPHON_DATA names no folder")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Commands:
    """The command line, in this process."""
    return Commands(capsys)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one loud line that tests were skipped because this machine has no browser."""
    skipped = [report.longrepr for report in terminalreporter.getreports("skipped")]
    reasons = [each[2].removeprefix("Skipped: ") for each in skipped if isinstance(each, tuple)]
    loud = [reason for reason in reasons if reason.startswith("browser tests skipped")]
    if loud:
        terminalreporter.write_sep("!", f"{len(loud)} {loud[0]}", yellow=True, bold=True)
