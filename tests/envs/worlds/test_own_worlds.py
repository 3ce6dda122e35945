"""Worlds of a user's own: what they may return."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

from antiphon import Scenario, Simulation, environment, envs
from antiphon.envs import Description, Signal, registry
from antiphon.errors import RunError, ScenarioError
from antiphon.testing import check
from tests.engine.numbers import one_line
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


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing at the start": (
        {"start": lambda self, uniforms: None},
        r"start returned None; return a dict of tensors \[batch, …\]",
    ),
    "a list": (
        {"start": lambda self, uniforms: {"place": [0, 0, 0]}},
        r"start returned 3 values as 'place'; return a tensor \[3, …\]",
    ),
    "too few rows": (
        {"start": lambda self, uniforms: {"place": torch.zeros(2).long()}},
        r"start returned a tensor \[2\] as 'place'; return a tensor \[3, …\]",
    ),
    "no random numbers": ({"randoms": 0}, "randoms is 0; set randoms, how many uniform numbers start reads"),
    "two of three": (
        {"transition": lambda self, state, actions: (state, ends(self))},
        r"transition returned 2 values; return \(state, rewards, ends\)",
    ),
    "a reward for all": (
        {"transition": lambda self, state, actions: (state, 1.0, ends(self))},
        r"transition returned a float as rewards; return \[3\], one per copy",
    ),
    "no observations": ({"observe": lambda self, state: None}, "observe returned None; return a dict"),
    "an observation of another name": (
        {"observe": lambda self, state: {"plaice": state["place"]}},
        "observe returned 'plaice', and no 'place'; return each signal of describe",
    ),
    "a state of another name": (
        {"transition": lambda self, state, actions: ({"plaice": state["place"]}, torch.zeros(3), ends(self))},
        "transition returned 'plaice', which start does not; return it there too",
    ),
    "no description": (
        {"describe": staticmethod(lambda options: None)},
        "describe returned None; return an antiphon.envs.Description",
    ),
    "no actions": (
        {"describe": staticmethod(lambda options: Description(signals={"place": Signal(classes=5)}))},
        r"describe returned None as action_space; give action_space=Discrete\(n\), or a Dict of these",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_with_class_method_and_fix(mistake: str) -> None:
    own, line = MISTAKES[mistake]
    made = type("Mine", (Line,), own)
    settings = {"num_envs": 3, "options": made.Options()}

    def begin() -> None:
        env = made(**settings)
        env.reset(seed=0)
        env.step()

    with one_line(f"^env: Mine: {line}", ScenarioError):
        begin()


def test_a_check_names_the_line_of_an_error_in_a_world() -> None:
    own = {"transition": lambda self, state, actions: state["plaice"]}
    environment("my/Misread-v0")(type("Misread", (Line,), own))
    with pytest.raises(
        AssertionError, match=r"<lambda> failed at test_own_worlds.py:\d+: KeyError: 'plaice'"
    ):
        check("my/Misread-v0")


def test_an_observation_in_another_form_is_refused() -> None:
    for observe, line in {
        "range": (lambda self, state: {"place": state["place"] + 9}, "outside its 5 classes; fix the"),
        "shape": (
            lambda self, state: {"place": state["place"][:, None]},
            r"is \[3, 1\], but .*; return that",
        ),
    }.values():
        env = type("Mine", (Line,), {"observe": observe})(num_envs=3, options=Line.Options())
        with one_line(f"^env: 'place' .*{line}", RunError):
            env.reset(seed=0)


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Signal(shape=3), r"Signal: shape=3; must be a tuple of whole numbers; write \(3,\)"),  # type: ignore[arg-type]
        (lambda: Signal(classes=0), "Signal: classes=0; must be a whole number, at least 1"),
        (
            lambda: Description(signals={"place": 5}),
            "Description: signals=.*; must be a dict of Signals by name",
        ),  # type: ignore[dict-item]
        (lambda: envs.check_vector_env(Line), "check_vector_env: .*Line.* is no factory; give a function"),  # type: ignore[arg-type]
        (
            lambda: environment(Line),
            r"environment: Line is no name; write @antiphon.environment\('NAME'\) above",
        ),  # type: ignore[arg-type]
    ],
)
def test_what_a_world_is_declared_with_is_refused_in_one_line(make: Any, line: str) -> None:
    with one_line(f"^{line}", ScenarioError):
        make()


def test_the_check_names_a_reward_that_is_not_finite() -> None:
    made = type(
        "Mine", (Line,), {"transition": lambda self, s, a: (s, torch.full((3,), torch.nan), ends(self))}
    )
    with pytest.raises(AssertionError, match=r"^reward has numbers that are not finite$"):
        envs.check_vector_env(lambda: made(num_envs=3, options=made.Options()))


@pytest.mark.parametrize("method", ["transition", "start"])
def test_a_world_that_fails_in_a_run_is_one_line_with_its_step_and_place(method: str) -> None:
    def fail(self: Any, *_: Any) -> Any:
        if method == "start" or self._step > 9:
            raise ValueError("a bug of one's own")
        return getattr(Line, method)(self, *_)

    envs.register("Failing", type("Failing", (Line,), {method: fail}))
    try:
        player = {"observes": ["place"], "acts": True, "objective": "ppo", "clock": {"unroll": 4}}
        scenario = Scenario(scenario="s", env={"id": "Failing"}, agents={"p": player}, training={"batch": 3})
        step = "" if method == "start" else "step 10: "
        line = rf"^{step}env: .*fail failed at test_own_worlds.py:\d+: ValueError: a bug of one's own$"
        with one_line(line, RunError), Simulation(scenario) as simulation:
            simulation.run(steps=20, progress=False)
    finally:
        registry._environments.pop("Failing")
