"""Environments are closed, each once, by whoever made them: also where something goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from antiphon import AntiphonError, Scenario, Simulation
from antiphon.envs import TorchVectorEnv, registry
from tests.kit.running import seeds_together

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


class Made:
    """The environments made in a test.

    Attributes:
        closes: How often each has been closed, in order.
        most: How many have been open at a time.
        healthy: How many are made before those of which some methods fail.
        broken: The names of these methods.
    """

    def __init__(self) -> None:
        self.closes: list[int] = []
        self.most, self.healthy = 0, 0
        self.broken: tuple[str, ...] = ()

    @property
    def open(self) -> int:
        return self.closes.count(0)

    def add(self, env: TorchVectorEnv) -> TorchVectorEnv:
        number, inner = len(self.closes), env.close_extras
        self.closes.append(0)
        self.most = max(self.most, self.open)

        def close_extras(**kwargs: Any) -> None:
            self.closes[number] += 1
            inner(**kwargs)

        env.close_extras = close_extras  # type: ignore[method-assign]
        for name in self.broken if number >= self.healthy else ():
            setattr(env, name, fail)
        return env


def fail(*_: Any, **__: Any) -> Any:
    raise ZeroDivisionError


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    found, make = Made(), registry.make
    monkeypatch.setattr(registry, "make", lambda *args, **kwargs: found.add(make(*args, **kwargs)))
    yield found
    assert max(found.closes, default=0) < 2


def of_another_batch(path: Path) -> object:
    with Simulation(SCENARIO) as simulation:
        simulation.save(path)
    return Simulation.load(path, SCENARIO.with_training(batch=8))


def of_a_broken_network(path: Path) -> object:
    def network(inputs: int, outputs: int) -> nn.Module:
        raise ZeroDivisionError

    agents = {**DOCUMENT["agents"], "a": {"observes": ["image"], "network": network}}
    return Simulation(Scenario.model_validate({**DOCUMENT, "agents": agents}))


FAILURES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], int]] = {
    "network": (of_a_broken_network, (), 1),
    "environment": (lambda path: Simulation(SCENARIO), ("reset",), 1),
    "directory": (
        lambda path: Simulation(SCENARIO, logdir=path.parent, exist="overwrite"),
        (),
        0,
    ),  # it holds something
    "checkpoint": (of_another_batch, (), 2),
    "seeds": (lambda path: seeds_together(SCENARIO, (3, 4, 5)), ("reset",), 3),
}
"""What fails to be made, methods that fail of the last environment, and how many environments it has made by then."""


@pytest.mark.parametrize("failure", FAILURES)
def test_what_cannot_be_made_leaves_no_environment(failure: str, made: Made, tmp_path: Path) -> None:
    act, made.broken, count = FAILURES[failure]
    made.healthy = count - 1
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises((ZeroDivisionError, AntiphonError)):
        act(tmp_path / "run")
    assert (len(made.closes), made.open) == (count, 0)
