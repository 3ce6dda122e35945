"""Data of the library's scenarios, for every test of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.library import write_pictures


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with made-up pictures in MNIST's format."""
    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "mnist")
    return folder


@pytest.fixture(autouse=True)
def _data(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTIPHON_DATA", str(pictures))
