"""A long run of many agents: memory, time per step and the event file, as the documents promise.

`--rounds 1000` is a run of a million steps.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path

import pytest

import antiphon

STEPS = 1_000
"""In a round."""
PARTS = 10
"""Stretches that are compared, each with a checkpoint."""
EVERY = 50
ROW, BEGINNING = 26_000, 1_000_000
"""Bytes of a row of the event file, and of what is before the first one, at most (docs/telemetry.md)."""
VALUES = {"agents": 64, "width": 4, "size": 4, "batch": 4, "part": 2}


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Gauge:
    """Memory in use at the end of each part of a run, and in it the processor time of the fastest fifty steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._before = time.process_time()
        self._times: list[float] = []
        self.memory: list[int] = []
        self.seconds: list[float] = []

    def __call__(self, step: int) -> None:
        """Look after a step."""
        if step % EVERY == 0:
            now = time.process_time()
            self._times.append(now - self._before)
            self._before = now
        if step % (self._steps // PARTS) == 0:
            self.seconds.append(min(self._times))
            self._times.clear()
            gc.collect()
            self.memory.append(resident())
            self._before = time.process_time()


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="reads the memory of a process from /proc")
def test_a_long_run_keeps_its_memory_and_pace_and_bounds_its_event_file(rounds: int, tmp_path: Path) -> None:
    steps = STEPS * rounds
    gauge = Gauge(steps)
    scenario = antiphon.load("ring-of-many").resolve(values={**VALUES, "steps": steps})
    with antiphon.Simulation(scenario, logdir=tmp_path / "run") as simulation:
        while simulation.now < steps:
            simulation.step()
            gauge(simulation.now)
    # The first checkpoint takes memory that the later ones use again; the fastest steps are those that nothing disturbed.
    assert max(gauge.memory[5:]) <= 1.02 * max(gauge.memory[1:5]), gauge.memory
    if rounds > 1:  # a few seconds say nothing on a machine that does other things
        assert min(gauge.seconds[5:]) <= 1.10 * min(gauge.seconds[:5]), gauge.seconds
    every = scenario.telemetry.period
    written = sum(path.stat().st_size for path in (tmp_path / "run").glob("events.*"))
    assert written <= BEGINNING + ROW * (steps // every)
