"""Capture the flag: small cases, both sides of a game and a plain game in Python, metrics, and teams that learn."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation, envs
from tests.contracts.library import resolved
from tests.envs.worlds.made import make

FLAG = "antiphon/CaptureFlag-v0"
PLAYERS = ("player0", "player1")
EVENTS = ("reward", "capture", "pickup", "tag", "tagged")
SEATS = [(row, player) for row in (0, 1) for player in PLAYERS]
RED0, RED1, BLUE0, BLUE1 = SEATS
STAY, AHEAD, BACK, DOWN, UP = range(5)
CORNERS = {RED0: (0, 0), RED1: (0, 6), BLUE0: (0, 0), BLUE1: (0, 6)}
Seat = tuple[int, str]
"""Row and player."""


def placed(places: dict[Seat, tuple[int, int]], carries: tuple[Seat, ...] = (), games: int = 1) -> envs.World:
    """Copies of a game between rows 0 and 1 (2 and 3, …), with players in these cells, the others in corners."""
    env = make(FLAG, 2 * games)
    env.reset(seed=0)
    state = env.state_dict()
    place = torch.tensor([(CORNERS | places)[seat] for seat in SEATS]).view(2, 2, 2)
    carrying = torch.tensor([seat in carries for seat in SEATS]).view(2, 2)
    changed = {"place": place.repeat(games, 1, 1), "carries": carrying.repeat(games, 1)}
    changed["opponent"] = torch.tensor([1, -1]).repeat(games)
    env.load_state_dict({**state, "state": {**state["state"], **changed}})
    return env


def act(env: envs.World, moves: dict[Seat, int] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take a step in which the players without a move stay; return observations and info."""
    found = {p: torch.tensor([(moves or {}).get((row, p), STAY) for row in (0, 1)]) for p in PLAYERS}
    obs, reward, _, _, info = env.step({p: own.repeat(env.num_envs // 2) for p, own in found.items()})
    assert torch.equal(reward, info["reward.player0"])
    return obs, info


def happened(info: dict[str, Any]) -> dict[str, list[Seat]]:
    """By signal of the step, who has it in the first game; rewards of captures are left out."""
    found = {e: [(row, p) for row, p in SEATS if info[f"{e}.{p}"][row]] for e in EVENTS[1:]}
    return {event: seats for event, seats in found.items() if seats}


def place(obs: dict[str, Tensor], seat: Seat) -> tuple[int, int]:
    """The cell in which a player sees itself."""
    column, row = ((obs[seat[1]][seat[0], :2] + 1) * 3).tolist()
    return round(column), round(row)


def carriers(obs: dict[str, Tensor]) -> list[Seat]:
    return [(row, player) for row, player in SEATS if obs[player][row, 8]]


def test_team_mates_never_carry_at_once_and_precedence_is_random() -> None:
    env = placed({RED0: (5, 3), RED1: (6, 2), BLUE0: (6, 4), BLUE1: (5, 3)}, games=64)
    _, info = act(env, {RED0: AHEAD, RED1: DOWN, BLUE0: UP, BLUE1: AHEAD})
    assert torch.equal(info["pickup.player0"] + info["pickup.player1"], torch.ones(128))
    assert 32 < info["pickup.player0"].sum() < 96
    obs, info = act(env)
    assert happened(info) == {}, "the flag is away"
    assert len(carriers(obs)) == 2


# --- a plain game --------------------------------------------------------------------------------------------


@dataclass
class Team:
    """One team of the plain game; cells in the columns of the field, which begin at red's wall."""

    home: int
    """Column of its wall."""
    cells: list[tuple[int, int]]
    first: int
    """The player with precedence."""
    carrier: int | None = None
    captures: int = 0
    events: dict[str, list[float]] = field(default_factory=dict)


def play(teams: list[Team], size: int, moves: list[list[int]]) -> None:
    """Take one step of the plain game."""
    middle = size // 2
    for team, chosen in zip(teams, moves, strict=True):
        ahead = 1 if team.home == 0 else -1
        changes = [(0, 0), (ahead, 0), (-ahead, 0), (0, 1), (0, -1)]
        stepped = [
            (x + changes[m][0], y + changes[m][1]) for (x, y), m in zip(team.cells, chosen, strict=True)
        ]
        inside = [0 <= x < size and 0 <= y < size for x, y in stepped]
        team.cells = [
            new if fits else old for new, old, fits in zip(stepped, team.cells, inside, strict=True)
        ]
        team.events = {event: [0.0, 0.0] for event in EVENTS}
    caught = []
    for team, other in (teams, teams[::-1]):
        for player, cell in enumerate(team.cells):
            if abs(cell[0] - other.home) * 2 < size - 1:  # in the opponents' half
                for opponent in (n for n in (0, 1) if other.cells[n] == cell):
                    other.events["tag"][opponent] = team.events["tagged"][player] = 1.0
                    caught.append((team, player))
    for team, player in caught:
        team.cells[player] = (team.home, middle)
        team.carrier = None if team.carrier == player else team.carrier
    gained = [0, 0]
    for number, (team, other) in enumerate((teams, teams[::-1])):
        for player in (team.first, 1 - team.first):
            if team.carrier is None and team.cells[player] == (other.home, middle):
                team.carrier = player
                team.events["pickup"][player] = 1.0
        if team.carrier is not None and team.cells[team.carrier] == (team.home, middle):
            team.events["capture"][team.carrier] = 1.0
            team.captures, gained[number], team.carrier = team.captures + 1, 1, None
    for number, team in enumerate(teams):
        team.events["reward"] = [float(gained[number] - gained[1 - number])] * 2


def seen(teams: list[Team], size: int, player: int) -> list[float]:
    """What a player of the first team observes, but for the time that is left."""
    team, other = teams
    order = [(team, player), (team, 1 - player), (other, 0), (other, 1)]
    cells = [one.cells[n] for one, n in order]
    scaled = [(abs(x - team.home) * 2 / (size - 1) - 1, y * 2 / (size - 1) - 1) for x, y in cells]
    return [*(number for cell in scaled for number in cell), *(float(one.carrier == n) for one, n in order)]


@pytest.mark.cases(1)
@pytest.mark.parametrize("size", [7, 8])
def test_games_are_those_of_plain_python_and_both_sides_agree(size: int) -> None:
    """Players mostly go to the opponents' flag, or back with it, so that all happens."""
    env = make(FLAG, 12, torch.float64, size=size, limit=60)
    obs, _ = env.reset(seed=3)
    state = env.state_dict()["state"]
    partner = (torch.arange(12) + state["opponent"]).tolist()
    assert [partner[row] for row in partner] == list(range(12))
    draw, counts = random.Random(0), dict.fromkeys(EVENTS, 0.0)
    games: dict[int, list[Team]] = {}
    for red, blue in ((row, partner[row]) for row in range(12) if row < partner[row]):
        sides = [(red, 0), (blue, size - 1)]
        games[red] = [
            Team(
                home, [(home, y) for _, y in state["place"][row].tolist()], int(not state["precedes"][row, 0])
            )
            for row, home in sides
        ]
    for step in range(60):
        moves = torch.zeros(12, 2, dtype=torch.int64)
        for red, teams in games.items():
            for number, row in enumerate((red, partner[red])):
                team = teams[number]
                for player, (_, y) in enumerate(team.cells):
                    goal = BACK if team.carrier == player else AHEAD
                    off = DOWN if y < size // 2 else UP
                    moves[row, player] = draw.choice(
                        [goal, goal, off if y != size // 2 else goal, draw.randrange(5)]
                    )
            play(teams, size, [moves[red].tolist(), moves[partner[red]].tolist()])
        obs, reward, _, _, info = env.step(dict(zip(PLAYERS, moves.T, strict=True)))
        obs = info.get("final_obs", obs)
        for red, teams in games.items():
            for row, sides in ((red, teams), (partner[red], teams[::-1])):
                for player, name in enumerate(PLAYERS):
                    expected = [*seen(sides, size, player), 1 - (step + 1) / 60]
                    assert obs[name][row].tolist() == pytest.approx(expected, abs=1e-12)
                    assert {e: info[f"{e}.{name}"][row].item() for e in EVENTS} == {
                        e: sides[0].events[e][player] for e in EVENTS
                    }
                    counts = {e: counts[e] + abs(sides[0].events[e][player]) for e in EVENTS}
        assert torch.equal(reward, -reward[partner])
    results = [
        (teams[0].captures > teams[1].captures) - (teams[0].captures < teams[1].captures)
        for teams in games.values()
    ]
    decided = sum(result != 0 for result in results) / len(results)
    captures = sum(team.captures for teams in games.values() for team in teams) / 12
    found = {name: float(value.double().mean()) for name, value in env.metrics().items()}
    assert found == pytest.approx({"won": decided / 2, "drawn": 1 - decided, "captures": captures})
    assert decided > 0
    assert min(counts.values()) > 4


def test_a_row_without_an_opponent_plays_against_its_mirror_image() -> None:
    env = make(FLAG, 1)
    env.reset(seed=0)
    for _ in range(50):
        obs, reward, _, _, info = env.step()
        obs = info.get("final_obs", obs)
        own, other = obs["player0"][0, [0, 1, 2, 3]], obs["player0"][0, [4, 5, 6, 7]]
        assert torch.equal(own * torch.tensor([-1.0, 1, -1, 1]), other)
        assert reward == 0
    assert env.metrics() == {"won": False, "drawn": True, "captures": 0}


# --- learning ------------------------------------------------------------------------------------------------


def test_a_team_learns_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    simulation = Simulation(resolved("capture-flag", {}), seed=1)
    simulation.run(5)
    again = Simulation.load(simulation.save(tmp_path / "saved"))
    before = {key: value.clone() for key, value in simulation.agents["player0"].parameters.items()}
    for one in (simulation, again):
        one.run(4)
    for name, agent in simulation.agents.items():
        for key, value in agent.parameters.items():
            assert torch.equal(value, again.agents[name].parameters[key])
    assert any(
        not torch.equal(value, before[key]) for key, value in simulation.agents["player0"].parameters.items()
    )
