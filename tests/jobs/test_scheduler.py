"""What a run of several seeds comes to, and signals to processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from antiphon.base.signals import stop_signals
from antiphon.jobs.processes import Processes
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


# --- processes -------------------------------------------------------------------------------------------


def stopped_by(seconds: float, file: str) -> list[int]:
    """Take a step of some seconds, which signals end; return these."""
    with stop_signals() as signals:
        Path(file).write_text(str(os.getpid()))
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(0.01)
    return signals


@pytest.mark.long
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")
@pytest.mark.parametrize("itself", [True, False])
def test_a_signal_to_all_processes_stops_a_call_once(itself: bool, tmp_path: Path) -> None:
    """Batch systems send SIGTERM to all processes of a job: a second one would end its runs at once, without checkpoints."""
    file = tmp_path / "process"
    with Processes() as place, place.signals() as signals:
        call = place.submit(stopped_by, 1.0, str(file))
        while not file.exists():
            time.sleep(0.01)
        if itself:
            os.kill(int(file.read_text()), signal.SIGTERM)
            time.sleep(0.1)
        signal.raise_signal(signal.SIGTERM)
        assert call.result() == [signal.SIGTERM] == signals
