"""The summary over several seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.seeds import summary_of
from tests.engine.seeds_asked import go


def test_the_object_of_json_is_kept(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    assert json.loads((tmp_path / "x-seeds/seeds.json").read_text()) == outcome.result


def result(seed: int, accuracy: float | None, exit: str = "done", **env: float | None) -> dict[str, Any]:
    return {
        "seed": seed,
        "exit": exit,
        "accuracy": accuracy,
        "error": None,
        "bits": None,
        "loss": 1.0,
        "env": env,
    }


def test_a_summary_is_of_the_seeds_that_came_to_their_end() -> None:
    found = summary_of(
        [
            result(0, 0.5, solved=4.0),
            result(1, 0.7, solved=None),
            result(2, 0.1, "diverged"),
            result(3, 0.2, "stopped"),
        ]
    )
    assert list(found) == ["accuracy", "loss", "solved"]
    assert (found["accuracy"]["mean"], found["accuracy"]["n"]) == (pytest.approx(0.6), 2)
    assert (found["solved"]["mean"], found["solved"]["n"]) == (4.0, 1)
    assert summary_of([result(0, 0.5, "stopped")])["accuracy"]["n"] == 1
    assert summary_of([result(0, 0.5, "diverged")]) == {}
