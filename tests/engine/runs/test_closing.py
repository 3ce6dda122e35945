"""Environments are closed, each once, by whoever made them: also where something goes wrong."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine import base_simulation as simulations
from antiphon.engine.inference import evaluation
from antiphon.engine.probes import ceiling, truth, value
from antiphon.engine.runs import seeds as joint_seeds
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import begin
from antiphon.engine.runs.seeds import MultiSeedRun, Seeds
from antiphon.engine.simulation import Simulation
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv
from antiphon.errors import RunError
from antiphon.scenarios import Scenario, Template

NET = {"kind": "mlp", "hidden": [5], "norm": "none"}
GOAL = {"kind": "classification", "target": "odd"}


class Counted:
    """How often an environment has been closed."""

    def __init__(self, env: TorchVectorEnv) -> None:
        self.closes = 0
        inner = env.close_extras

        def close_extras(**kwargs: Any) -> None:
            self.closes += 1
            inner(**kwargs)

        env.close_extras = close_extras  # type: ignore[method-assign]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Counted]]:
    """The environments made in a test, in order."""
    found: list[Counted] = []
    make = registry.make

    def counting(*args: Any, **kwargs: Any) -> TorchVectorEnv:
        env = make(*args, **kwargs)
        found.append(Counted(env))
        return env

    monkeypatch.setattr(registry, "make", counting)
    yield found
    assert all(env.closes < 2 for env in found)


def document(**training: Any) -> dict[str, Any]:
    return {
        "scenario": "counted",
        "env": {"id": "antiphon/CountDigits-v0", "levels": 2, "window": 3},
        "agents": {
            "a": {"observes": ["image"], "network": NET},
            "b": {"network": NET, "objective": GOAL},
        },
        "channels": [{"from": "a", "to": "b", "size": 4, "norm": "none"}],
        "training": {"batch": 4, "steps": 30, **training},
    }


def scenario(**training: Any) -> Scenario:
    return Scenario.model_validate(document(**training))


def opened(made: list[Counted]) -> int:
    return sum(env.closes == 0 for env in made)


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


LOOKS: dict[str, tuple[Callable[[Simulation], object], Any, str]] = {
    "evaluate": (lambda s: s.evaluate("validation"), evaluation, "EnvironmentRollout"),
    "probe": (lambda s: s.probe(1), truth, "DifferentiableRollout"),
    "figures": (lambda s: next(iter(s.channels.values())).figures(), Simulation, "_advance"),
    "value": (lambda s: s.value(horizon=2, repeats=2, ahead=0), value._Forks, "loss"),
    "ceilings": (lambda s: ceiling.ceilings(s, ahead=0), ceiling, "DifferentiableRollout"),
    "fork": (lambda s: s.fork().close(), simulations, "check_compatible"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_closes_what_it_opens(look: str, made: list[Counted], monkeypatch: pytest.MonkeyPatch) -> None:
    act, place, name = LOOKS[look]
    simulation = Simulation(scenario())
    simulation.run(3)
    act(simulation)
    assert len(made) > 1
    assert opened(made) == 1
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        with pytest.raises(ZeroDivisionError):
            act(simulation)
    assert opened(made) == 1
    simulation.close()
    assert opened(made) == 0


@pytest.mark.parametrize("part", ["build", "EnvironmentRunner"])
def test_a_simulation_that_cannot_be_built_leaves_no_environment(
    part: str, made: list[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulations, part, fail)
    with pytest.raises(ZeroDivisionError):
        Simulation(scenario())
    assert (len(made), opened(made)) == (1, 0)


def test_a_run_directory_that_is_taken_leaves_no_environment(made: list[Counted], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        Simulation(scenario(), logdir=tmp_path)
    assert (len(made), opened(made)) == (1, 0)


def test_a_checkpoint_that_cannot_be_taken_over_leaves_no_environment(
    made: list[Counted], tmp_path: Path
) -> None:
    with Simulation(scenario()) as simulation:
        path = simulation.save(tmp_path / "point")
    with pytest.raises(RunError, match=r"signals\.image"):
        Simulation.load(path, scenario(batch=8))
    assert (len(made), opened(made)) == (2, 0)


def test_a_run_that_cannot_begin_leaves_no_environment(
    made: list[Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antiphon.engine.runs.run.RunDirectory.create", fail)
    with pytest.raises(ZeroDivisionError):
        begin(Request(template=Template.from_yaml(json.dumps(document()))), tmp_path / "run")
    assert (len(made), opened(made)) == (1, 0)


def test_seeds_close_the_environments_of_those_that_left_too(made: list[Counted]) -> None:
    seeds = Seeds(scenario(), [3, 4, 5])
    assert seeds.sequential_reason is None
    seeds.run(2)
    with torch.no_grad():
        for parameter in seeds.simulations[1].agents["b"].parameters.values():
            parameter.fill_(float("nan"))
    seeds.step()
    assert seeds.simulations[1].diverged is not None
    assert len(made) == 4
    seeds.close()
    assert opened(made) == 0


def test_seeds_that_cannot_be_built_leave_no_environment(
    made: list[Counted], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joint_seeds, "ReplicatedEngine", fail)
    with pytest.raises(ZeroDivisionError):
        Seeds(scenario(), [3, 4, 5])
    assert (len(made), opened(made)) == (3, 0)


def test_runs_that_cannot_be_joined_keep_no_simulation_but_the_one_that_runs(
    made: list[Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[weakref.ref[Simulation]] = []
    most = 0
    init = Simulation.__init__

    def counting(self: Simulation, *args: Any, **kwargs: Any) -> None:
        nonlocal most
        alive.append(weakref.ref(self))
        init(self, *args, **kwargs)
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))

    monkeypatch.setattr(Simulation, "__init__", counting)
    requests = [
        Request(template=Template.from_yaml(json.dumps(document(steps=4))), seed=seed, backend="reference")
        for seed in range(3)
    ]
    runs = MultiSeedRun(requests, [tmp_path / str(seed) for seed in range(3)])
    assert runs.sequential_reason is not None
    outcome = runs.train()
    assert outcome.exit_code == 0
    assert most == 1
    assert opened(made) == 0


def test_the_reason_why_runs_cannot_be_joined_is_found_once(made: list[Counted], tmp_path: Path) -> None:
    requests = [
        Request(template=Template.from_yaml(json.dumps(document(steps=4))), seed=seed) for seed in range(3)
    ]
    runs = MultiSeedRun(requests, [tmp_path / str(seed) for seed in range(3)])
    assert runs.sequential_reason is runs.sequential_reason is None
    assert (len(made), opened(made)) == (1, 0)


def test_a_signal_of_an_environment_is_read_without_leaving_it_open(made: list[Counted]) -> None:
    class Source:
        def make(self, **settings: Any) -> TorchVectorEnv:
            return registry.make(document()["env"], **settings)

    assert registry.describe(Source()).signals
    assert opened(made) <= 1
    assert any(env.closes for env in made)
