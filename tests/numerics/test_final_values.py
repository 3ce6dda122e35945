"""Values of final observations, which replace what a truncation cuts off (rules 40, 41): recurrent agents, wrappers, teams.

Agents without a state and over channels are held to loops by hand in test_policies.py.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import Env, spaces
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.agents.advantages import Trajectory
from antiphon.agents.policy_gradients import PolicyGradient
from tests.contracts.builders import Document
from tests.contracts.games import Game
from tests.contracts.twins import made
from tests.kit.worlds import ROWS
from tests.numerics.linear import assert_close
from tests.numerics.loops import Hand
from tests.numerics.test_policies import (
    BATCH,
    DEFAULTS,
    TICKS,
    Window,
    chosen,
    entropy,
    follow,
    log_prob,
    loss_of,
    simulation_of,
    world_of,
)
from tests.reference.backend import Chosen, reference


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", [reference, "cohort"])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_actor_values_the_final_observation_from_its_newest_state(
    kind: str, backend: Chosen
) -> None:
    source = Game(share=0.3)
    network: Document = {"kind": kind, "size": 4, "norm": "none"}
    agent: Document = {"observes": ["x"], "acts": True, "network": network, "clock": {"unroll": TICKS}}
    simulation = simulation_of({"m": {**agent, "objective": {"kind": "a2c"}}}, [], source, backend)
    hand = Hand(simulation, "m", kind)
    optimiser = torch.optim.SGD(hand.numbers.values(), lr=0.3, momentum=0.5)
    env, seen = world_of(source)
    state, following = torch.zeros(BATCH, hand.state_size, dtype=torch.float64), Window()
    for w in range(3):
        window, outputs, values = following.following(), list[Tensor](), list[Tensor]()
        state = state.detach()
        for step in range(w * TICKS, (w + 1) * TICKS):
            hidden, state = hand.tick(seen["x"], state)
            outputs.append(hand.head("objective", hidden))
            values.append(hand.head("value", hidden)[:, 0])
            action = chosen(outputs[-1], "m", step)
            seen, reward, terminated, truncated, info = env.step(action + 2)
            last = hand.tick(info.get("final_obs", seen)["x"], state)[0]
            final = hand.head("value", last)[:, 0].detach()
            window.add(action, reward, terminated, truncated, final=final)
            state = torch.where((terminated | truncated).unsqueeze(1), 0.0, state)
        logits, actions = torch.stack(outputs), torch.stack(window.actions)
        judged = window.judged(torch.stack(values).detach(), **DEFAULTS)
        follow(optimiser, loss_of(log_prob(logits, actions), entropy(logits), torch.stack(values), judged))
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], hand.numbers, 1e-9)


# --- how an environment gives its final observations ---------------------------------------------------------


class Count(Env[Any, Any]):
    """An episode of four steps, numbered; it terminates, is truncated, or both."""

    observation_space = spaces.Box(-9, 9, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, ends: str = "truncated") -> None:
        self.ends = ends

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.bit = 0, float(self.np_random.integers(2))
        return self._seen(), {}

    def _seen(self) -> Any:
        return np.array([self.steps, self.bit], np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        over = self.steps == 4
        reward = float(action == self.bit)
        return self._seen(), reward, over and self.ends != "truncated", over and self.ends != "terminated", {}


gymnasium.register("FinalCount-v0", entry_point=Count)


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Trajectory, Tensor]]:
    """The trajectories of all windows, and the values of their ticks."""
    found: list[tuple[Trajectory, Tensor]] = []
    advantages = PolicyGradient.advantages

    def spy(self: PolicyGradient, trajectory: Trajectory, values: Any, **settings: Any) -> Any:
        found.append((trajectory, values))
        return advantages(self, trajectory, values, **settings)

    monkeypatch.setattr(PolicyGradient, "advantages", spy)
    return found


def counting(
    autoreset: str = "same_step", ends: str = "truncated", unroll: int = 10, **keys: Any
) -> Simulation:
    agent = {
        "observes": ["observation"],
        "acts": True,
        "objective": "a2c",
        "clock": {"unroll": unroll},
        **keys,
    }
    env = {"id": ROWS, "name": "FinalCount-v0", "autoreset": autoreset, "ends": ends}
    return made(
        Scenario.model_validate(
            {"scenario": "count", "env": env, "agents": {"p": agent}, "training": {"batch": 3}}
        ),
        "cohort",
    )


@pytest.mark.parametrize("kind", ["mlp", "gru"])
def test_the_value_of_a_final_observation_that_is_shown_is_that_of_its_tick(
    kind: str, judged: list[tuple[Trajectory, Tensor]]
) -> None:
    """A NEXT_STEP environment shows it at its reset step, at which the agent ticks once more before its state is cut."""
    with counting("next_step", network={"kind": kind}) as simulation:
        simulation.run(10)
    ((found, values),) = judged
    assert found.bootstrapped[:, 0].nonzero().flatten().tolist() == [3, 8]
    assert found.final_values is not None
    torch.testing.assert_close(found.final_values[[3, 8]], values[[4, 9]])


@pytest.mark.long
def test_all_ways_of_resetting_lead_to_the_same_parameters() -> None:
    """Reset steps are no experience, so the windows of the third way have other ticks: of it the first episode is compared."""

    def after(autoreset: str, unroll: int, steps: int) -> dict[str, Tensor]:
        with counting(autoreset, unroll=unroll) as simulation:
            simulation.run(steps)
            return {name: p.detach().clone() for name, p in simulation.agents["p"].parameters.items()}

    for name, p in after("same_step", 10, 30).items():
        torch.testing.assert_close(p, after("disabled", 10, 30)[name], rtol=0, atol=0)
    for name, p in after("same_step", 5, 5).items():
        torch.testing.assert_close(p, after("next_step", 5, 5)[name])
