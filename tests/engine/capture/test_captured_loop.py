"""What reads, changes or stops a simulation between replayed periods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.capture.loop import CapturedLoop, captured_loop
from antiphon.engine.capture.recorder import NotRecordable
from antiphon.engine.core import mailbox
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import Scenario
from tests.contracts.test_library import assert_same, resolved
from tests.engine.capture.dispatch_recorder import DispatchRecorder


def simulation_of(scenario: Scenario, **how: Any) -> tuple[Simulation, CapturedLoop]:
    loop = CapturedLoop(DispatchRecorder)
    return Simulation(scenario, seed=3, capture=loop, **how), loop


def ring(**values: Any) -> Scenario:
    return resolved("ring-of-many", {"steps": 300, **values})


def with_telemetry(scenario: Scenario, **fields: Any) -> Scenario:
    every = scenario.telemetry.model_copy(update=fields)
    return scenario.model_copy(update={"telemetry": every})


def test_rows_of_figures_are_those_without() -> None:
    scenario = with_telemetry(ring(), every=25)
    plain = Simulation(scenario, seed=3)
    captured, loop = simulation_of(scenario)
    rows = []
    for simulation in (plain, captured):
        history = simulation.history
        simulation.run(120)
        rows.append(
            [repr(row) for row in history if "seconds" not in repr(row) and "per_second" not in repr(row)]
        )
    assert rows[0] == rows[1]
    assert len(rows[0]) > 100
    assert loop.replayed >= 8


def test_checkpoints_between_replays_are_gone_on_from(tmp_path: Path) -> None:
    scenario = with_telemetry(ring(), every=50)
    unbroken = Simulation(scenario, seed=3)
    unbroken.run(90)
    captured, loop = simulation_of(scenario, logdir=tmp_path / "run", checkpoint_every=20)
    captured.run(70)
    captured.close()
    with Simulation.resume(tmp_path / "run") as resumed:
        assert resumed.now == 70
        resumed.run(20)
    assert loop.replayed >= 4
    assert_same(resumed, unbroken, beside="/tally")  # its rows begin anew


def test_forks_probes_and_evaluation_between_replays_change_no_bit() -> None:
    plain = Simulation(ring(), seed=3)
    captured, loop = simulation_of(ring())
    for simulation in (plain, captured):
        for steps in (31, 7, 29):
            simulation.run(steps)
            with simulation.fork() as twin:
                twin.run(4)
            simulation.probe()
            simulation.evaluate()
    assert loop.replayed >= 4
    assert_same(captured, plain)


def test_a_setting_that_changes_is_recorded_anew() -> None:
    plain = Simulation(ring(), seed=3)
    captured, loop = simulation_of(ring())
    replayed = []
    for simulation in (plain, captured):
        simulation.run(40)
        replayed.append(loop.replayed)
        simulation.set("*.learning_rate", 0.01)
        simulation.run(40)
    assert_same(captured, plain)
    assert loop.replayed > replayed[-1] + 3


def test_a_loaded_state_is_gone_on_from() -> None:
    captured, loop = simulation_of(ring())
    captured.run(20)
    before = captured.fork()
    captured.run(40)
    captured.load_state_dict(before.fork().state_dict())
    assert captured.now == 20
    captured.run(40)
    before.run(40)
    assert_same(captured, before)
    assert loop.replayed >= 8


def test_a_divergence_within_replays_has_its_own_step_and_moves_nothing() -> None:
    scenario = with_telemetry(resolved("hyperplane", {"steps": 300}), every=50)
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    plain.backend.check_later()  # as on a GPU
    lines, replayed = [], 0
    for simulation in (plain, captured):
        simulation.run(30)
        replayed = loop.replayed
        parameters = next(iter(simulation.backend.system.agents.values())).learner.parameters
        with torch.no_grad():
            next(iter(parameters.values())).fill_(torch.inf)
        with pytest.raises(DivergenceError) as error:
            simulation.run(100)
        lines.append(str(error.value))
    assert "at step 30" in lines[0]
    assert lines[0] == lines[1]
    assert loop.replayed > replayed + 10
    assert_same(captured, plain)


def test_what_is_baked_in_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A number of the step that the recording keeps: the replayed period differs, and no other is replayed."""
    monkeypatch.setattr(mailbox, "stamp_number", lambda step: step)
    scenario = resolved("lossy", {})
    plain, (captured, loop) = Simulation(scenario, seed=3), simulation_of(scenario)
    for simulation in (plain, captured):
        simulation.run(60)
    assert loop.obstacle == "a replayed period differs from one that is taken step by step"
    assert_same(captured, plain)


class Refusing(DispatchRecorder):
    """A recorder that waits for the device in the middle."""

    def record(self, work: Callable[[], None]) -> None:
        super().record(work)
        raise NotRecordable("it waits")


def test_what_cannot_be_recorded_is_taken_step_by_step() -> None:
    loop = CapturedLoop(Refusing)
    plain, captured = Simulation(ring(), seed=3), Simulation(ring(), seed=3, capture=loop)
    for simulation in (plain, captured):
        simulation.run(40)
    assert loop.obstacle == "it waits"
    assert loop.replayed == 0
    assert_same(captured, plain)


def test_a_run_that_is_stopped_within_a_period_is_at_its_end() -> None:
    scenario = ring()
    captured, loop = simulation_of(scenario)
    captured.run(60)
    begun = loop.replayed
    captured.run(seconds=0.05)  # ends after any step
    plain = Simulation(scenario, seed=3)
    plain.run(captured.now)
    assert_same(captured, plain)
    assert loop.replayed >= begun


def test_every_step_that_somebody_reads_is_taken_by_itself() -> None:
    captured, loop = simulation_of(ring())
    seen = []
    captured.run(40, on_step=lambda simulation: seen.append(simulation.now))
    assert seen == list(range(1, 41))
    assert loop.replayed == 0


def test_capture_is_for_a_gpu_and_has_to_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setattr("antiphon.engine.capture.loop.CudaGraphRecorder", DispatchRecorder)
    assert captured_loop(gpu, "cohort", None) is None
    assert isinstance(captured_loop(gpu, "cohort", capture=True), CapturedLoop)
    monkeypatch.setenv("ANTIPHON_CAPTURE", "1")
    assert isinstance(captured_loop(gpu, "cohort", None), CapturedLoop)
    assert captured_loop(gpu, "cohort", capture=False) is None
    for device, backend in ((torch.device("cpu"), "cohort"), (gpu, "reference")):
        assert captured_loop(device, backend, None) is None
    with pytest.raises(ScenarioError, match="capture: True on cpu"):
        Simulation(ring(), capture=True)
