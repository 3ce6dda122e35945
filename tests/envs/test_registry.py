"""From a declaration to an environment: by id, by a class or function of one's own; and one clear line where there is no way."""

from __future__ import annotations

import inspect
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.spaces import Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from pydantic import Field
from torch import Tensor

import antiphon
from antiphon import envs
from antiphon.base.errors import ScenarioError
from antiphon.envs import Description, Signal, registry
from tests.envs.adaptors.parallel_worlds import Mines
from tests.envs.contract import check_vector_env
from tests.kit.commands import Commands

DIGITS = "antiphon/Digits-v0"
COUNT = "antiphon/CountDigits-v0"
COPY = "antiphon/Copy-v0"
TEXT = "antiphon/CharText-v0"
WINDOWS, GAME = "antiphon/TextWindows-v0", "antiphon/Referential-v0"


def test_make_takes_a_mapping_or_an_object() -> None:
    by_mapping = envs.make({"id": DIGITS, "hold": 2}, batch=3, dtype=torch.float64, split="test")
    by_object = envs.make(SimpleNamespace(id=DIGITS, kwargs={"hold": 2}), batch=3, split="test")
    for env in (by_mapping, by_object):
        assert (env.num_envs, env.hold, env.split) == (3, 2, "test")  # type: ignore[attr-defined]
    assert by_mapping.reset(seed=0)[0]["image"].dtype == torch.float64


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"id": "antiphon/Digit-v0"}, ".id: no environment 'antiphon/Digit-v0'; did you mean"),
        ({"id": "os:system"}, ".id: no environment 'os:system'"),
        ({"hold": 2}, ".id: is missing"),
        ({"id": "CartPole-v1"}, ".id: no environment 'CartPole-v1'; did you mean 'gymnasium/CartPole-v1'?"),
        ({"id": DIGITS, "holds": 2}, ".holds: unknown key 'holds'; did you mean 'hold'?"),
        ({"id": DIGITS, "data": "mnits"}, ".data: unknown data 'mnits'; did you mean 'mnist'?"),
        ({"id": DIGITS, "patches": 4, "patch_size": 9}, ".patch_size: 9; must be a whole number from 1 to 8"),
        ({"id": DIGITS, "patch_size": 3}, ".patch_size: 3, but patches is not set; set patches"),
        ({"id": COUNT, "data": "cifar10"}, ".data: unknown data 'cifar10'; known: digits, mnist"),
        ({"id": COUNT, "window": 65}, ".window: 65; 2 levels would count over 4225 digits, at most 4096"),
        ({"id": COPY, "length": 25}, ".length: 25; must be a whole number from 1 to 24"),
        ({"id": COPY, "threshold": float("nan")}, ".threshold: must be a finite number, not nan"),
        ({"id": COPY, "repeat": 2}, ".repeat: unknown key 'repeat'; did you mean 'repeats'?"),
        ({"id": COPY, "length": 5, "repeats": 5}, ".repeats: 5 times length 5 exceeds max_length 24; "),
        ({"id": TEXT, "text": 3}, ".text: must be text, not 3"),
        (
            {"id": GAME, "candidates": 11, "concept": True},
            ".candidates: 11; must be a whole number from 2 to",
        ),
        ({"id": GAME, "concept": "yes"}, ".concept: must be true or false, not the word 'yes'"),
        (42, ": int makes no environments; pass an id"),
    ],
)
def test_what_cannot_be_made_says_why(spec: Any, expected: str) -> None:
    for call in (lambda: envs.make(spec, batch=2), lambda: envs.describe(spec)):
        with pytest.raises(ScenarioError) as caught:
            call()
        assert str(caught.value).startswith(f"env{expected}")
        assert "\n" not in str(caught.value)


# --- environments of one's own by name -------------------------------------------------------------------


@pytest.fixture(autouse=True)
def own_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is gone after it."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))


class Walk(gymnasium.Env[Any, int]):
    """A random walk along a line of some length."""

    action_space: gymnasium.Space[Any] = spaces.Discrete(2)

    def __init__(self, size: int = 3) -> None:
        self.size = size
        self.observation_space = spaces.Box(-size, size, (1,))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: int) -> Any:
        self.at += int(self.np_random.integers(-1, 2)) if action else 1
        return np.full(1, self.at, np.float32), float(action), abs(self.at) >= self.size, False, {}


def walks(num_envs: int, size: int = 3) -> SyncVectorEnv:
    return SyncVectorEnv([lambda: Walk(size)] * num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def source(size: int = 20) -> envs.Source:
    return envs.from_tensors(x=torch.arange(size * 2.0).reshape(size, 2), label=torch.arange(size) % 2)


FACTORIES: dict[str, Any] = {
    "class of one": Walk,
    "function of one": lambda size=3: Walk(size),
    "vector": walks,
    "source": source,
    "gymnasium's": lambda: gymnasium.make("CartPole-v1"),
    "parallel": lambda limit=4: Mines(limit=limit),
}


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_of_any_kind_keeps_the_contract(name: str) -> None:
    envs.register(name, FACTORIES[name])
    assert name in envs.ids()
    spec = {"id": name}
    check_vector_env(lambda: envs.make(spec, batch=3))
    description = envs.describe(spec)
    with closing(envs.make(spec, batch=5)) as env:
        assert (env.num_envs, env.description) == (5, description)
    if "size" in inspect.signature(FACTORIES[name]).parameters and name != "source":
        assert envs.describe({"id": name, "size": 7}).signals["observation"].high == 7


# --- a class with options --------------------------------------------------------------------------------


class Line(envs.World):
    """A walk along a line to its end."""

    randoms = 1

    class Options(envs.World.Options):
        """Options of the line."""

        length: int = Field(5, ge=2, le=9)
        """Cells of the line."""

    @staticmethod
    def describe(options: Any) -> Description:
        """Return the signal and the action space."""
        place = Signal(classes=options.length)
        return Description(signals={"place": place}, example_counts={}, action_space=Discrete(2))

    def __init__(self, num_envs: int, options: Options, **settings: Any) -> None:
        super().__init__(num_envs, options, **settings)
        self._end = options.length - 1

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        """Return random places."""
        return {"place": (uniforms[:, 0] * self._end).long()}

    def transition(
        self, state: dict[str, Tensor], actions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        """Go a step."""
        place = (state["place"] + 2 * actions["action"] - 1).clamp(min=0)
        return {"place": place}, (place == self._end).to(self.dtype), place == self._end

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the place."""
        return {"place": state["place"]}


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line under an id, until the end of a test."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    antiphon.environment("my/Line-v0")(Line)


def test_it_keeps_the_contract_and_is_listed() -> None:
    spec = {"id": "my/Line-v0", "length": 4, "limit": 7}
    check_vector_env(lambda: envs.make(spec, batch=3), steps=20)
    assert envs.describe(spec).signals["place"].classes == 4
    assert "my/Line-v0" in envs.ids()
    assert envs.options_of("my/Line-v0").rows() == [
        ("limit", "steps after which an episode is truncated", "100"),
        ("length", "cells of the line", "5"),
    ]
    assert registry.obstacle_to_copies(spec) is None


def test_show_lists_its_options(cli: Commands) -> None:
    cli("show env my/Line-v0 --set length=3")
    assert "cells of the line" in cli.out
    assert "one of 3" in cli.out
