"""Steps taken by parts and by the whole simulation in turn: the same files, limits, divergences and states as without parts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from antiphon import Scenario, Simulation
from antiphon.envs import TorchVectorEnv
from antiphon.envs.base import StepResult
from tests.contracts.builders import Play
from tests.contracts.builders import ring as noise_ring
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.kit.parts_table import read_parts
from tests.kit.recorded import metrics


def scenario(steps: int = 23) -> Scenario:
    return ring(steps, every=5)


def said(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return found


def saved(path: Path) -> dict[str, Any]:
    """What a run has written, but for times and names."""
    result = json.loads((path / "result.json").read_text())
    del result["seconds"], result["run_dir"]
    files = (path / "checkpoints").glob("*/state.*")
    states = {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}
    return {"result": result, "states": states, "metrics": metrics(path)}


def assert_same(one: Simulation, other: Simulation) -> None:
    found = list(differences(facts(one), facts(other), tolerance=0.0))
    assert not found, found[:12]


def assert_whole(simulation: Simulation) -> None:
    """Hold a simulation to one without parts at the same step."""
    with Simulation(simulation.scenario) as whole:
        whole.run(simulation.now)
        assert_same(whole, simulation)


def test_a_run_in_parts_writes_the_same_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for path, parts in ((one, None), (two, 2)):
        with Simulation(scenario(), seed=3, logdir=path, checkpoint_every=7, parts=parts) as simulation:
            simulation.run()
    assert saved(one) == saved(two)
    assert "parts" not in said(one)
    assert said(two)["parts"]["count"] == 2
    metrics = read_parts(two / "parts.csv")
    assert list(metrics) == [1, 5, 10, 15, 20, 23]
    for rows in metrics.values():
        assert sum(row.bytes_sent for row in rows) == sum(row.bytes_received for row in rows)
    # The steps before checkpoints, at 7, 14 and 21, and the last are the whole's: the parts take them after it.
    assert [metrics[step][0].steps_taken for step in metrics] == [1, 5, 10, 15, 20, 22]
    assert [row.calls for row in metrics[23]] == [13, 13]  # mostly one after two steps
    assert all(0 < row.computing < row.seconds for row in metrics[23])
    assert not (one / "parts.csv").exists()


def write(simulation: Simulation) -> None:
    for parameter in simulation.agents["b"].parameters.values():
        parameter.data.mul_(1.5)


def load_another(simulation: Simulation) -> None:
    with Simulation(scenario(), seed=9) as other:
        other.run(4)
        simulation.running.load_state_dict(other.running.state_dict())


CHANGES: dict[str, Callable[[Simulation], object]] = {
    "set": lambda simulation: simulation.set("a.learning_rate", 0.5),
    "write": write,
    "load": load_another,
    "step": lambda simulation: simulation.step(),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("then", CHANGES)
def test_parts_take_over_whatever_is_done_to_the_simulation(then: str) -> None:
    with Simulation(scenario()) as whole, Simulation(scenario(), parts=2) as divided:
        for simulation in (whole, divided):
            simulation.run(6)
            CHANGES[then](simulation)
            simulation.run(6)
        assert_same(whole, divided)


def test_steps_that_are_read_are_the_wholes() -> None:
    read: list[int] = []
    with Simulation(scenario(), parts=2) as simulation:
        simulation.run(3, callbacks=[lambda one: read.append(one.now)])
        assert read == [1, 2, 3]
        simulation.run(3)
        assert_whole(simulation)


class Bell:
    """What happens when the first environment takes a step: a part's, where the parts take that step."""

    at = -1
    does: Callable[[], object] = bool


@pytest.fixture
def bell(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, Callable[[], object]], None]:
    """Sets the bell, which rings once."""

    def set_bell(at: int, does: Callable[[], object]) -> None:
        monkeypatch.setattr(Bell, "at", at)
        monkeypatch.setattr(Bell, "does", staticmethod(does))

    return set_bell


@dataclass(frozen=True)
class Belled(Play):
    """Environments that ring the bell before its step."""

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env = super().make(batch=batch, **where)
        inner = env.step

        def step(actions: Any = None) -> StepResult:
            if env.state_dict()["step"] == Bell.at:
                Bell.at = -1
                Bell.does()
            return inner(actions)

        env.step = step  # type: ignore[method-assign]
        return env


BELLED = Scenario.model_validate(
    noise_ring(channel={"link": {"delay": 2}}, env=Belled()) | {"telemetry": {"period": 5}}
)


@pytest.mark.long
@pytest.mark.parametrize(
    ("at", "number"),
    [
        (1, signal.SIGINT),
        (5, signal.SIGTERM),
        *(pytest.param(n, signal.SIGINT, marks=pytest.mark.nightly) for n in (2, 6, 12)),
    ],
)
def test_a_signal_ends_a_run_where_all_parts_are(at: int, number: int, bell: Any, tmp_path: Path) -> None:
    """Also just after a step that the whole has taken, and the parts have not."""
    bell(at, lambda: os.kill(os.getpid(), number))
    with Simulation(BELLED, logdir=tmp_path / "a", checkpoint_every=4, parts=2) as simulation:
        with pytest.raises(KeyboardInterrupt, match=f"stopped by {signal.Signals(number).name}; "):
            simulation.run(23)
        assert at < simulation.now == said(tmp_path / "a")["step"] < 23
        assert said(tmp_path / "a")["exit"] == "stopped"
        assert_whole(simulation)
    with Simulation.resume(tmp_path / "a", BELLED) as simulation:
        simulation.run()
        assert_whole(simulation)
    with Simulation(BELLED, logdir=tmp_path / "b", checkpoint_every=4) as simulation:
        simulation.run(23)
    rows = [metrics(tmp_path / name) for name in "ab"]
    assert rows[0] == rows[1]  # also the entry of a step that the parts had taken when the signal came
