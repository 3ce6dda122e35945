"""Runs made in Python with a logdir: run.json is right however they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.runs.run import Run, resume
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError
from antiphon.scenarios import load

Act = Callable[[Simulation], None]


def simulate(folder: Path, steps: int = 30) -> Simulation:
    values = {"depth": 3, "width": 8, "batch": 16}
    scenario = load("digits-mlp").resolve(None, values).with_training(steps=steps)
    return Simulation(scenario, logdir=folder)


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return found


def at(step: int, error: BaseException) -> Act:
    def act(simulation: Simulation) -> None:
        if simulation.now == step:
            raise error

    return act


@pytest.mark.parametrize(
    ("error", "ended", "reason"),
    [
        (ZeroDivisionError("by nought"), "failed", "by nought"),
        (AssertionError(), "failed", "AssertionError"),
        (MemoryError("no more"), "failed", "no more"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ],
)
def test_an_exception_is_noted_with_its_step(
    error: BaseException, ended: str, reason: str, tmp_path: Path
) -> None:
    simulation = simulate(tmp_path / "run")
    assert facts(tmp_path / "run")["exit"] == "running"
    with pytest.raises(type(error)):
        simulation.run(on_step=at(7, error))
    simulation.close()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == (ended, reason, 7)
    assert found["finished"] is not None
    going_on = resume(tmp_path / "run")
    assert isinstance(going_on, Run)
    assert going_on.train()[0].result["steps"] == 30


def test_a_result_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = simulate(tmp_path / "run", steps=3)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("by nought")

    monkeypatch.setattr("antiphon.engine.runs.run_writer.result_of", fail)
    with pytest.raises(ZeroDivisionError):
        simulation.run()
    assert (facts(tmp_path / "run")["exit"], facts(tmp_path / "run")["error"]) == ("failed", "by nought")
    simulation.close()


def test_an_exception_between_steps_is_noted(tmp_path: Path) -> None:
    def work() -> None:
        with simulate(tmp_path / "run") as simulation:
            for _ in simulation.steps(4):
                pass
            raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError):
        work()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("failed", "by nought", 4)


def test_a_simulation_that_is_closed_has_stopped(tmp_path: Path) -> None:
    with simulate(tmp_path / "run") as simulation:
        for _ in simulation.steps(4):
            pass
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("stopped", None, 4)


def test_a_divergence_in_steps_by_hand_is_noted(tmp_path: Path) -> None:
    simulation = simulate(tmp_path / "run")
    for _ in simulation.steps(4):
        pass
    with torch.no_grad():
        for parameter in list(simulation.agents.values())[-1].parameters.values():
            parameter.fill_(float("nan"))
    with pytest.raises(DivergenceError), simulation:
        simulation.step()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("diverged", simulation.diverged, 4)


def test_a_run_that_is_done_stays_done(tmp_path: Path) -> None:
    with simulate(tmp_path / "run", steps=3) as simulation:
        simulation.run()
    assert facts(tmp_path / "run")["exit"] == "done"


def test_a_run_that_goes_on_after_a_failure_runs_again(tmp_path: Path) -> None:
    simulation = simulate(tmp_path / "run")
    with pytest.raises(ZeroDivisionError):
        simulation.run(on_step=at(simulation.now + 1, ZeroDivisionError("by nought")))
    assert facts(tmp_path / "run")["exit"] == "failed"
    seen: list[dict[str, Any]] = []
    simulation.run(steps=2, on_step=lambda _: seen.append(facts(tmp_path / "run")))
    assert {(found["exit"], found["error"], found["finished"]) for found in seen} == {("running", None, None)}
    assert facts(tmp_path / "run")["exit"] == "done"
    simulation.close()


def test_checkpoints_are_written_on_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.engine.runs.run_writer._FEWEST_STEPS", 4)
    with pytest.raises(ZeroDivisionError), simulate(tmp_path / "run", steps=40) as simulation:
        simulation.run(on_step=at(22, ZeroDivisionError("by nought")))
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-000000016", "step-000000020"]
    assert facts(tmp_path / "run")["step"] == 22
    going_on = resume(tmp_path / "run")
    assert isinstance(going_on, Run)
    assert [simulation.now for simulation in going_on.simulations] == [20]
