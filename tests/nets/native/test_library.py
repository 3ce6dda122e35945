"""The kernel's object file: compiled once, into a folder of the user's; without a compiler there is none."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import antiphon
from antiphon.nets.native import compiled_kernel


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and nothing loaded."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled_kernel.kernel.cache_clear()
    yield tmp_path / "antiphon" / "kernels"
    compiled_kernel.kernel.cache_clear()


def script(folder: Path, body: str) -> str:
    """A compiler that does what a shell script says."""
    place = folder / "compiler"
    place.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    place.chmod(0o755)
    return str(place)


def test_a_compiler_that_fails_is_logged_once_and_leaves_nothing(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", script(tmp_path, "echo 'mlp.cpp:1: no' >&2; exit 1"))
    with caplog.at_level(logging.WARNING):
        assert compiled_kernel.kernel() is None
        assert compiled_kernel.kernel() is None
    assert caplog.messages == [
        "backend native: the kernel cannot be compiled: mlp.cpp:1: no; using backend cohort instead"
    ]
    assert sorted(os.listdir(fresh)) == ["lock"]


def test_what_has_been_compiled_is_compiled_no_more(
    fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "CXX", script(tmp_path, f'echo x >> {tmp_path}/calls; for out; do :; done; cp /dev/null "$out"')
    )
    first = compiled_kernel._compiled("DEFAULT")
    assert first.parent == fresh
    assert compiled_kernel._compiled("DEFAULT") == first
    assert (tmp_path / "calls").read_text(encoding="utf-8") == "x\n"


def test_without_a_kernel_native_is_cohort(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "false")
    scenario = antiphon.load("digits-mlp").resolve()
    with antiphon.Simulation(scenario, backend="native", logdir=fresh.parent / "run") as simulation:
        simulation.run(steps=2)
    assert json.loads((fresh.parent / "run" / "run.json").read_text())["backend"] == "cohort"
