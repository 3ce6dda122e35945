"""An environment of one's own as a class with options: the same door as the library's."""

from __future__ import annotations

from typing import Any

import gymnasium
import pytest
import torch
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

import antiphon
from antiphon import envs
from antiphon.envs import Description, Signal, registry
from antiphon.errors import ScenarioError
from tests.kit.commands import Commands
from tests.kit.some import some


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


class Count(gymnasium.Env[Any, int]):
    """Counting to a number: a single environment of Gymnasium with options."""

    action_space = Discrete(1)

    class Options(envs.EnvOptions):
        """Options of the count."""

        to: int = Field(3, ge=1)
        """Where it ends."""

    def __init__(self, options: Options) -> None:
        self._to = options.to
        self.observation_space = Discrete(options.to + 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._at = int(self.np_random.integers(self._to))
        return self._at, {}

    def step(self, action: int) -> Any:
        self._at += 1
        return self._at, 1.0, self._at == self._to, False, {}


@pytest.fixture(autouse=True)
def line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line under an id, until the end of a test."""
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    antiphon.environment("my/Line-v0")(Line)


def test_it_keeps_the_contract_and_is_listed() -> None:
    spec = {"id": "my/Line-v0", "length": 4, "limit": 7}
    envs.check_vector_env(lambda: envs.make(spec, batch=3), steps=20)
    assert envs.describe(spec).signals["place"].classes == 4
    assert "my/Line-v0" in envs.ids()
    assert envs.options_of("my/Line-v0").rows() == [
        ("limit", "steps after which an episode is truncated", "100"),
        ("length", "cells of the line", "5"),
    ]
    assert registry.obstacle_to_copies(spec) is None


def test_a_world_without_a_picture_shows_its_numbers() -> None:
    env = envs.make({"id": "my/Line-v0"}, batch=2)
    env.reset(seed=0)
    first, second = env.render() or ()
    assert first.shape == second.shape == (16, 2 * 16, 3)  # the place, and the steps of the episode
    assert (first[:, 16:] == 127).all()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lenght": 4}, "env.lenght: unknown key 'lenght'; did you mean 'length'?"),
        ({"length": 1}, "env.length: must be at least 2, not 1"),
        ({"limit": "long"}, "env.limit: must be a whole number, not the word 'long'"),
    ],
)
def test_its_options_are_checked(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        envs.describe({"id": "my/Line-v0", **options})
    assert str(caught.value) == expected


def test_single_environments_have_options_too() -> None:
    envs.register("my/Count-v0", Count)
    spec = {"id": "my/Count-v0", "to": 8}
    envs.check_vector_env(lambda: envs.make(spec, batch=3), steps=20)
    assert envs.describe(spec).signals["observation"].classes == 9
    assert "makes Gymnasium or PettingZoo environments" in some(registry.obstacle_to_copies(spec))


def test_show_lists_its_options(cli: Commands) -> None:
    cli("show my/Line-v0 --set length=3")
    assert "cells of the line" in cli.out
    assert "one of 3" in cli.out


@pytest.mark.parametrize("batch", [0, -1])
def test_a_batch_that_is_no_number_of_environments_is_refused_as_the_batch(batch: Any) -> None:
    for name in ("antiphon/Hyperplane-v0", "gymnasium/CartPole-v1"):
        with pytest.raises(ScenarioError, match=r"^training\.batch: .*; must be at least 1$"):
            envs.make({"id": name}, batch=batch)


@pytest.mark.parametrize("name", ["antiphon/Hyperplane-v0", "antiphon/CartPole-v0"])
@pytest.mark.parametrize("actions", [torch.zeros(1, dtype=torch.int64), torch.zeros(3, 2)])
def test_actions_that_are_not_one_for_each_environment_are_refused(name: str, actions: Any) -> None:
    env = envs.make({"id": name}, batch=2)
    env.reset(seed=0)
    with pytest.raises(ScenarioError, match=r"^env: (action|actions)(: | are )"):
        env.step(actions)
