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
from antiphon.errors import RunError, ScenarioError
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


@pytest.mark.parametrize("name", ["reward", "ends"])
def test_outcomes_of_another_shape_are_refused(name: str) -> None:
    words = {"reward": "rewards", "ends": "ends"}[name]
    shape = rf"^env: Places: transition returned {words} \[8, 1\]; return \[8\], one per copy$"
    with pytest.raises(ScenarioError, match=shape):
        parameters("linear", **{name: lambda value: PLAIN[name](value).unsqueeze(1)})


class Writing(envs.World):
    """One whose transition writes to what others read: `where`."""

    where = ""
    paid = torch.zeros(2)

    @staticmethod
    def describe(options: Any) -> Description:
        return Description(signals={"place": Signal(shape=(1,))}, action_space=Discrete(2))

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        return {"place": self.paid.new_zeros(2, 1)}

    def transition(
        self, state: dict[str, Tensor], actions: dict[str, Tensor]
    ) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        if self.where == "place":
            state["place"].add_(1)
        if self.where == "action":
            actions["action"].mul_(0)
        reward = self.paid.add_(1) if self.where == "reward" else self.paid + 1
        return {"place": state["place"] + 1}, reward, torch.zeros(2, dtype=torch.bool)

    def observe(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return state


def test_a_world_is_stepped_in_inference_mode() -> None:
    """Tensors have no versions there."""
    with torch.inference_mode():
        world = Writing(2, Writing.Options())
        world.reset(seed=0)
        observations, *_ = world.step(torch.ones(2, dtype=torch.int64))
    torch.testing.assert_close(observations["place"], torch.ones(2, 1))


@pytest.mark.parametrize("where", ["place", "action", "reward"])
def test_a_transition_that_writes_to_what_others_read_is_refused(where: str) -> None:
    world = Writing(2, Writing.Options())
    world.where = where
    world.reset(seed=0)
    line = rf"^env: Writing: transition changes '{where}' in place, which others read; return a new tensor$"

    def steps() -> None:
        for _ in range(2):
            world.step(torch.ones(2, dtype=torch.int64))

    with pytest.raises(ScenarioError, match=line):
        steps()


@pytest.mark.parametrize("name", ["reward", "place", "late"])
def test_complex_numbers_are_refused(name: str) -> None:
    """A type of real numbers would keep their real part alone."""
    with pytest.raises(RunError, match=rf"^env: '{name}' has complex numbers; return real ones$"):
        parameters("linear", **{name: lambda value: PLAIN[name](value) * 1j})
