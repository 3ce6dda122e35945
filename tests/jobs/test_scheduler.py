"""What a run of several seeds comes to, and signals to processes."""

from __future__ import annotations

from typing import Any

import pytest

from antiphon.jobs.scheduler import summary_of


def of_seed(accuracy: float, exit: str = "done", **env: float | None) -> dict[str, Any]:
    return {"exit": exit, "accuracy": accuracy, "error": None, "bits": None, "loss": 1.0, "env": env}


def test_a_summary_is_of_the_seeds_that_came_to_their_end() -> None:
    found = summary_of(
        [
            of_seed(0.5, solved=4.0),
            of_seed(0.7, solved=None),
            of_seed(0.1, "diverged"),
            of_seed(0.2, "stopped"),
        ]
    )
    assert list(found) == ["accuracy", "loss", "solved"]
    assert (found["accuracy"]["mean"], found["accuracy"]["n"]) == (pytest.approx(0.6), 2)
    assert (found["solved"]["mean"], found["solved"]["n"], found["solved"]["low"]) == (4.0, 1, None)
    assert summary_of([of_seed(0.5, "stopped")])["accuracy"]["n"] == 1
    assert summary_of([of_seed(0.5, "diverged")]) == {}
