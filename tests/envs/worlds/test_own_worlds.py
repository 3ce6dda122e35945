"""Worlds of a user's own: what they may return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon import Scenario, Simulation, envs
from antiphon.envs import Description, Signal, registry
from tests.kit.tiers import sampled


class Places(envs.World):
    """Points; an action earns its number. What it returns has the types of `made`."""

    randoms = 3
    made: ClassVar[dict[str, Any]] = {}

    @staticmethod
    def describe(options: Any) -> Description:
        signals = {
            "place": Signal(shape=(3,)),
            "corner": Signal(classes=2),
            "late": Signal(training_only=True, known="after_step"),
        }
        return Description(signals=signals, action_space=Discrete(2))

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        return {"place": uniforms}

    def transition(
        self, state: dict[str, Tensor], actions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        reward, ends = actions["action"], state["place"][:, 0] > 0.8
        return {}, self.made["reward"](reward), self.made["ends"](ends)

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        place = self.made["place"](state["place"])
        return {"place": place, "corner": self.made["corner"](state["place"][:, 0] > 0.5)}

    def outcomes(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"late": self.made["late"](state["place"][:, 1])}


PLAIN: dict[str, Any] = {
    "place": Tensor.float,
    "corner": Tensor.long,
    "reward": Tensor.float,
    "ends": Tensor.bool,
    "late": Tensor.float,
}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    envs.register("Places", Places)
    yield
    registry._environments.pop("Places")


def parameters(gradient: Any, **made: Any) -> dict[str, Tensor]:
    Places.made = PLAIN | made
    eye = {"observes": ["place", "corner"], "clock": {"unroll": 4}}
    critic = {"observes": ["place"]}
    hand = {"acts": True, "objective": {"kind": "ppo", "critic": critic}, "clock": {"unroll": 4}}
    late = {"observes": ["place"], "objective": {"kind": "regression", "target": "late"}}
    scenario = Scenario(
        scenario="s",
        env={"id": "Places", "limit": 5},
        agents={"eye": eye, "hand": hand, "late": late},
        channels=[{"from": "eye", "to": "hand", "size": 4, "gradient": gradient}],
        training={"batch": 8, "steps": 12},
    )
    with Simulation(scenario) as simulation:
        simulation.run(progress=False)
        return {
            f"{name}.{key}": value
            for name, agent in simulation.agents.items()
            for key, value in agent.parameters.items()
        }


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "made",
    [
        {"place": Tensor.double},
        {"reward": Tensor.double},
        {"reward": Tensor.long},
        {"corner": Tensor.int},
        {"corner": Tensor.bool},
        {"ends": Tensor.float},
        {"late": Tensor.double},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "gradient", sampled(["linear", {"kind": "local", "target": "place"}], 2), ids=["linear", "local"]
)
def test_a_world_computes_in_any_type(gradient: Any, made: dict[str, Any]) -> None:
    """The run is bit-identical to the run of a world that returns the types of the signals."""
    left, right = parameters(gradient), parameters(gradient, **made)
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


class Line(envs.World):
    """A place on a line; a method may be one of a mistake."""

    randoms = 1

    @staticmethod
    def describe(options: Any) -> Any:
        return Description(signals={"place": Signal(classes=5)}, action_space=Discrete(2))

    def start(self, uniforms: Tensor) -> Any:
        return {"place": (uniforms[:, 0] * 4).long()}

    def transition(self, state: Any, actions: Any) -> Any:
        place = (state["place"] + 2 * actions["action"] - 1).clamp(0, 4)
        return {"place": place}, torch.zeros(self.num_envs), place == 4

    def observe(self, state: Any) -> Any:
        return {"place": state["place"]}


def ends(world: Any) -> Tensor:
    return torch.zeros(world.num_envs, dtype=torch.bool)


@pytest.mark.parametrize("method", ["transition", "start"])
def test_a_world_that_fails_in_a_run_raises_its_own_error_with_its_step_and_place(method: str) -> None:
    def fail(self: Any, *_: Any) -> Any:
        if method == "start" or self._step > 9:
            raise ValueError("a bug of one's own")
        return getattr(Line, method)(self, *_)

    made = type("Failing", (Line,), {method: fail})
    player = {"observes": ["place"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
    scenario = Scenario(
        scenario="s",
        env=lambda num_envs: made(num_envs=num_envs, options=made.Options()),
        agents={"p": player},
        training={"batch": 3},
    )

    def run() -> None:
        with Simulation(scenario) as simulation:
            simulation.run(steps=20, progress=False)

    with pytest.raises(ValueError, match="a bug of one's own") as caught:
        run()
    place = "reset of environment Failing" if method == "start" else "step 10, environment Failing"
    assert f"antiphon: {place}" in caught.value.__notes__
