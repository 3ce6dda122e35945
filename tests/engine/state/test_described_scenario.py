"""Description of a scenario that holds Python objects (`engine/state/described_scenario.py`): a digest of what each holds, and of nothing else."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gymnasium
import pytest
import torch
from torch import nn

from antiphon import load
from antiphon.base.spec import plain
from antiphon.engine.state.described_scenario import described_scenario
from antiphon.envs import from_tensors
from tests.engine.scenes import CLASSIFY, scenario_of


class Settings:
    """A user's object: what it holds in public counts."""

    def __init__(self, rate: float, rows: Any = (), cache: Any = None) -> None:
        self.rate, self.rows, self._cache = rate, rows, cache
        self.own = self  # may be part of itself

    def make(self, **_: Any) -> None: ...


class Tempered(nn.Linear):
    """A module with a setting that its printed form does not show."""

    def __init__(self, temperature: float) -> None:
        super().__init__(3, 2)
        self.temperature = temperature


def factory(inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    return nn.Linear(inputs, outputs, bias)


def other_factory(inputs: int, outputs: int) -> nn.Module:
    return nn.Linear(inputs, outputs)


X = torch.arange(12.0).reshape(4, 3)


def factory_of(width: int) -> Callable[..., nn.Module]:
    def make(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(nn.Linear(inputs, width), nn.Linear(width, outputs))

    return make


ALIKE: list[list[Callable[[], Any]]] = [
    [lambda: X.clone(), lambda: X + 1, lambda: X.double(), lambda: X.reshape(3, 4), lambda: X.T],
    [lambda: X.bfloat16(), lambda: (X + 1).bfloat16()],
    [lambda: X.numpy(), lambda: X.numpy() + 1, lambda: X.numpy().astype("f8")],
    [
        lambda: from_tensors(x=X, label=[0, 1, 1, 0]),
        lambda: from_tensors(x=X, label=[0, 1, 1, 1]),
        lambda: from_tensors(x=X + 1, label=[0, 1, 1, 0]),
        lambda: from_tensors(x=X, label=[0, 1, 1, 0], test=0.5),
        lambda: from_tensors(x=X, label=[0, 1, 1, 0], hold=2),
    ],
    [lambda: Tempered(1.0), lambda: Tempered(2.0), lambda: nn.Linear(3, 2)],
    [lambda: factory, lambda: other_factory, lambda: nn.Linear],
    [lambda: factory_of(8), lambda: factory_of(9)],
    [
        lambda: functools.partial(factory, bias=False),
        lambda: functools.partial(factory, bias=True),
        lambda: functools.partial(other_factory),
    ],
    [
        lambda: Settings(0.5, {"rows": [X, {1, 2}]}, cache=object()),
        lambda: Settings(0.25, {"rows": [X, {1, 2}]}),
        lambda: Settings(0.5, {"rows": [X + 1, {1, 2}]}),
    ],
    [
        lambda: gymnasium.make_vec("CartPole-v1", num_envs=2),
        lambda: gymnasium.make_vec("CartPole-v1", num_envs=3),
    ],
]
"""An object, and others that differ from it."""


def described(value: Any) -> Any:
    found = scenario_of({"a": {"observes": ["image"], "objective": CLASSIFY}})
    return described_scenario(found.model_copy(update={"env": value}))["env"]


@pytest.mark.parametrize("made", ALIKE)
def test_an_object_has_the_digest_of_what_it_holds(made: list[Callable[[], Any]]) -> None:
    make, *others = made
    first = described(make())
    assert first == described(make())
    assert first.keys() == {"python", "digest"}
    assert len(bytes.fromhex(first["digest"])) == 8
    assert all(described(other()) != first for other in others)


def test_a_scenario_without_objects_is_described_as_its_document() -> None:
    scenario = load("digits-mlp").resolve()
    assert described_scenario(scenario) == plain(scenario)
