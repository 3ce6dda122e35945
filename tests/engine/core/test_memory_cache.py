"""The size of the cache, by which cohorts are computed in spans, is chosen once and kept in the run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from antiphon.engine.cohort import spans
from antiphon.engine.runs.run import Run, resume
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.engine import Engine
from antiphon.nets.memory import cache_bytes
from antiphon.scenarios import load


def width(simulation: Simulation) -> int:
    """Members of the widest span."""
    assert isinstance(simulation.backend, Engine)
    return max(s.last - s.first for c in simulation.backend.lifted.cohorts for s in c.stack.spans)


def test_a_resumed_run_has_the_spans_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spans, "_FEWEST", 2)
    path = tmp_path / "run"
    with Simulation(load("corporation"), logdir=path, backend="cohort", cache=1) as simulation:
        assert width(simulation) == 2
        assert width(simulation.fork()) == 2
        simulation.run(steps=3)
    assert json.loads((path / "run.json").read_text())["cache"] == 1
    again = resume(path, steps=5)
    assert isinstance(again, Run)
    with again.simulations[0] as simulation:
        assert width(simulation) == 2


def test_unless_told_it_is_this_machines(tmp_path: Path) -> None:
    with Simulation(load("corporation"), logdir=tmp_path / "run", backend="cohort") as simulation:
        assert simulation.cache == cache_bytes()
        assert width(simulation) > 2
    assert json.loads((tmp_path / "run" / "run.json").read_text())["cache"] == cache_bytes()
