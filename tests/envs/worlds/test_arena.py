"""Arenas: who plays whom, ratings, members that are saved, go on alone or cannot meet, and a league that is resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from torch import Tensor

import antiphon
from antiphon.envs import Arena, Description, Signal, World
from tests.kit.commands import Commands

BATCH, LIMIT = 6, 2


@antiphon.environment("test/Race-v0")
class Race(Arena):
    """Who has the larger sum of actions has won; each observes the opponent's sum."""

    @staticmethod
    def describe(options: Arena.Options) -> Description:
        signals = {
            "theirs": Signal(shape=(1,)),
            "reward.runner": Signal(training_only=True, known="after_step"),
        }
        return Description(signals=signals, action_space=Discrete(9), episode_steps=options.limit)

    def start(self, uniforms: Tensor) -> dict[str, Tensor]:
        return {"sum": torch.zeros(self.num_envs, dtype=torch.int64)}

    def transition(self, state: Any, actions: Any) -> Any:
        reached = state["sum"] + actions["action"]
        reward = actions["action"] - actions["action"][self.opponents(state)]
        return {"sum": reached}, reward.to(self.dtype), torch.zeros_like(reward, dtype=torch.bool)

    def observe(self, state: Any) -> dict[str, Tensor]:
        return {"theirs": state["sum"][self.opponents(state)].to(self.dtype).unsqueeze(1)}

    def points(self, state: Any) -> Tensor:
        return state["sum"]


def members(count: int, *, league: bool = True, batch: int = BATCH) -> list[Race]:
    """Members of a league, reset."""
    found = [
        Race(batch, Arena.Options(limit=LIMIT, league=league), dtype=torch.float64) for _ in range(count)
    ]
    for seed, env in enumerate(found):
        env.reset(seed=seed)
    return found


def state(envs: list[Race], name: str) -> Tensor:
    return torch.cat([env.state_dict()["state"][name] for env in envs])


def play(envs: list[Race], strengths: Tensor) -> None:
    """Play the games of an episode, each row with the same action at all steps."""
    for _ in range(LIMIT):
        World.step_all(envs, strengths)


def opponents(envs: list[Race]) -> list[int]:
    offsets = state(envs, "opponent").tolist()
    return [row + offset for row, offset in enumerate(offsets)]


@pytest.mark.parametrize(("count", "batch"), [(4, 6), (4, 5), (3, 6), (3, 5)])
def test_every_row_has_one_opponent_first_of_its_own_batch_and_then_of_all(count: int, batch: int) -> None:
    envs, rows = members(count, batch=batch), range(count * batch)
    found = opponents(envs)
    assert [row // batch for row in found] == [row // batch for row in rows]
    assert sum(found[row] == row for row in rows) == count * (batch % 2), "its mirror image"
    for episode in range(3):
        play(envs, torch.arange(count * batch) % 9)
        before, found = found, opponents(envs)
        assert [found[other] for other in found] == list(rows), episode
        assert sum(found[row] == row for row in rows) == len(rows) % 2
        assert found != before
        own = sum(found[row] // batch == row // batch for row in rows)
        assert own <= (count % 2) * batch, "members meet"


def test_ratings_are_those_of_plain_python_and_their_sum_stays() -> None:
    envs = members(4)
    ratings = [1000.0] * 4
    strengths = torch.tensor([0] * 6 + [2, 3] * 3 + [3, 4] * 3 + [8] * 6)
    for _ in range(12):
        surplus = [0.0] * 4
        for row, other in enumerate(opponents(envs)):
            ahead = int(strengths[row]) - int(strengths[other])
            result = 0.5 if ahead == 0 else float(ahead > 0)
            expected = 1 / (1 + 10 ** ((ratings[other // BATCH] - ratings[row // BATCH]) / 400))
            surplus[row // BATCH] += (result - expected) / BATCH
        play(envs, strengths)
        ratings = [rating + 200 * more for rating, more in zip(ratings, surplus, strict=True)]
        assert [env.metrics()["rating"] for env in envs] == pytest.approx(ratings, rel=1e-12)
        assert state(envs, "rating").view(4, BATCH).std(1).max() == 0
    assert sum(ratings) == pytest.approx(4000, rel=1e-12)
    assert ratings[0] + 200 < min(ratings[1:3]) <= max(ratings[1:3]) < ratings[3] - 200
    assert bool((envs[3].metrics()["won"] | envs[3].metrics()["drawn"]).all())


def test_without_a_league_each_member_plays_itself() -> None:
    envs = members(3, league=False)
    for _ in range(3):
        assert [row // BATCH for row in opponents(envs)] == [row // BATCH for row in range(18)]
        play(envs, torch.arange(18) % 9)
    assert set(state(envs, "rating").tolist()) == {1000.0}
    assert "rating" not in envs[0].metrics()


def test_a_league_that_is_saved_goes_on_with_the_same_bits_and_a_member_alone() -> None:
    envs, again = members(3), members(3)
    play(envs, torch.arange(18) % 9)
    World.step_all(envs, torch.arange(6).repeat(3))
    for env, twin in zip(envs, again, strict=True):
        twin.load_state_dict(env.state_dict())
    alone = members(1)[0]
    alone.load_state_dict(envs[0].state_dict())
    for actions in (torch.arange(6), torch.tensor([4] * 6), torch.arange(6)):
        results = [World.step_all(each, actions.repeat(3)) for each in (envs, again)]
        torch.testing.assert_close(*results, rtol=0, atol=0)
    torch.testing.assert_close(
        *([env.state_dict() for env in each] for each in (envs, again)), rtol=0, atol=0
    )
    offset = alone.state_dict()["state"]["opponent"]
    found = torch.arange(6) + offset
    mirrored = (found < 0) | (found > 5)
    assert mirrored.any()
    rewards = alone.step(torch.arange(6))[1]
    assert rewards[mirrored].eq(0).all()
    assert "won" in alone.metrics()


@pytest.mark.parametrize("staying", [[0, 2], [1, 2], [0, 1, 3]])
def test_where_a_member_leaves_the_others_keep_their_opponents_until_the_episode_ends(
    staying: list[int],
) -> None:
    envs = members(4)
    play(envs, torch.arange(24) % 9)
    met = opponents(envs)
    for place in staying:
        envs[place].go_on_with(staying, place, 4)
    left = [envs[place] for place in staying]
    before = {place * BATCH + row: n * BATCH + row for n, place in enumerate(staying) for row in range(BATCH)}
    assert opponents(left) == [before.get(met[old], new) for old, new in before.items()]
    assert opponents(left) != list(range(len(left) * BATCH))
    play(left, torch.arange(len(left) * BATCH) % 9)
    found = opponents(left)
    assert [found[other] for other in found] == list(range(len(left) * BATCH))


# --- populations -------------------------------------------------------------------------------------------

RACE = """
scenario: race
parameters: {lr: {default: 0.1}, league: {default: true}}
env: {id: test/Race-v0, limit: 2, league: $league}
agents:
  runner: {observes: [theirs], acts: true, clock: {unroll: 2}, objective: {kind: ppo, reward: reward.runner}}
training: {batch: 6, optimiser: {kind: adam, lr: $lr}}
"""
LEAGUE = """
population: mine
scenario: race.yaml
members: 3
steps: 22
vary: {lr: {from: 0.001, to: 0.1, log: true}}
select: {by: rating, every: 8, copy: 0.4}
"""


@pytest.fixture
def file(here: Path) -> Path:
    """The file of a population, beside its scenario's."""
    (here / "race.yaml").write_text(RACE)
    (here / "mine.yaml").write_text(LEAGUE)
    return here / "mine.yaml"


def test_members_meet_and_a_copy_keeps_its_rating(file: Path) -> None:
    scenario = antiphon.load("race.yaml").resolve()
    league = antiphon.Population([scenario] * 3, seeds=range(3))
    league.run(13)
    ratings = [one.world.metrics()["rating"] for one in league.simulations]
    assert len(set(ratings)) > 1
    assert sum(ratings) == pytest.approx(3000)
    league.exploit(0, 1)
    assert [one.world.metrics()["rating"] for one in league.simulations] == ratings
    league.close()


@pytest.mark.nightly
def test_a_league_that_is_killed_is_resumed_to_the_same_bits(here: Path, cli: Commands, file: Path) -> None:
    words = "population mine.yaml --logdir runs --checkpoint-every 6"
    whole = cli.json(f"{words} --name whole")
    shutil.copytree(here / "runs/whole", here / "runs/killed")
    newest = list(here.glob("runs/killed/*/checkpoints/*22"))
    assert len(newest) == 3
    for path in newest:
        shutil.rmtree(path)
    for path in here.glob("runs/killed/*/result.json"):
        path.unlink()
    resumed = cli.json("resume runs/killed")
    scores = [[one["score"] for one in each["members"]] for each in (whole, resumed)]
    assert scores[0] == scores[1]
    assert len(set(scores[0])) > 1
    lineages = [(here / f"runs/{name}/lineage.csv").read_text() for name in ("whole", "killed")]
    assert lineages[0] == lineages[1]
    saved = [antiphon.Simulation.load(here / f"runs/{name}/member-1") for name in ("whole", "killed")]
    for name, agent in saved[0].agents.items():
        for key, value in agent.parameters.items():
            assert torch.equal(value, saved[1].agents[name].parameters[key])
