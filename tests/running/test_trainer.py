"""The training loop itself (`running/trainer.py`, `observers.py`): limits, what observers are told, and several simulations at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from antiphon import Population, ScenarioError, Simulation, load
from antiphon.running.run import Run
from antiphon.running.trainer import Observer, Outcome, Trainer
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.running.left import poison

SCENARIO = load("digits-mlp").resolve(None, {"depth": 2, "width": 8, "batch": 16, "steps": 12})


class Log(Observer):
    """Records the calls that an observer gets, and does something at a step."""

    def __init__(self, at: int = 0, act: Callable[[], object] = lambda: None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._at, self._act = at, act

    def start(self, trainer: Trainer) -> None:
        self.calls.append(("start", len(trainer.active)))

    def step(self, trainer: Trainer) -> None:
        self.calls.append(("step", [run.running.now for run in trainer.active]))
        if trainer.active[0].running.now == self._at:
            self._act()

    def end(self, run: Run, outcome: Outcome) -> None:
        self.calls.append(("end", run.running.seed, outcome.status, outcome.error))


def test_observers_follow_the_loop_and_limits_end_it() -> None:
    """Endless episodes are refused before anything starts."""
    with Simulation(SCENARIO) as simulation:
        log = Log()
        with pytest.raises(ScenarioError, match="episodes never end"):
            Trainer([Run(simulation.running)], [log]).run(episodes=1)
        assert log.calls == []
        assert Trainer([Run(simulation.running)], [log]).run(2) == [Outcome("done")]
        assert log.calls == [("start", 1), ("step", [1]), ("step", [2]), ("end", 0, "done", None)]
        assert simulation.until == simulation.scenario.training.steps
        start = time.monotonic()
        simulation.run(seconds=0.1)
        assert time.monotonic() - start >= 0.1
        simulation.run(steps=0)
    agents = {"a": {"observes": ["image"], "objective": CLASSIFY}}
    with Simulation(scenario_of(agents, env={"hold": 3, "episode": "example"})) as simulation:
        simulation.run(episodes=2)
        assert simulation.now == 6


def test_an_exception_ends_those_that_run_as_failed() -> None:
    def fail() -> None:
        raise AssertionError

    seeds = Population(SCENARIO, [0, 1])
    log = Log(3, lambda: poison(seeds.simulations[0]))
    with pytest.raises(AssertionError):
        Trainer(seeds.runs, [log, Log(5, fail)], seeds.step).run(9)
    seeds.close()
    ends = [call[1:] for call in log.calls if call[0] == "end"]
    assert ends == [(0, "diverged", seeds.simulations[0].diverged), (1, "failed", "AssertionError")]


def test_the_progress_bar_follows_the_steps_and_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.delenv("ANTIPHON_PROGRESS")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    times = iter(range(1000))
    monkeypatch.setattr("antiphon.base.progress.time.monotonic", lambda: next(times))
    for name in ("start", "update", "stop"):
        monkeypatch.setattr(f"rich.progress.Progress.{name}", lambda *_, name=name, **__: calls.append(name))

    def fail(simulation: Simulation) -> None:
        if simulation.now == 3:
            raise ZeroDivisionError

    with Simulation(SCENARIO) as simulation:
        calls.clear()  # those of building
        with pytest.raises(ZeroDivisionError):
            simulation.run(callbacks=[fail])
    assert calls == ["start", *["update"] * 4, "stop"]
