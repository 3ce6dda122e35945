"""The switch riddle: who is in the room, what telling brings, and what comes after the game."""

import pytest
import torch
from torch import Tensor

from antiphon import envs
from tests.envs.worlds.made import make

NAME, BATCH, DAYS = "antiphon/SwitchRiddle-v0", 200, 6
PRISONERS = [f"prisoner_{number}" for number in range(3)]


def stacked(values: dict[str, Tensor], what: str) -> Tensor:
    return torch.stack([values[f"{name}.{what}"] for name in PRISONERS], 1)


def all_do(choice: Tensor) -> dict[str, Tensor]:
    return dict.fromkeys(PRISONERS, choice)


def test_one_prisoner_at_a_time_is_in_the_room_and_sees_who_sets_the_switch_the_day_before() -> None:
    env = make(NAME, BATCH)
    observations, facts = env.reset(seed=1)
    been, days, switches = torch.zeros(BATCH, 3), [], []
    for day in range(DAYS):
        inside = stacked(observations, "in_room")
        assert inside.sum(1).tolist() == [1.0] * BATCH
        been = been.maximum(inside)
        assert torch.equal(facts["been"], been)
        legal = torch.stack([torch.ones(BATCH, 3), inside], 2)
        assert torch.equal(stacked(observations, "action_mask"), legal)
        days.append(inside)
        switches.append(
            torch.stack([torch.stack([facts[f"switch.{a}.{b}"] for b in PRISONERS], 1) for a in PRISONERS], 1)
        )
        observations, rewards, terminated, truncated, facts = env.step(all_do(torch.zeros(BATCH).long()))
        assert not rewards.any()
        assert terminated.tolist() == [day == DAYS - 1] * BATCH
        assert not truncated.any()
    for day, switch in enumerate(switches):
        tomorrow = days[day + 1] if day + 1 < DAYS else torch.zeros(BATCH, 3)
        assert torch.equal(switch, days[day].unsqueeze(2) * tomorrow.unsqueeze(1))
    chances = torch.stack(days).mean((0, 1))
    assert chances.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)


@pytest.mark.parametrize("told_on", [2, 4])
def test_telling_pays_if_all_have_been_in_the_room_and_ends_the_game(told_on: int) -> None:
    env = make(NAME, BATCH)
    facts = env.reset(seed=2)[1]
    for day in range(DAYS):
        free = facts["been"].all(1)
        tells = all_do(torch.full((BATCH,), int(day == told_on)))
        observations, rewards, _, _, facts = env.step(tells)
        expected = torch.where(free, 1.0, -1.0) if day == told_on else torch.zeros(BATCH)
        assert torch.equal(rewards, expected)
        assert {0.0, 1.0} == set(free.float().tolist()) or day != told_on
        played = facts["_reward.prisoner_1"]
        assert played.tolist() == [day <= told_on] * BATCH
        if told_on <= day < DAYS - 1:
            assert not stacked(observations, "in_room").any()


def test_outside_the_room_nobody_can_tell() -> None:
    env = make(NAME, BATCH)
    observations, _ = env.reset(seed=3)
    for _ in range(DAYS - 1):
        outside = {name: 1 - observations[f"{name}.in_room"].long() for name in PRISONERS}
        observations, rewards, _, _, _ = env.step(outside)
        assert not rewards.any()


def test_games_are_as_long_and_prisoners_as_many_as_asked_for() -> None:
    env = envs.make({"id": NAME, "prisoners": 4, "limit": 10}, batch=2)
    env.reset(seed=0)
    nothing = {f"prisoner_{number}": torch.zeros(2).long() for number in range(4)}
    assert [bool(env.step(nothing)[2].all()) for _ in range(20)] == [day % 10 == 9 for day in range(20)]
