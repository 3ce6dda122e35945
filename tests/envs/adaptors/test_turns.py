"""PettingZoo's turn-based worlds (AEC), taken as they are: turns, legal choices, and credit for what follows the other's move."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import antiphon
from antiphon import Scenario, Simulation
from tests.envs.adaptors.turn_games import Race, SavedRace
from tests.envs.contract import check_vector_env
from tests.kit.worlds import batch_of

made: list[Race] = []


def _race(**options: Any) -> Race:
    made.append(Race(**options))
    return made[-1]


antiphon.envs.register("tests/Race-v0", _race)
antiphon.envs.register("tests/SavedRace-v0", SavedRace)


def race(
    agents: dict[str, Any] | None = None,
    batch: int = 4,
    unroll: int = 8,
    env: dict[str, Any] | None = None,
    **training: Any,
) -> Scenario:
    runner = {
        "observes": ["red.observation"],
        "acts": "red",
        "objective": {"kind": "a2c", "mask": "red.action_mask", "normalise": "none"},
        "clock": {"unroll": unroll},
        "network": {"hidden": [8], "activation": "tanh", "norm": "none"},
    }
    return Scenario(
        scenario="race",
        env={"id": "tests/Race-v0", **(env or {})},
        agents={"runner": runner} if agents is None else agents,
        training={"batch": batch, "optimiser": {"kind": "sgd", "lr": 0.1}, **training},
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize("kind", [Race, SavedRace])
def test_contract(kind: type[Race]) -> None:
    check_vector_env(lambda: batch_of(*(kind(strict=False) for _ in range(3))), steps=30)


def test_a_step_is_one_move_of_the_agent_on_turn_and_an_agent_without_an_actor_moves_legally() -> None:
    worlds = [Race() for _ in range(3)]
    env = batch_of(*worlds)
    obs, info = env.reset(seed=3)
    for _ in range(60):
        turns = torch.stack([info[f"turn.{who}"] for who in ("red", "blue")])
        assert (turns.sum(0) == 1).all()
        assert torch.equal(turns[0] > 0, obs["red.action_mask"].any(1))
        obs, _, terminated, _, info = env.step({"red": obs["red.action_mask"].argmax(1)})
        assert torch.equal(info["terminated.red"] > 0, terminated)
    moves = [len(world.log) for world in worlds]
    assert moves == [60, 60, 60]
    assert {move["action"] for world in worlds for move in world.log if move["agent"] == "blue"} == {
        0,
        1,
        2,
        3,
    }


def test_rewards_of_a_race_sum_to_what_each_has_got() -> None:
    world = Race()
    env = batch_of(world)
    env.reset(seed=1)
    got = {"red": 0.0, "blue": 0.0}
    for _ in range(40):
        _, _, terminated, _, info = env.step()
        got = {who: got[who] + float(info[f"reward.{who}"]) for who in got}
        if terminated:
            break
    cells = {who: sum(move["action"] for move in world.log if move["agent"] == who) for who in got}
    assert got == {"red": cells["red"] - cells["blue"] / 2, "blue": cells["blue"] - cells["red"] / 2}


def _losses(
    parameters: dict[str, Tensor], worlds: list[Race], ticks: int, discount: float, trace: float
) -> Tensor:
    """The loss of red's moves in a window of so many steps, move by move as a loop of one's own has it."""

    def network(shown: dict[str, Any]) -> tuple[Tensor, Tensor]:
        seen = torch.as_tensor(np.concatenate([shown["observation"], shown["action_mask"]])).double()
        hidden = torch.tanh(parameters["0.weight"] @ seen + parameters["0.bias"])
        value = parameters["value.weight"] @ hidden + parameters["value.bias"]
        logits = parameters["objective.weight"] @ hidden + parameters["objective.bias"]
        legal = torch.as_tensor(shown["action_mask"]) > 0
        return torch.distributions.Categorical(logits=logits[legal]), legal, value[0]

    terms = []
    for world in worlds:
        moves, own = world.log[:ticks], []
        for t, move in enumerate(moves):  # one transition for each of its own moves
            if move["agent"] != "red":
                continue
            reward, following, end = float(move["action"]), None, move
            for later in moves[t + 1 :]:
                if end["over"] or end["late"]:
                    break
                if later["agent"] == "red":
                    following = later
                    break
                reward, end = reward - later["action"] / 2, later
            own.append((move, reward, end, following))
        found, advantage = [], None
        for move, reward, end, following in reversed(own):
            ended = end["over"] or end["late"]
            distribution, legal, value = network(move["shown"])
            if advantage is None:  # what follows its last move in the window is not known
                advantage = torch.zeros(())
                continue
            if ended:
                advantage = torch.zeros(())
            after = torch.zeros(())
            if not end["over"]:
                after = network(end["end"]["red"] if end["late"] else following["shown"])[2].detach()
            advantage = reward + discount * after - value.detach() + discount * trace * advantage
            place = int(legal[: move["action"]].sum())
            log_prob = distribution.log_prob(torch.tensor(place))
            error = (value - (advantage + value.detach())) ** 2
            found.append(-log_prob * advantage - 0.01 * distribution.entropy() + 0.5 * error)
        terms += found
    return torch.stack(terms).mean()


@pytest.mark.parametrize("limit", [99, 5])
def test_an_update_is_that_of_a_loop_by_hand(limit: int) -> None:
    made.clear()
    scenario = race(batch=3, unroll=10, env={"limit": limit})
    with Simulation(scenario, seed=5, dtype=torch.float64) as simulation:
        before = {name: p.clone() for name, p in simulation.agents["runner"].parameters.items()}
        simulation.run(steps=10, progress=False)
        after = simulation.agents["runner"].parameters
        leaves = {name: p.detach().requires_grad_() for name, p in before.items()}
        _losses(leaves, [world for world in made if world.log], 10, 0.99, 0.95).backward()
        for name, p in leaves.items():
            torch.testing.assert_close(after[name], (p - 0.1 * p.grad).detach(), rtol=0, atol=1e-15)
        assert simulation.agents["runner"].updates == 1


@pytest.mark.long
def test_runs_are_resumed_to_the_bit_and_both_may_learn(tmp_path: Path) -> None:
    agents = {
        who: {
            "observes": [f"{who}.observation"],
            "acts": who,
            "objective": {"kind": "ppo", "mask": f"{who}.action_mask"},
            "clock": {"unroll": 8},
        }
        for who in ("red", "blue")
    }
    for several in (agents, {"red": agents["red"]}):
        scenario = race(several, env={"id": "tests/SavedRace-v0"})
        with Simulation(scenario) as whole:
            whole.run(steps=24, progress=False)
            wanted = {who: agent.parameters for who, agent in whole.agents.items()}
            assert whole.evaluate(episodes=1).episodes is not None
        with Simulation(scenario) as first:
            first.run(steps=13, progress=False)
            first.save(tmp_path / "half")
        with Simulation.load(tmp_path / "half") as rest:
            rest.run(steps=11, progress=False)
            for who, agent in rest.agents.items():
                assert all(torch.equal(p, wanted[who][name]) for name, p in agent.parameters.items())
