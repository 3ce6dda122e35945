"""Policies in somebody else's world: several actors, agents that die, reset steps that are no experience (rules 37, 39, 40).

What a window holds is read where `PolicyObjective` is given it.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.agents.policies import PolicyObjective, Trajectory
from antiphon.scenarios import Scenario
from tests.contracts.twins import agree, made
from tests.envs.adaptors import parallel_worlds

MINES = """\
scenario: mines
env: {pettingzoo: mines_of_a_test, mine: 2, limit: 5}
agents:
  low:
    observes: [low.observation]
    acts: low
    clock: {unroll: 12}
    objective: {kind: a2c}
  high:
    observes: [high.place, high.sign]
    acts: high
    clock: {unroll: 6}
    objective: {kind: ppo, epochs: 2, minibatches: 2, critic: {observes: [state]}}
channels:
  - {from: high, to: low, size: 2, gradient: {kind: linear, context: [high.place]}}
training: {batch: 4, optimiser: {lr: 0.01}}
"""
POLE = """\
scenario: pole
env: {gymnasium: CartPole-v1, max_episode_steps: 7, AUTORESET}
agents:
  player: {observes: [observation], acts: true, clock: {unroll: 24}, objective: {kind: a2c}}
training: {batch: 2}
"""


@pytest.fixture(autouse=True)
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mines_of_a_test", parallel_worlds)


@pytest.fixture
def trajectories(monkeypatch: pytest.MonkeyPatch) -> list[Trajectory]:
    """The trajectories of all windows."""
    found: list[Trajectory] = []
    advantages = PolicyObjective.advantages

    def spy(self: PolicyObjective, trajectory: Trajectory, *args: Any, **settings: Any) -> Any:
        found.append(trajectory)
        return advantages(self, trajectory, *args, **settings)

    monkeypatch.setattr(PolicyObjective, "advantages", spy)
    return found


def test_a_dead_agent_learns_nothing_and_its_death_is_an_end(
    trajectories: list[Trajectory], monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[dict[str, torch.Tensor]] = []
    with (
        made(Scenario.from_yaml(MINES), "cohort", seed=0) as simulation,
        made(Scenario.from_yaml(MINES), "reference", seed=0) as other,
    ):
        env = simulation.world.env
        step = env.step

        def noted(actions: Any = None) -> Any:
            found = step(actions)
            over = {"over": found[2] | found[3]}
            followed.append({**over, **{name: v.clone() for name, v in found[4].items() if ".low" in name}})
            return found

        monkeypatch.setattr(env, "step", noted)
        simulation.run(12)
        low = next(t for t in trajectories if len(t.rewards) == 12)
        other.run(12)
        agree(other, simulation)
    died = torch.stack([each["terminated.low"] for each in followed]) > 0
    alive = torch.stack([each["_reward.low"] for each in followed])
    over = torch.stack([each["over"] for each in followed])
    assert bool((~alive).any())
    assert bool((died & ~over)[:-1].any())
    assert torch.equal(low.terminated, died)
    assert bool(low.unseen[~alive].all())
    assert not bool(low.unseen[:-1][died[:-1]].any())
    assert not bool(low.rewards[~alive].any())


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize("autoreset", ["same_step", "next_step", "disabled"])
def test_a_step_that_only_resets_is_no_experience(
    autoreset: str, backend: str, trajectories: list[Trajectory]
) -> None:
    text = POLE.replace("AUTORESET", f"autoreset: {autoreset}")
    with Simulation(Scenario.from_yaml(text), backend=backend) as simulation:
        simulation.run(steps=24)
    (found,) = trajectories
    steps = 8 if autoreset == "next_step" else 7
    for tick in range(23):
        last, reset = tick % steps == 6, tick % steps == 7
        assert found.truncated[tick].tolist() == [last] * 2
        assert found.unseen[tick].tolist() == [last or reset] * 2
        assert found.rewards[tick].tolist() == [0.0 if reset else 1.0] * 2
