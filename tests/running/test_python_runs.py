"""Runs begun in Python: killed and resumed to the same bits, with Python objects and templates; stepped by hand; ended by exceptions."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import RunError, Scenario, Simulation, load
from antiphon.envs import from_tensors
from antiphon.running.templates import PythonTemplate, load_python
from tests.contracts.twins import differences
from tests.contracts.twins import facts as facts_of
from tests.engine.numbers import one_line
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.running.left import assert_same_run, checkpoints, ended, facts


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


# --- stepped by hand --------------------------------------------------------------------------------------


def test_steps_by_hand_leave_what_run_leaves(whole: tuple[Path, Path], run: Path) -> None:
    with Simulation(own(), seed=1, logdir=run, checkpoint_every=10) as simulation:
        for _ in range(40):
            now = simulation.step()["step"] + 1
            assert ended(run) == ("running", now // 10 * 10, None)
    assert_same_run(whole[0], run)


# --- ended by exceptions ----------------------------------------------------------------------------------


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (AssertionError(), "failed", "AssertionError"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed", "CUDA out of memory"),
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


@pytest.mark.cases(1)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_a_step_that_an_error_broke_off_a_run_goes_on_from_its_checkpoint_alone(
    error: type[BaseException], tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "an error came within a step, .*load a checkpoint"
    simulation = stepped(Simulation(losing(), logdir=run, checkpoint_every=5), 7)
    with monkeypatch.context() as patch:
        patch.setitem(FAILURE, "now", error)
        with pytest.raises(error, match="in the loss"):
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
    with one_line(r"run: holds another run .scenario: .*hidden: .128. was saved, .9. is given", RunError):
        Simulation.resume(tmp_path / "run", load("digits-mlp").resolve(None, {"width": 9}))


# --- scenarios made by functions -------------------------------------------------------------------------


X = [[0.0, 1.0]] * 10


def build(lr: float = 0.1, *, batch: int = 4, env: Any = None) -> Scenario:
    """A function of parameters, of which one is a Python object."""
    env = env or from_tensors(x=X, label=[0, 1] * 5)
    agents = {"a": {"observes": ["x"], "objective": CLASSIFY}}
    return scenario_of(agents, env=env, batch=batch, optimiser={"kind": "sgd", "lr": lr})


def test_a_function_is_called_with_values_and_its_result_kept() -> None:
    template = PythonTemplate.of(build)
    scenario = template.resolve(None, {"lr": 0.5})
    assert scenario.training.optimiser.lr == 0.5
    assert template.resolve(None, {"lr": 0.5}) is scenario
    assert template.resolve() is not scenario
    words = "A function of parameters, of which one is a Python object."
    assert (template.name, template.description, template.text) == ("build", words, "")
    assert list(template.parameters) == ["lr", "batch", "env"]
    assert template.resolve_values(None, {"batch": 8}) == {"lr": 0.1, "batch": 8, "env": None}
    assert template.resolve_values(None, {"env": scenario.env}) == {"lr": 0.1, "batch": 4}  # plain data alone


# --- MODULE:FUNCTION, and what is refused -----------------------------------------------------------------

MODULE = """
import antiphon

def build(width: int = 8):
    return antiphon.load("digits-mlp").resolve(None, {"width": width, "steps": 4})

build.variants = {"wide": {"width": 16}}
MADE = build()

class Inner:
    make = staticmethod(build)
"""


@pytest.fixture
def module(here: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the working directory."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    (here / "mine_of_test.py").write_text(MODULE)
    yield "mine_of_test"
    del sys.modules["mine_of_test"]


def test_a_function_or_scenario_of_a_module_beside_is_loaded(module: str) -> None:
    template = load_python(f"{module}:build")
    assert template.source == f"{module}:build"
    assert template.resolve("wide") == load("digits-mlp").resolve(None, {"width": 16, "steps": 4})
    assert load_python(f"{module}:Inner.make").resolve() == load_python(f"{module}:MADE").resolve()
