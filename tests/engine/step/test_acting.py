"""Acting agents: what one says is the environment's action, at the steps at which it ticks (semantics 13)."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from tests.engine.scenes import scenario_of


def copying(clock: dict[str, Any] | None = None, *, acts: bool = True) -> Simulation:
    """One that copies, beside another one that looks on; the task never grows."""
    own = {"observes": ["symbol"], "network": {"kind": "lstm", "size": 5}}
    own["objective"] = {"kind": "coding", "target": "target"}
    agents = {"looker": own, "copier": {**own, "acts": acts, "clock": clock or {}}}
    env = {"id": "antiphon/Copy-v0", "bits": 2, "max_length": 3, "threshold": 100}
    scenario = scenario_of(agents, env=env, batch=4, optimiser={"kind": "adam", "lr": 0.01})
    return Simulation(scenario, dtype=torch.float64)


def acted(simulation: Simulation, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[Tensor | None]:
    """What reached the environment at each step."""
    env, found = simulation.world.env, []
    step = env.step

    def noted(actions: Any = None) -> Any:
        found.append(actions)
        return step(actions)

    monkeypatch.setattr(env, "step", noted)
    simulation.run(steps)
    return found


@pytest.mark.parametrize(("period", "phase"), [(1, 0), (2, 1), (3, -1)])
def test_it_acts_when_it_ticks_and_only_then(
    period: int, phase: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with copying({"period": period, "phase": phase, "unroll": 4}) as simulation:
        said: dict[int, Tensor] = {}
        tick = simulation.backend.forward_pass.tick

        def noted(step: int, moment: Any) -> None:
            tick(step, moment)
            tape = simulation._system.group_of["copier"].tape
            said.update({t.step: t.parts[0].ports[OBJECTIVE] for t in tape.ticks if t.step == step})

        monkeypatch.setattr(simulation.backend.forward_pass, "tick", noted)
        found = acted(simulation, 12, monkeypatch)
    assert [action is not None for action in found] == [t % period == phase % period for t in range(12)]
    for step, action in enumerate(found):
        if action is not None:
            assert torch.equal(action, said[step])
            assert not action.requires_grad


def test_who_does_not_act_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    with copying(acts=False) as simulation:
        assert acted(simulation, 9, monkeypatch) == [None] * 9


def test_what_is_done_changes_what_is_shown() -> None:
    """Whatever it says is good enough here, so that tasks grow: with the actor, and not without it."""
    with copying() as simulation, copying(acts=False) as idle:
        for each in (simulation, idle):
            each.run(120)
        assert simulation.world.env.figures()["difficulty"] > 1
        assert idle.world.env.figures()["difficulty"] == 1


class Levers(gymnasium.Env[Any, int]):
    """Two levers of which the light names the one that costs nothing; each pull is an episode."""

    observation_space = spaces.Box(0, 1, (2,))
    action_space: gymnasium.Space[Any] = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self.light = int(self.np_random.integers(2))
        return np.eye(2, dtype=np.float32)[self.light], {}

    def step(self, action: int) -> Any:
        return np.eye(2, dtype=np.float32)[self.light], -10.0 * float(action != self.light), True, False, {}


class Dials(Levers):
    """Two dials to be turned to where the lights are, in two rows."""

    action_space: gymnasium.Space[Any] = spaces.Box(-0.5, 0.5, (2, 1))

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action)
        return super().step(0)


def playing(env: Any, target: str, kind: str = "regression", batch: int = 8, **settings: Any) -> Simulation:
    """One agent that sees the observation and acts, in a vector environment of others."""
    agent = {"observes": ["observation"], "acts": True, "objective": {"kind": kind, "target": target}}
    same = {"autoreset_mode": AutoresetMode.SAME_STEP}
    made = (
        gymnasium.make_vec(env, batch, "sync", same) if isinstance(env, str) else SyncVectorEnv(env, **same)
    )
    return Simulation(scenario_of({"player": agent}, env=made, batch=batch), **settings)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_of_discrete_actions_each_has_an_output(backend: str) -> None:
    """The target has one component and the pole two actions: the size is that of the action space."""
    with playing("CartPole-v1", "reward", backend=backend) as simulation:
        before = simulation._system.agents["player"].learner.parameters["objective.weight"].clone()
        simulation.run(30)
        after = simulation._system.agents["player"].learner.parameters["objective.weight"]
    assert after.shape[0] == 2
    assert not torch.equal(before, after)


def test_the_largest_of_the_estimates_is_the_action_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the light names what costs, no pull goes wrong once the rewards are known."""
    with playing([Levers] * 64, "reward", batch=64) as simulation:
        env, paid = simulation.world.env, []
        step = env.step

        def noted(actions: Any = None) -> Any:
            result = step(actions)
            paid.append(float(result[1].mean()))
            return result

        monkeypatch.setattr(env, "step", noted)
        simulation.run(200)
    assert paid[0] < -1
    assert sum(paid[-20:]) == 0


def test_actions_in_a_box_have_its_shape_and_bounds() -> None:
    with playing([Dials] * 4, "observation", batch=4) as simulation:
        simulation.run(30)
    with playing("Pendulum-v1", "reward", batch=4) as simulation:
        simulation.run(5)


class Bits(Levers):
    """Of which no output is an action."""

    action_space: gymnasium.Space[Any] = spaces.MultiBinary(2)


@pytest.mark.parametrize(
    ("env", "target", "expected"),
    [
        (
            "CartPole-v1",
            "observation",
            "agents.player.acts: the environment has 2 actions, and a regression of 'observation' gives 4 "
            + "outputs; take a target of 2 classes or components, or the regression of one number, such as 'reward'",
        ),
        (
            "Pendulum-v1",
            "observation",
            "agents.player.acts: an action has the shape [1], and a regression of 'observation' gives 3 outputs; "
            + "take a target of 1 component",
        ),
        (
            [Bits] * 8,
            "observation",
            (
                "agents.player.acts: actions of MultiDiscrete([2 2]); learn them by a policy (a2c, ppo, reinforce), or wrap "
                "the environment so that they are Discrete or a Box"
            ),
        ),
    ],
)
def test_what_cannot_be_an_action_is_refused_when_it_is_built(env: Any, target: str, expected: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        playing(env, target)
    assert str(caught.value) == expected
