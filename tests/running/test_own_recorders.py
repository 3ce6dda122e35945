"""Recorders of a user's: named in a scenario or appended, each begins before its first metrics; what fails is one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.errors import RunError
from antiphon.telemetry import Metric, Recorder, RunDescription
from tests.engine.scenes import CLASSIFY, scenario_of

AGENTS = {"a": {"observes": ["image"], "objective": CLASSIFY}}


class Service(Recorder):
    """Has a connection from `begin` to `close`, as services of metrics have."""

    fails = ""

    def __init__(self, directory: Path | None = None) -> None:
        self.calls: list[Any] = []

    def begin(self, description: RunDescription) -> None:
        self.calls.append((description.hparams, description.start_step))
        self._fail("begin")

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        self.calls.append(step)
        self._fail("metrics")

    def end(self, result: Mapping[str, Any]) -> None:
        self._fail("end")

    def sync(self) -> None:
        self._fail("sync")

    def close(self) -> None:
        self.calls.append("closed")
        self._fail("close")

    def _fail(self, method: str) -> None:
        if self.fails == method:
            raise TimeoutError("no connection")


@pytest.mark.parametrize("method", ["begin", "metrics", "end", "sync", "close"])
def test_one_that_fails_is_a_line_with_its_method(method: str, tmp_path: Path) -> None:
    class Failing(Service):
        fails = method

    scenario = scenario_of(AGENTS, [], steps=2, telemetry={"recorders": [Failing]})
    line = r"^telemetry.recorders: Service\._fail failed at test_own_recorders.py:\d+: TimeoutError: no connection$"
    with pytest.raises(RunError, match=line), Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
