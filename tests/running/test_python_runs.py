"""Runs begun in Python: killed and resumed to the same bits, with Python objects; stepped by hand; ended by exceptions."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import Population, RunError, Scenario, Simulation, load
from antiphon.envs import from_tensors
from tests.contracts.twins import differences
from tests.contracts.twins import facts as facts_of
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.kit.commands import Commands
from tests.running.left import assert_same_run, checkpoints, ended, facts, result, signalled


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
    return scenario_of(agents, channels, env, batch=4, steps=steps, telemetry={"period": 5}, **changes)


def stepped(simulation: Simulation, steps: int) -> Simulation:
    """Take steps by hand."""
    for _ in range(steps):
        simulation.step()
    return simulation


def test_a_handle_that_is_kept_reads_what_is_now() -> None:
    agents = {name: {"observes": ["image"]} for name in "ab"} | {"z": {"objective": CLASSIFY}}
    channels = [{"from": name, "to": "z", "size": 4} for name in "ab"]
    with Simulation(scenario_of(agents, channels)) as simulation:  # alike, a and b are computed as one
        agent, channel = simulation.agents["a"], simulation.channels["a->z"]
        predictor = channel.synthetic_gradient
        assert predictor is not None
        simulation.run(3)
        held, updates = list(channel.messages), (agent.updates, predictor.updates)
        present = simulation.channels["a->z"]
        assert updates[0] == simulation.agents["a"].updates == 3
        assert (present.synthetic_gradient, held) != (None, [])
        assert held == list(present.messages)
        assert 0 < updates[1] == getattr(present.synthetic_gradient, "updates", None)


def at(step: int, error: BaseException) -> Callable[[Simulation], None]:
    """Raise an error at a step."""

    def act(simulation: Simulation) -> None:
        if simulation.now == step:
            raise error

    return act


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
def run(tmp_path: Path) -> Path:
    """The place of a run, whose modules begin as those of `whole` do."""
    torch.manual_seed(5)
    return tmp_path / "run"


# --- a script that is run again ---------------------------------------------------------------------------


@pytest.mark.long
def test_a_script_that_is_run_again_goes_on_to_the_same_bits(whole: tuple[Path, Path], run: Path) -> None:
    for stop in (7, 13, None, None):
        begun = partial(Simulation, own(), seed=1, logdir=run, exist="resume", checkpoint_every=10)
        with suppress(ZeroDivisionError), begun() as simulation:
            simulation.run(callbacks=[at(stop, ZeroDivisionError())] if stop else [])
    assert_same_run(whole[0], run)
    for changes, line in (
        ({"seed": 2}, "seed is 1, not 2"),
        ({"dtype": torch.float64}, "dtype is float32, not float64"),
        ({"backend": "native"}, "backend is cohort, not native"),
        ({"threads": 2}, "threads is 1, not 2"),
        ({"stacked": False}, "stacked is True, not False"),
        ({"seed": 3, "backend": "native"}, "backend is cohort, not native; seed is 1, not 3"),
    ):
        with one_line(f"run: holds another run .{line}.*antiphon resume", RunError):
            Simulation(own(), logdir=run, exist="resume", **{"seed": 1, **changes})
    with one_line(r"scenario: .*network: '<network>' was saved, '<Linear>' is given", RunError):
        Simulation(own(first=nn.Linear(3, 4)), seed=1, logdir=run, exist="resume")


def test_a_script_that_is_run_again_writes_beside_the_run_or_in_its_place(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(3):
        with Simulation(own(), logdir=run) as simulation:
            simulation.run(2)
        (run / "notes.txt").write_text("keep me")
        assert simulation.logdir == (run.with_name(f"run-{number + 1}") if number else run)
    assert capsys.readouterr().err.count("already exists: this run is written to ") == 2
    with Simulation(own(), logdir=run, exist="overwrite") as simulation:
        simulation.run(1)
    assert (result(run)["steps"], checkpoints(run)) == (1, [0, 1])
    assert (run / "notes.txt").read_text() == "keep me"
    (run / "run.json").unlink()
    with one_line("run: already exists and holds no run", RunError):
        Simulation(own(), logdir=run, exist="overwrite")
    assert checkpoints(run) == [0, 1]


# --- interrupted and resumed ------------------------------------------------------------------------------


def test_a_run_of_python_objects_goes_on_to_the_same_bits(whole: tuple[Path, Path], run: Path) -> None:
    crash = 27
    with (
        pytest.raises(ZeroDivisionError),
        Simulation(own(), seed=1, logdir=run, checkpoint_every=10) as simulation,
    ):
        simulation.run(callbacks=[at(crash, ZeroDivisionError("by nought"))])
    assert ended(run) == ("failed", crash, "by nought")
    with Simulation.resume(run, own(), checkpoint_every=10) as simulation:  # modules of other parameters
        assert simulation.now == crash // 10 * 10
        simulation.run()
    assert_same_run(whole[0], run)


def test_the_command_line_goes_on_with_a_python_run_given_its_objects(
    whole: tuple[Path, Path], run: Path, cli: Commands
) -> None:
    stop, begun = signalled(), partial(Simulation, own(), seed=1, logdir=run, checkpoint_every=10)
    with pytest.raises(KeyboardInterrupt, match=r"stopped by SIGINT; .* 13"), begun() as simulation:
        simulation.run(callbacks=[lambda one: stop(one) if one.now == 13 else None])
    assert (ended(run), facts(run)["steps"]) == (("stopped", 13, None), 40)
    assert "scenario holds Python objects" in cli.refused("resume", run)
    cli("resume", run, "--scenario tests.running.test_python_runs:own --checkpoint-every 10")
    assert_same_run(whole[0], run)


PROGRAM = """
import os, signal, sys
from unittest import mock
import torch
from antiphon import Simulation
from tests.running.test_python_runs import own
from tests.kit import seams

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def train(run, stop, begun):
    torch.manual_seed(5)
    scenario, every = own(), {"checkpoint_every": 10}
    simulation = Simulation.resume(run, scenario, **every) if begun else Simulation(scenario, seed=1, logdir=run, **every)
    if stop == "while a checkpoint is written":
        mock.patch(seams.SAVE_CHECKPOINT, die).start()
    with simulation:
        simulation.run(callbacks=[lambda s: die() if s.now == stop else None])

for number, stop in enumerate([3, 20, 27, "while a checkpoint is written", None]):
    child = os.fork()
    if not child:
        train(sys.argv[1], stop, number > 0)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == (0 if stop is None else -signal.SIGKILL), (stop, status)
    print(*sorted(os.listdir(sys.argv[1] + "/checkpoints")), flush=True)
"""


@pytest.mark.long
def test_killed_at_any_time_it_has_lost_at_most_an_interval(whole: tuple[Path, Path], run: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PROGRAM, str(run)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kept = [[name for name in line.split() if name[0] != "."] for line in done.stdout.splitlines()]
    assert [names[-1] for names in kept] == [f"step-{step:09d}" for step in (0, 10, 20, 20, 40)]
    assert_same_run(whole[0], run)
    assert len(list((run / "checkpoints").iterdir())) == 2, "nothing half written is left"


# --- stepped by hand --------------------------------------------------------------------------------------


def test_steps_by_hand_leave_what_run_leaves(whole: tuple[Path, Path], run: Path) -> None:
    with Simulation(own(), seed=1, logdir=run, checkpoint_every=10) as simulation:
        for _ in range(40):
            now = simulation.step()["step"] + 1
            assert ended(run) == ("running", now // 10 * 10, None)
    assert_same_run(whole[0], run)


def test_the_end_of_a_run_is_that_of_its_scenario_after_a_loop_of_fewer_steps(run: Path) -> None:
    with Simulation(own(steps=6), logdir=run) as simulation:
        simulation.run(steps=2)
        assert (simulation.until, ended(run), facts(run)["steps"]) == (6, ("done", 2, None), 2)
        simulation.step()
    assert (ended(run), facts(run)["steps"], checkpoints(run)) == (("stopped", 3, None), 6, [2, 3])


@pytest.mark.long
def test_steps_by_hand_that_end_early_have_stopped_and_go_on(run: Path) -> None:
    with Simulation(own(), logdir=run) as simulation:
        stepped(simulation, 12)
    assert (ended(run), facts(run)["steps"], checkpoints(run)) == (("stopped", 12, None), 40, [0, 12])
    assert (result(run)["steps"], result(run)["exit"]) == (12, "stopped")
    with pytest.raises(ZeroDivisionError), Simulation.resume(run, own()) as simulation:
        simulation.run(steps=43, callbacks=[at(20, ZeroDivisionError())])
    assert facts(run)["steps"] == 55
    with Simulation.resume(run, own()) as simulation:
        simulation.run()  # ends where the interrupted call would have
        assert ended(run) == ("done", 55, None)
        simulation.step()
        assert (facts(run)["exit"], facts(run)["finished"]) == ("running", None)
    assert (ended(run), checkpoints(run)[-1]) == (("done", 56, None), 56)


# --- ended by exceptions ----------------------------------------------------------------------------------


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (AssertionError(), "failed", "AssertionError"),
        (torch.OutOfMemoryError("CUDA out of memory"), "stopped", "CUDA out of memory"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
    ],
)
def test_an_exception_is_noted_with_its_step_and_the_run_goes_on(
    error: BaseException, status: str, reason: str, run: Path
) -> None:
    simulation = Simulation(own(), logdir=run)
    assert ended(run) == ("running", 0, None)
    with pytest.raises(type(error)) as caught:
        simulation.run(callbacks=[at(7, error)])
    assert caught.value is error
    exit, step, line = ended(run)
    assert (exit, step, str(line)[: len(reason)]) == (status, 7, reason)
    assert facts(run)["finished"] is not None
    seen: set[Any] = set()
    simulation.run(steps=2, callbacks=[lambda _: seen.add((*ended(run)[::2], facts(run)["finished"]))])
    assert seen == {("running", None, None)}
    assert ended(run) == ("done", 9, None)
    simulation.close()
    assert ended(run) == ("done", 9, None)


FAILURE: dict[str, type[BaseException]] = {}
"""The error that `failing` raises; empty: it raises none."""


def failing(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the loss of each sample."""
    for error in FAILURE.values():
        raise error("in the loss")
    return nn.functional.cross_entropy(output, target, reduction="none")


def losing() -> Scenario:
    """Two agents, of which the second one's loss may fail, after the first has ticked."""
    agents = {"a": {"observes": ["image"]}, "b": {"objective": {"kind": failing, "target": "label"}}}
    return scenario_of(agents, [{"from": "a", "to": "b", "size": 4}], batch=4)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_a_step_that_an_error_broke_off_a_run_goes_on_from_its_checkpoint_alone(
    error: type[BaseException], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = r"step 8: was broken off by \w+, .*go on from the latest checkpoint"
    simulation = stepped(Simulation(losing(), logdir=run, checkpoint_every=5), 7)
    with monkeypatch.context() as patch:
        patch.setitem(FAILURE, "now", error)
        with pytest.raises((RunError, KeyboardInterrupt), match="in the loss"):
            simulation.step()
    assert simulation.evaluate("test").agents["b"]["error"] > 0
    for goes_on in (
        simulation.step,
        simulation.run,
        simulation.fork,
        lambda: simulation.save(tmp_path / "saved"),
        lambda: simulation.set("b.learning_rate", 0.1),
    ):
        with pytest.raises(RunError, match=line):
            goes_on()
    simulation.close()
    assert (ended(run)[:2], checkpoints(run)) == (("failed", 7), [0, 5])
    with Simulation(losing()) as whole, Simulation.resume(run, losing()) as again:
        whole.run(steps=20)
        again.run(steps=15)
        assert not list(differences(facts_of(whole), facts_of(again), "", 0.0))


@pytest.mark.parametrize("together", [False, True])
def test_a_step_by_hand_is_taken_whole_before_ctrl_c_ends_it(together: bool) -> None:
    """The first one waits for the step's end, after which it goes on; a second one does not."""

    def pressing(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        for _ in range(presses.pop() if presses else 0):
            signal.raise_signal(signal.SIGINT)
        return nn.functional.cross_entropy(output, target, reduction="none")

    presses: list[int] = []
    agents = {"a": {"observes": ["image"]}, "b": {"objective": {"kind": pressing, "target": "label"}}}
    scenario = scenario_of(agents, [{"from": "a", "to": "b", "size": 4}], batch=4)
    with Population(scenario, [0, 1]) if together else Simulation(scenario) as stepping:
        stepping.step()
        presses[:] = [1]
        with pytest.raises(KeyboardInterrupt):
            stepping.step()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        one = stepping.simulations[1] if isinstance(stepping, Population) else stepping
        assert one.now == 2
        stepping.step()
        presses[:] = [2]
        with pytest.raises(KeyboardInterrupt):
            stepping.step()
        with pytest.raises(RunError, match="step 4: was broken off by KeyboardInterrupt"):
            stepping.step()


# --- refused ----------------------------------------------------------------------------------------------

OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"first": nn.Linear(3, 4)}, r"agents\.a\.network: '<network>' was saved, '<Linear>' is given"),
    ({"optimiser": {"kind": "sgd", "lr": 0.5}}, r"training\.optimiser"),
    ({"channel": {"link": {"delay": 1}}}, r"channels\.a->b\.link"),
    ({"steps": 41}, r"training\.steps: 40 was saved, 41 is given"),
]
"""Changes of the scenario, and what is said of them."""


def test_another_scenario_is_not_gone_on_with(whole: tuple[Path, Path], tmp_path: Path) -> None:
    for changes, line in OTHERS:
        with one_line(rf"^{whole[0]}: .*scenario: .*{line}", RunError):
            Simulation.resume(whole[0], own(**changes))
    Simulation.load(whole[1], own()).close()
    for made in (Simulation.resume, Simulation.load):
        with one_line(r"^scenario: must be an antiphon\.Scenario, .*, not int$"):
            made(whole[0], 3)  # type: ignore[arg-type]
    with one_line(r"run.*its scenario holds Python objects; (load it with|give) scenario=", RunError):
        Simulation.resume(whole[0])
    stepped(Simulation("digits-mlp", logdir=tmp_path / "run"), 1).close()
    for given in ("digits-mlp", load("digits-mlp")):
        Simulation.resume(tmp_path / "run", given).close()
    with one_line(r"run: scenario: .*hidden: .128. was saved, .9. is given", RunError):
        Simulation.resume(tmp_path / "run", load("digits-mlp").resolve(None, {"width": 9}))


def test_a_closed_simulation_takes_no_step(run: Path) -> None:
    simulation = stepped(Simulation(own(), logdir=run), 2)
    simulation.close()
    before = (run / "run.json").read_bytes()
    for act in (simulation.step, simulation.run):
        with one_line(r"^simulation: has been closed, .*create a new one, or load a checkpoint$", RunError):
            act()
    assert simulation.now == 2
    assert (run / "run.json").read_bytes() == before
