"""Where calls run: errors, the precision of matrix products, and Ctrl-C while a process begins."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from antiphon.base.signals import pass_on, stop_signals
from antiphon.jobs.processes import Processes
from antiphon.nets.devices import matmul_precision


@pytest.mark.long
def test_each_call_has_the_precision_that_the_caller_has_then() -> None:
    found = []
    with Processes() as place:
        for precision in ("highest", "high"):
            torch.set_float32_matmul_precision(precision)
            found.append((matmul_precision(), place.submit(matmul_precision).result()))
    assert found[0][0] != found[1][0]
    assert all(here == there for here, there in found)


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


def test_members_that_have_got_a_signal_are_not_stopped_again() -> None:
    with stop_signals() as signals:
        pass_on(signal.SIGTERM)
        pass_on(signal.SIGTERM)
    assert signals == [signal.SIGTERM]
