"""Environments are closed, each once, by whoever made them: also where something goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from antiphon import RunError, Scenario, Simulation, Template
from antiphon.engine import base_simulation as simulations
from antiphon.engine.inference import evaluation
from antiphon.engine.probes import ceiling, truth, value
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import begin
from antiphon.engine.runs.seeds import MultiSeedRun, Seeds
from antiphon.envs import registry
from antiphon.envs.base import TorchVectorEnv
from tests.engine.runs.test_seeds import spoil

NET = {"kind": "mlp", "hidden": [5], "norm": "none"}
GOAL = {"kind": "classification", "target": "odd"}
DOCUMENT: dict[str, Any] = {
    "scenario": "counted",
    "env": {"id": "antiphon/CountDigits-v0", "levels": 2, "window": 3},
    "agents": {"a": {"observes": ["image"], "network": NET}, "b": {"network": NET, "objective": GOAL}},
    "channels": [{"from": "a", "to": "b", "size": 4, "norm": "none"}],
    "training": {"batch": 4, "steps": 4},
}
SCENARIO = Scenario.model_validate(DOCUMENT)


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
    simulation = Simulation(SCENARIO)
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


def requests(count: int, **settings: Any) -> list[Request]:
    template = Template.from_yaml(json.dumps(DOCUMENT))
    return [Request(template=template, seed=seed, **settings) for seed in range(count)]


def of_another_batch(path: Path) -> object:
    with Simulation(SCENARIO) as simulation:
        simulation.save(path)
    return Simulation.load(path, SCENARIO.with_training(batch=8))


FAILURES: dict[str, tuple[Callable[[Path], object], str | None, int]] = {
    "build": (lambda path: Simulation(SCENARIO), "base_simulation.build", 1),
    "runner": (lambda path: Simulation(SCENARIO), "base_simulation.EnvironmentRunner", 1),
    "directory": (lambda path: Simulation(SCENARIO, logdir=path.parent), None, 1),  # it holds something
    "checkpoint": (of_another_batch, None, 2),
    "begin": (lambda path: begin(requests(1)[0], path), "runs.run.RunDirectory.create", 1),
    "seeds": (lambda path: Seeds(SCENARIO, [3, 4, 5]), "runs.seeds.ReplicatedEngine", 3),
}
"""What fails to be made, where in the engine, and how many environments it has made by then."""


@pytest.mark.parametrize("failure", FAILURES)
def test_what_cannot_be_made_leaves_no_environment(
    failure: str, made: list[Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, place, count = FAILURES[failure]
    (tmp_path / "thesis.txt").write_text("x")
    if place is not None:
        monkeypatch.setattr(f"antiphon.engine.{place}", fail)
    with pytest.raises((ZeroDivisionError, RunError)):
        act(tmp_path / "run")
    assert (len(made), opened(made)) == (count, 0)


def test_seeds_close_the_environments_of_those_that_left_too(made: list[Counted]) -> None:
    seeds = Seeds(SCENARIO, [3, 4, 5])
    seeds.run(2)
    spoil(seeds.simulations[1])
    seeds.step()
    assert seeds.simulations[1].diverged is not None
    assert len(made) == 4
    seeds.close()
    assert opened(made) == 0


def test_runs_that_cannot_be_joined_are_built_one_after_the_other(
    made: list[Counted], tmp_path: Path
) -> None:
    """And why they cannot be is found once."""
    open_ones: set[int] = set()
    runs = MultiSeedRun(requests(2, backend="reference"), [tmp_path / str(seed) for seed in range(2)])
    assert runs.sequential_reason is not None
    assert runs.train(lambda *_: open_ones.add(opened(made))).exit_code == 0
    assert (open_ones, opened(made)) == ({1}, 0)
    before = len(made)
    runs = MultiSeedRun(requests(2), [tmp_path / f"joint-{seed}" for seed in range(2)])
    assert runs.sequential_reason is runs.sequential_reason is None
    assert (len(made), opened(made)) == (before + 1, 0)
