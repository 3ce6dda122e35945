"""The seconds beside the metrics: once for each step, and never backwards, whatever ended an earlier session."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import pytest

from antiphon import Simulation
from tests.engine.scenes import scenario_of

BATCH = 3


def times_of(run: Path) -> dict[str, dict[int, float]]:
    """The rows of the run as a whole, by metric and step; each comes once."""
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "run"]
    assert len({(row["step"], row["metric"]) for row in rows}) == len(rows)
    found: dict[str, dict[int, float]] = {"seconds": {}, "steps_per_second": {}}
    for row in rows:
        found[row["metric"]][int(row["step"])] = float(row["value"])
    return found


@pytest.mark.long
def test_seconds_go_on_where_a_crashed_session_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate is of the steps of all environments since the row before."""
    clock = itertools.count(0.0, 2.0)
    monkeypatch.setattr("antiphon.running.trainer.time.perf_counter", lambda: next(clock))
    motor = {"observes": ["observation"], "acts": True, "objective": {"kind": "a2c"}, "clock": {"unroll": 4}}
    env, telemetry = {"id": "antiphon/CartPole-v0", "limit": 5}, {"period": 4}
    scenario = scenario_of({"motor": motor}, env=env, batch=BATCH, steps=13, telemetry=telemetry)

    def crash() -> None:
        with Simulation(scenario, logdir=tmp_path / "run", checkpoint_every=2) as simulation:
            simulation.run(8)
            raise MemoryError("no more")

    with pytest.raises(MemoryError):
        crash()
    before = times_of(tmp_path / "run")
    with Simulation.resume(tmp_path / "run") as simulation:
        simulation.run()
    found = times_of(tmp_path / "run")
    seconds = found["seconds"]
    assert list(seconds) == [1, 4, 8, 12, 13]
    assert [*seconds.values()] == sorted(set(seconds.values()))
    assert {step: seconds[step] for step in before["seconds"]} == before["seconds"]
    for one, two in ((1, 4), (4, 8), (12, 13)):
        rate = (two - one) * BATCH / (seconds[two] - seconds[one])
        assert found["steps_per_second"][two] == pytest.approx(rate)
