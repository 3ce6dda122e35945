"""An environment of one's own as a class with options: the same door as the library's."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium.spaces import Discrete
from pydantic import Field
from torch import Tensor

import antiphon
from antiphon import envs
from antiphon.envs import Description, Signal, registry
from antiphon.errors import ScenarioError
from tests.kit.commands import Commands


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
    envs.check_vector_env(lambda: envs.make(spec, batch=3), steps=20)
    assert envs.describe(spec).signals["place"].classes == 4
    assert "my/Line-v0" in envs.ids()
    assert envs.options_of("my/Line-v0").rows() == [
        ("limit", "steps after which an episode is truncated", "100"),
        ("length", "cells of the line", "5"),
    ]
    assert registry.obstacle_to_copies(spec) is None


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


def test_show_lists_its_options(cli: Commands) -> None:
    cli("show my/Line-v0 --set length=3")
    assert "cells of the line" in cli.out
    assert "one of 3" in cli.out
