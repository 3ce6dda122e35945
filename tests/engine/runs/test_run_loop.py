"""The run loop: limits, observers, divergence, exceptions; and the run directory of a simulation made in Python."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.run_loop import Observer, Outcome, RunLoop, SharedClock
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import DivergenceError, ResourceError, ScenarioError
from antiphon.scenarios import Scenario, Template, load
from tests.recorded import metrics

TEMPLATE = Template.from_yaml(load("digits-mlp").text + "telemetry: {every: 5}\n", "tiny.yaml")
VALUES = {"depth": 2, "width": 8, "batch": 16}


def request(steps: int = 12, **changes: Any) -> Request:
    return Request(template=TEMPLATE, values={**VALUES, **changes}, steps=steps, seed=2)


def scenario(steps: int = 12, **changes: Any) -> Scenario:
    return request(steps, **changes).scenario


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text(encoding="utf-8"))
    return found


class Log(Observer):
    """Records the calls that an observer gets."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def start(self, loop: RunLoop) -> None:
        self.calls.append(("start", len(loop.running)))

    def step(self, loop: RunLoop) -> None:
        self.calls.append(("step", [simulation.now for simulation in loop.running]))

    def end(self, simulation: Simulation, outcome: Outcome) -> None:
        self.calls.append(("end", simulation.seed, outcome))


def poison(simulation: Simulation) -> None:
    for parameter in simulation._system.agents["n0"].learner.parameters.values():
        parameter.data.fill_(torch.nan)


class Poison(Observer):
    """Makes simulations diverge at the step after `at`."""

    def __init__(self, at: int, *simulations: Simulation) -> None:
        self._at, self._simulations = at, simulations

    def step(self, loop: RunLoop) -> None:
        if loop.running[0].now == self._at:
            for simulation in self._simulations:
                poison(simulation)


# --- limits and observers ----------------------------------------------------------------------------------


def test_observers_follow_the_loop_and_limits_end_it() -> None:
    with Simulation(scenario()) as simulation:
        log = Log()
        loop = RunLoop([simulation], [log])
        assert loop.run(2) == [Outcome("done")]
        assert log.calls == [
            ("start", 1),
            ("step", [1]),
            ("step", [2]),
            ("end", 0, Outcome("done")),
        ]
        assert simulation.until == 2
        start = time.monotonic()
        assert RunLoop([simulation]).run(seconds=0.2) == [Outcome("done")]
        assert time.monotonic() - start >= 0.2
        assert RunLoop([simulation]).run(0) == [Outcome("done")]


def test_episodes_end_it_and_endless_ones_are_refused_before_anything_starts() -> None:
    with Simulation(load("copy").resolve()) as simulation:
        ended = []
        simulation.run(episodes=2, on_step=lambda one: ended.append(one.world.elapsed))
        assert len(ended) == simulation.now > 2
    stream = load("digits-mlp").resolve(values=VALUES)
    with Simulation(stream) as simulation:
        assert simulation.world.env.endless
        log = Log()
        with pytest.raises(ScenarioError, match="episodes never end"):
            RunLoop([simulation], [log]).run(episodes=1)
        assert log.calls == []


def test_a_replica_that_diverges_ends_by_itself() -> None:
    seeds = Seeds(scenario(), [0, 1, 2])
    log = Log()
    bad = Poison(3, seeds.simulations[1])
    outcomes = RunLoop(seeds.simulations, [bad, log], seeds.step).run(5)
    seeds.close()
    assert [outcome.status for outcome in outcomes] == ["done", "diverged", "done"]
    assert [outcome.exit_code for outcome in outcomes] == [0, 3, 0]
    assert outcomes[1].error == seeds.simulations[1].diverged
    kinds = [(call[0], call[1]) for call in log.calls]
    assert kinds == [
        ("start", 3),
        ("step", [1, 1, 1]),
        ("step", [2, 2, 2]),
        ("step", [3, 3, 3]),
        ("end", 1),
        ("step", [4, 4]),
        ("step", [5, 5]),
        ("end", 0),
        ("end", 2),
    ]


def test_a_divergence_found_by_an_observer_is_one() -> None:
    """A checkpoint may be what finds it, where losses are looked at later."""

    class Found(Observer):
        def step(self, loop: RunLoop) -> None:
            loop.running[0].diverged = "agent 'n0': too late"
            raise DivergenceError("agent 'n0': too late")

    with Simulation(scenario()) as simulation:
        log = Log()
        assert RunLoop([simulation], [log, Found()]).run(5) == [
            Outcome("diverged", 3, "agent 'n0': too late")
        ]
        assert [call[0] for call in log.calls] == ["start", "step", "end"]


def test_an_exception_ends_those_that_run_as_failed() -> None:
    class Broken(Observer):
        def step(self, loop: RunLoop) -> None:
            if loop.running[0].now == 5:
                raise AssertionError

    seeds = Seeds(scenario(), [0, 1])
    log = Log()
    with pytest.raises(AssertionError):
        RunLoop(seeds.simulations, [log, Poison(3, seeds.simulations[0]), Broken()], seeds.step).run(9)
    seeds.close()
    ends = [(call[1], call[2].status, call[2].error) for call in log.calls if call[0] == "end"]
    assert ends == [(0, "diverged", seeds.simulations[0].diverged), (1, "failed", "AssertionError")]


def test_time_is_divided_between_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [0.0]
    monkeypatch.setattr("antiphon.engine.runs.run_loop.time.perf_counter", lambda: times[0])
    clock = SharedClock()
    for simulations, passed, found in ((0, 5, 0), (4, 8, 2), (0, 100, 2), (1, 3, 5)):
        clock.divide(simulations)
        times[0] += passed
        assert clock() == found


@pytest.mark.parametrize("fails", [False, True])
def test_the_progress_bar_follows_the_steps_and_is_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fails: bool
) -> None:
    calls: list[str] = []
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for name in ("start", "advance", "stop"):
        monkeypatch.setattr(f"rich.progress.Progress.{name}", lambda *_, name=name: calls.append(name))

    def fail(simulation: Simulation) -> None:
        if fails and simulation.now == 3:
            raise MemoryError

    with Simulation(scenario()) as simulation:
        if fails:
            with pytest.raises(MemoryError):
                simulation.run(on_step=fail)
        else:
            simulation.run(steps=3, on_step=fail)
    assert calls == ["start", *["advance"] * 3, "stop"]


# --- the run directory of a simulation made in Python ---------------------------------------------------------


def test_python_leaves_what_the_command_line_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("antiphon.engine.runs.run_writer._FEWEST_STEPS", 3)
    steps, every = 42, 5  # a tenth, rounded up
    python, line = tmp_path / "python", tmp_path / "line"
    seen: list[tuple[int, list[str]]] = []

    def look(simulation: Simulation) -> None:
        seen.append((simulation.now, sorted(p.name for p in (python / "checkpoints").glob("step-*"))))

    with Simulation(scenario(steps), seed=2, logdir=python) as simulation:
        simulation.run(on_step=look)
    begin(request(steps), line).train()

    def files(path: Path) -> list[str]:
        return sorted(p.relative_to(path).as_posix().partition("tfevents")[0] for p in path.rglob("*"))

    assert files(python) == files(line)
    assert metrics(python) == metrics(line)
    state = f"checkpoints/step-{steps:09d}/state.safetensors"
    assert (python / state).read_bytes() == (line / state).read_bytes()
    one, other = (RunDirectory.open(path) for path in (python, line))
    assert one.result is not None
    assert other.result is not None
    ours, theirs = ({**found, "seconds": 0, "run_dir": ""} for found in (one.result, other.result))
    assert ours == theirs
    for key in ("exit", "step", "steps", "error", "seed", "backend", "dtype", "git"):
        assert one.facts[key] == other.facts[key], key
    # a scenario that is handed over has no other variants, whose keys are left out of the warnings
    assert [line for line in one.facts["warnings"] if "is not used" not in line] == other.facts["warnings"]
    written = [names[-1] for step, names in seen if names and step % every == 1]
    assert written == [f"step-{every * n:09d}" for n in range(1, 9)], "ten in a run, or nine"
    assert {len(names) for _, names in seen[11:]} == {2}


def test_ctrl_c_is_noted_and_a_second_run_goes_on(tmp_path: Path) -> None:
    def interrupt(simulation: Simulation) -> None:
        if simulation.now == 5:
            os.kill(os.getpid(), signal.SIGINT)

    def running(simulation: Simulation) -> None:
        found = facts(tmp_path / "run")
        assert (found["exit"], found["finished"]) == ("running", None)

    with Simulation(scenario(), logdir=tmp_path / "run") as simulation:
        simulation.run(on_step=interrupt)
        found = facts(tmp_path / "run")
        assert (found["exit"], found["step"], found["error"]) == ("stopped", 5, None)
        simulation.run(on_step=running)
    assert (facts(tmp_path / "run")["exit"], facts(tmp_path / "run")["step"]) == ("done", 12)


def test_seconds_go_on_while_a_simulation_is_stepped_by_hand(tmp_path: Path) -> None:
    with Simulation(scenario(), logdir=tmp_path / "run") as simulation:
        simulation.run(steps=5)
        time.sleep(0.3)
        for _ in (simulation.step() for _ in range(5)):
            pass
    with (tmp_path / "run/metrics.csv").open(newline="") as file:
        seconds = {int(row[0]): float(row[4]) for row in csv.reader(file) if row[3] == "seconds"}
    assert list(seconds) == [1, 5, 10]
    assert seconds[10] - seconds[5] >= 0.3


def simulate(folder: Path, steps: int = 30) -> Simulation:
    return Simulation(scenario(steps), logdir=folder)


def at(step: int, error: BaseException) -> Callable[[Simulation], None]:
    def act(simulation: Simulation) -> None:
        if simulation.now == step:
            raise error

    return act


@pytest.mark.parametrize(
    ("error", "ended", "reason"),
    [
        (ZeroDivisionError("by nought"), "failed", "by nought"),
        (AssertionError(), "failed", "AssertionError"),
        (MemoryError("no more"), "stopped", "out of memory; lower training.batch"),
        (torch.OutOfMemoryError("CUDA out of memory"), "stopped", "out of memory; lower training.batch"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ],
)
def test_an_exception_is_noted_with_its_step(
    error: BaseException, ended: str, reason: str, tmp_path: Path
) -> None:
    simulation = simulate(tmp_path / "run")
    assert facts(tmp_path / "run")["exit"] == "running"
    shortage = isinstance(error, MemoryError | torch.OutOfMemoryError)
    with pytest.raises(ResourceError if shortage else type(error)) as caught:
        simulation.run(on_step=at(7, error))
    assert (caught.value.__cause__ if shortage else caught.value) is error
    simulation.close()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"][: len(reason)], found["step"]) == (ended, reason, 7)
    assert found["finished"] is not None
    going_on = resume(tmp_path / "run")
    assert isinstance(going_on, Run)
    assert going_on.train()[0].result["steps"] == 30


def test_a_result_that_cannot_be_written_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulation = simulate(tmp_path / "run", 3)

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
            for _ in (simulation.step() for _ in range(4)):
                pass
            raise ZeroDivisionError("by nought")

    with pytest.raises(ZeroDivisionError):
        work()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("failed", "by nought", 4)


def test_a_simulation_that_is_closed_has_stopped(tmp_path: Path) -> None:
    with simulate(tmp_path / "run") as simulation:
        for _ in (simulation.step() for _ in range(4)):
            pass
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("stopped", None, 4)


def test_a_divergence_in_steps_by_hand_is_noted(tmp_path: Path) -> None:
    simulation = simulate(tmp_path / "run")
    for _ in (simulation.step() for _ in range(4)):
        pass
    with torch.no_grad():
        for parameter in list(simulation.agents.values())[-1].parameters.values():
            parameter.fill_(float("nan"))
    with pytest.raises(DivergenceError), simulation:
        simulation.step()
    found = facts(tmp_path / "run")
    assert (found["exit"], found["error"], found["step"]) == ("diverged", simulation.diverged, 4)


def test_a_run_that_is_done_stays_done(tmp_path: Path) -> None:
    with simulate(tmp_path / "run", 3) as simulation:
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
    with pytest.raises(ZeroDivisionError), simulate(tmp_path / "run", 40) as simulation:
        simulation.run(on_step=at(22, ZeroDivisionError("by nought")))
    kept = sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir())
    assert kept == ["step-000000016", "step-000000020"]
    assert facts(tmp_path / "run")["step"] == 22
    going_on = resume(tmp_path / "run")
    assert isinstance(going_on, Run)
    assert [simulation.now for simulation in going_on.simulations] == [20]


def steps_of(run: Path) -> set[int]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return {int(row["step"]) for row in csv.DictReader(file)}


def test_a_short_run_ends_with_figures_and_so_does_what_goes_on_from_it(tmp_path: Path) -> None:
    run = tmp_path / "short"
    with Simulation(load("digits-mlp").resolve(values={"width": 8, "steps": 20}), logdir=run) as simulation:
        simulation.run(steps=5)
    assert steps_of(run) == {1, 5}
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == result["agents"]["n0"]["updates"] == 5
    more = resume(run, steps=9)
    assert not hasattr(more, "exit_code")
    (outcome,) = more.train()  # type: ignore[union-attr]
    assert steps_of(run) == {1, 5, 9}
    assert outcome.result["agents"]["n0"]["updates"] == 9
