"""Runs begun in Python: stopped and resumed to the same bits, also with Python objects; stepped by hand; refused where they differ."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation, load
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.run_loop import RunLoop
from antiphon.envs import from_tensors
from antiphon.errors import DivergenceError, RunError, ScenarioError
from tests.engine.numbers import one_line
from tests.engine.runs.test_run import request, same_but_for_time
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.recorded import metrics


def network(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, outputs))


def own(*, shift: float = 0.0, channel: Any = None, steps: int = 40, **changes: Any) -> Scenario:
    """Two modules of one's own on tensors of one's own; the module's parameters are others at every call."""
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    agents = {
        "a": {"observes": ["x"], "network": changes.pop("first", network)},
        "b": {"network": nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)), "objective": CLASSIFY},
    }
    channels = [{"from": "a", "to": "b", "size": 4, "norm": "none", **(channel or {})}]
    env = changes.pop("env", None) or from_tensors(x=x + shift, label=(x[:, 0] > 0).long())
    return scenario_of(agents, channels, env, batch=4, steps=steps, telemetry={"every": 5}, **changes)


def facts(run: Path) -> dict[str, Any]:
    return RunDirectory.open(run).facts


def names(run: Path) -> list[str]:
    return [path.name for path in RunDirectory.open(run).checkpoints]


def crash_at(step: int) -> Callable[[Simulation], None]:
    def act(simulation: Simulation) -> None:
        if simulation.now == step:
            raise ZeroDivisionError("by nought")

    return act


def assert_same_run(one: Path, other: Path) -> None:
    """Compare everything that two runs have left, but for times and names of event files."""
    first, second = (RunDirectory.open(path) for path in (one, other))
    assert first.result is not None
    assert second.result is not None
    assert same_but_for_time(first.result, second.result)
    assert metrics(one) == metrics(other)
    assert (one / "scenario.yaml").read_bytes() == (other / "scenario.yaml").read_bytes()
    assert first.checkpoints[-1].name == second.checkpoints[-1].name
    for name in ("state.safetensors", "state.json"):
        assert (first.checkpoints[-1] / name).read_bytes() == (second.checkpoints[-1] / name).read_bytes()
    for key in ("exit", "step", "steps", "error", "seed", "backend", "dtype", "threads"):
        assert first.facts[key] == second.facts[key], key


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run that was never stopped, and the checkpoint of step 0 it began with: to be read only."""
    folder = tmp_path_factory.mktemp("whole")
    torch.manual_seed(5)
    with Simulation(own(), seed=1, logdir=folder / "run", checkpoint_every=10) as simulation:
        simulation.save(folder / "start")
        simulation.run()
    return folder / "run", folder / "start"


@pytest.fixture
def _precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("_precision")
def test_torchs_precision_of_matrix_products_is_recorded_and_resumed_with(tmp_path: Path) -> None:
    for precision in ("high", "highest"):
        torch.set_float32_matmul_precision(precision)
        with Simulation(own(), logdir=tmp_path / precision, checkpoint_every=10) as simulation:
            simulation.run(10)
        assert RunDirectory.open(tmp_path / precision).facts["matmul_precision"] == precision
    for precision in ("high", "highest"):
        with Simulation.resume(tmp_path / precision, own()):
            assert torch.get_float32_matmul_precision() == precision


# --- interrupted and resumed ------------------------------------------------------------------------------


def test_an_interval_of_checkpoints_is_the_command_lines(tmp_path: Path) -> None:
    scenario = request().scenario
    with Simulation(scenario, logdir=tmp_path / "python", checkpoint_every=7) as simulation:
        simulation.run()
    begin(request(), tmp_path / "line").train(checkpoint_every=7)
    assert names(tmp_path / "python") == names(tmp_path / "line") == ["step-000000021", "step-000000024"]
    assert_same_run(tmp_path / "python", tmp_path / "line")


@pytest.mark.parametrize("crash", [4, 10, 27])
def test_a_run_of_python_objects_goes_on_to_the_same_bits(
    crash: int, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(5)  # the same initial module; the factory has the run's seed anyway
    run = tmp_path / "run"
    with (
        pytest.raises(ZeroDivisionError),
        Simulation(own(), seed=1, logdir=run, checkpoint_every=10) as simulation,
    ):
        simulation.run(on_step=crash_at(crash))
    assert facts(run)["exit"] == "failed"
    with Simulation.resume(
        run, scenario=own(), checkpoint_every=10
    ) as simulation:  # a module of other parameters
        assert simulation.now == (crash - 1) // 10 * 10
        simulation.run()
    assert_same_run(whole[0], run)


def test_the_command_lines_resume_goes_on_with_a_python_run_given_its_objects(
    whole: tuple[Path, Path], tmp_path: Path
) -> None:
    torch.manual_seed(5)
    run = tmp_path / "run"
    with Simulation(own(), seed=1, logdir=run, checkpoint_every=10) as simulation:
        simulation.run(on_step=lambda s: signal.raise_signal(signal.SIGINT) if s.now == 13 else None)
    assert (facts(run)["exit"], facts(run)["step"], facts(run)["steps"]) == ("stopped", 13, 40)
    with pytest.raises(RunError, match=r"scenario holds Python objects.*--scenario MODULE:FUNCTION"):
        resume(run)
    resumed = resume(run, scenario=own())
    assert isinstance(resumed, Run)
    assert resumed.train(checkpoint_every=10)[0].exit_code == 0
    assert_same_run(whole[0], run)


def test_a_run_of_the_command_line_goes_on_in_python(tmp_path: Path) -> None:
    begin(request(), tmp_path / "whole").train()

    def crash(step: int, _: Any) -> None:
        if step == 13:
            raise MemoryError

    with pytest.raises(MemoryError):
        begin(request(), tmp_path / "run").train(crash, checkpoint_every=10)
    with Simulation.resume(tmp_path / "run", request().scenario) as simulation:
        simulation.run()
    assert_same_run(tmp_path / "whole", tmp_path / "run")


def test_a_resumed_run_ends_where_the_interrupted_call_would_have(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Simulation(own(), logdir=tmp_path / "run") as simulation:
        simulation.run(steps=55, on_step=crash_at(6))
    assert facts(tmp_path / "run")["steps"] == 55
    with Simulation.resume(tmp_path / "run", own()) as simulation:
        simulation.run()
        assert simulation.now == 55
    assert (facts(tmp_path / "run")["exit"], facts(tmp_path / "run")["steps"]) == ("done", 55)
    with Simulation.resume(tmp_path / "run", own()) as simulation:
        simulation.run(steps=5)
    assert (facts(tmp_path / "run")["exit"], facts(tmp_path / "run")["step"]) == ("done", 60)


PROGRAM = """
import os, signal, sys
import torch
from antiphon import Simulation
from antiphon.engine.state import checkpoint
from tests.engine.runs.test_python_runs import own

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def train(run, stop, begun):
    torch.manual_seed(5)
    scenario, every = own(), {"checkpoint_every": 10}
    simulation = Simulation.resume(run, scenario, **every) if begun else Simulation(scenario, seed=1, logdir=run, **every)
    if stop == "while a checkpoint is written":
        checkpoint.save_file = die
    with simulation:
        simulation.run(on_step=lambda s: die() if s.now == stop else None)

for number, stop in enumerate([3, 20, 27, "while a checkpoint is written", None]):
    child = os.fork()
    if not child:
        train(sys.argv[1], stop, number > 0)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if stop is None else -signal.SIGKILL), (stop, status)
    print(*sorted(os.listdir(sys.argv[1] + "/checkpoints")), flush=True)
"""


def test_killed_at_any_time_it_has_lost_at_most_an_interval(whole: tuple[Path, Path], tmp_path: Path) -> None:
    root, run = Path(__file__).resolve().parents[3], tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run)], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = [[name for name in line.split() if name[0] != "."] for line in done.stdout.splitlines()]
    assert [names[-1] for names in kept] == [f"step-{step:09d}" for step in (0, 10, 20, 20, 40)]
    assert_same_run(whole[0], run)
    assert len(list((run / "checkpoints").iterdir())) == 2, "nothing half written is left"


# --- what differs is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shift": 0.5}, r"scenario: env: this Source holds other data or settings than the one saved"),
        ({"optimiser": {"kind": "sgd", "lr": 0.5}}, r"scenario: training\.optimiser"),
        ({"channel": {"link": {"delay": 1}}}, r"scenario: channels\.a->b\.link"),
        ({"first": nn.Linear(3, 4)}, r"agents\.a\.network: a Python network was saved, a Python Linear is"),
        ({"steps": 41}, r"scenario: training\.steps: 40 was saved, 41 is given"),
    ],
)
def test_another_scenario_is_not_resumed(
    changes: dict[str, Any], line: str, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    with one_line(rf"^{whole[0]}: .*{line}", RunError):
        Simulation.resume(whole[0], own(**changes))


def test_objects_that_are_missing_are_named(whole: tuple[Path, Path]) -> None:
    with one_line(r"run.*its scenario holds Python objects; load it with scenario=", RunError):
        Simulation.resume(whole[0])


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"shift": 0.5}, r"env: this Source holds other data or settings than the one saved; give the one"),
        (
            {"first": lambda inputs, outputs: nn.Linear(inputs, outputs)},
            r"agents\.a\.network: a Python network",
        ),
    ],
)
def test_other_data_of_the_same_shapes_is_not_loaded(
    changes: dict[str, Any], line: str, whole: tuple[Path, Path]
) -> None:
    for saved in whole:
        with one_line(line, RunError):
            Simulation.load(saved, own(**changes))
        Simulation.load(saved, own()).close()


def test_a_document_run_refuses_another_document(tmp_path: Path) -> None:
    scenario = load("digits-mlp").resolve(values={"width": 8, "steps": 4})
    with Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
    other = load("digits-mlp").resolve(values={"width": 8, "steps": 4, "lr": 0.125})
    with one_line(r"scenario: .*lr: .* was saved, 0\.125 is given", RunError):
        Simulation.resume(tmp_path / "run", other)
    Simulation.resume(tmp_path / "run", scenario).close()


@pytest.mark.parametrize("given", [3, {"scenario": "mine"}, own, nn.Linear(1, 1)])
def test_what_is_no_scenario_is_one_line(given: Any, whole: tuple[Path, Path]) -> None:
    line = rf"^scenario: {type(given).__name__}; must be an antiphon\.Scenario, a template, a library name or a YAML file$"
    for made in (Simulation, partial(Simulation.resume, whole[0]), partial(Simulation.load, whole[0])):
        with one_line(line, ScenarioError):
            made(given)
    for made in (Simulation.resume, Simulation.load):
        with one_line(r"^no scenario 'digits-mpl'; did you mean 'digits-mlp'\?$", ScenarioError):
            made(whole[0], "digits-mpl")


def test_a_scenario_may_be_given_by_name_or_as_a_template(tmp_path: Path) -> None:
    with Simulation("digits-mlp", logdir=tmp_path / "run") as simulation:
        simulation.run(steps=1)
    for given in ("digits-mlp", load("digits-mlp")):
        Simulation.resume(tmp_path / "run", given).close()
    with one_line(r"scenario: .* was saved", RunError):
        Simulation.resume(tmp_path / "run", "deep-mlp")


def test_a_run_that_diverged_is_not_resumed(tmp_path: Path) -> None:
    scenario = load("digits-mlp").resolve(values={"width": 8, "lr": 1e30, "steps": 20})
    with pytest.raises(DivergenceError), Simulation(scenario, logdir=tmp_path / "run") as simulation:
        simulation.run()
    with pytest.raises(DivergenceError, match="would do so again"):
        Simulation.resume(tmp_path / "run")


# --- stepped by hand --------------------------------------------------------------------------------------


def test_steps_by_hand_leave_what_run_leaves(whole: tuple[Path, Path], tmp_path: Path) -> None:
    torch.manual_seed(5)
    with Simulation(own(), seed=1, logdir=tmp_path / "run", checkpoint_every=10) as simulation:
        for info in (simulation.step() for _ in range(40)):
            assert facts(tmp_path / "run")["exit"] == "running"
            assert facts(tmp_path / "run")["step"] == (info["step"] + 1) // 10 * 10
    assert_same_run(whole[0], tmp_path / "run")


def test_steps_by_hand_that_end_early_have_stopped_with_a_result(tmp_path: Path) -> None:
    with Simulation(own(), logdir=tmp_path / "run") as simulation:
        for _ in (simulation.step() for _ in range(12)):
            pass
    found, directory = facts(tmp_path / "run"), RunDirectory.open(tmp_path / "run")
    assert (found["exit"], found["step"], found["steps"], found["error"]) == ("stopped", 12, 40, None)
    assert names(tmp_path / "run") == ["step-000000000", "step-000000012"]
    assert directory.result is not None
    assert (directory.result["steps"], directory.result["exit"]) == (12, "stopped")
    with Simulation.resume(tmp_path / "run", own()) as simulation:
        simulation.run()
    assert facts(tmp_path / "run")["exit"] == "done"


def test_steps_by_hand_after_a_run_are_of_the_same_run(tmp_path: Path) -> None:
    with Simulation(own(), logdir=tmp_path / "run") as simulation:
        simulation.run()
        assert facts(tmp_path / "run")["exit"] == "done"
        simulation.step()
        assert (facts(tmp_path / "run")["exit"], facts(tmp_path / "run")["finished"]) == ("running", None)
    found = facts(tmp_path / "run")
    assert (found["exit"], found["step"]) == ("done", 41)
    assert names(tmp_path / "run")[-1] == "step-000000041"


def test_a_divergence_by_hand_keeps_what_was_learned(tmp_path: Path) -> None:
    simulation = Simulation(own(), logdir=tmp_path / "run")
    for _ in (simulation.step() for _ in range(4)):
        pass
    with torch.no_grad():
        for parameter in simulation.agents["b"].parameters.values():
            parameter.fill_(float("nan"))
    with pytest.raises(DivergenceError), simulation:
        simulation.step()
    directory = RunDirectory.open(tmp_path / "run")
    assert (directory.facts["exit"], directory.facts["step"]) == ("diverged", 4)
    assert directory.result is not None
    assert directory.result["exit"] == "diverged"
    assert names(tmp_path / "run")[-1] == "step-000000004"


def test_a_simulation_closed_before_its_first_step_leaves_no_result(tmp_path: Path) -> None:
    Simulation(own(), logdir=tmp_path / "run").close()
    assert facts(tmp_path / "run")["exit"] == "stopped"
    assert RunDirectory.open(tmp_path / "run").result is None


# --- refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "line"),
    [
        ({"steps": -3}, r"^run: steps=-3; must be at least 0$"),
        ({"steps": 2.5}, r"^run: steps=2\.5; must be a whole number$"),
        ({"steps": "3"}, r"^run: steps='3'; must be a whole number$"),
        ({"steps": True}, r"^run: steps=True; must be a whole number$"),
        ({"episodes": -1}, r"^run: episodes=-1; must be at least 0$"),
        ({"seconds": -0.5}, r"^run: seconds=-0\.5; must be at least 0$"),
        ({"seconds": "soon"}, r"^run: seconds='soon'; must be a number$"),
        ({"seconds": float("nan")}, r"^run: seconds=nan; must be at least 0$"),
    ],
)
def test_limits_that_cannot_be_are_refused(limits: dict[str, Any], line: str) -> None:
    with Simulation(own()) as simulation:
        with one_line(line, ScenarioError):
            simulation.run(**limits)
        assert simulation.now == 0
        simulation.run(steps=np.int64(2), seconds=np.float32(60))
        assert simulation.now == 2


@pytest.mark.parametrize("act", [Simulation.step, Simulation.run, lambda s: RunLoop([s]).run(1)])
def test_a_closed_simulation_takes_no_step(act: Callable[[Simulation], Any], tmp_path: Path) -> None:
    simulation = Simulation(own(), logdir=tmp_path / "run")
    simulation.run(steps=2)
    before = (tmp_path / "run/run.json").read_bytes()
    simulation.close()
    with one_line(r"^simulation: has been closed, .*make another one, or load a checkpoint$", RunError):
        act(simulation)
    assert simulation.now == 2
    assert (tmp_path / "run/run.json").read_bytes() == before


def test_an_agent_that_is_not_there_is_one_line() -> None:
    with Simulation(own()) as simulation:
        with one_line(r"^agents: no agent 'n9'; known: a, b$", ScenarioError):
            simulation.agents["n9"]
        assert "n9" not in simulation.agents
        assert simulation.agents.get("n9") is None


@pytest.mark.parametrize("every", [0, -1, 2.5, "10", True])
def test_an_interval_that_cannot_be_is_refused(every: Any, tmp_path: Path) -> None:
    with one_line(r"^checkpoint_every: .*; must be a whole number of steps, at least 1$", ScenarioError):
        Simulation(own(), logdir=tmp_path / "run", checkpoint_every=every)
    assert not (tmp_path / "run").exists()


def test_an_interval_without_a_directory_is_refused() -> None:
    with one_line(r"^checkpoint_every: 10 has no effect without a logdir; give one$", ScenarioError):
        Simulation(own(), checkpoint_every=10)
