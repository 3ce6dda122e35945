"""Capture the flag: tags, captures, drops and ties in small cases, the mirrored game, metrics, and teams that learn."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import Simulation, envs
from tests.contracts.library import resolved
from tests.envs.worlds.made import make

FLAG = "antiphon/CaptureFlag-v0"
PLAYERS = ("red0", "red1", "blue0", "blue1")
STAY, AHEAD, BACK, DOWN, UP = range(5)
BASE, GOAL = (0, 3), (6, 3)
"""Cells of 7 x 7, (column, row), columns counted from a player's own wall."""
CORNERS = {"red0": (0, 0), "red1": (0, 6), "blue0": (0, 0), "blue1": (0, 6)}
SWAPPED = [2, 3, 0, 1]


def placed(places: dict[str, tuple[int, int]], carries: str = "", batch: int = 1) -> envs.World:
    """Copies of a game in which players stand in these cells, the others in corners."""
    env = make(FLAG, batch)
    env.reset(seed=0)
    state = env.state_dict()
    place = torch.tensor([[(CORNERS | places)[player] for player in PLAYERS]]).repeat(batch, 1, 1)
    carrying = torch.tensor([[player in carries.split() for player in PLAYERS]]).repeat(batch, 1)
    env.load_state_dict({**state, "state": {**state["state"], "place": place, "carries": carrying}})
    return env


def act(env: envs.World, **moves: int) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Take a step in which the players without a move stay; return observations and info."""
    obs, reward, _, _, info = env.step({p: torch.full((env.num_envs,), moves.get(p, STAY)) for p in PLAYERS})
    assert torch.equal(reward, info["reward.red0"])
    return obs, info


def happened(info: dict[str, Any]) -> dict[str, float]:
    """The signals of the step that are not 0 in the first copy."""
    return {name: float(value[0]) for name, value in info.items() if value.any() and not name.startswith("_")}


def place(obs: dict[str, Tensor], player: str) -> tuple[int, int]:
    """The cell in which a player sees itself."""
    column, row = ((obs[player][0, :2] + 1) * 3).tolist()
    return round(column), round(row)


def carriers(obs: dict[str, Tensor]) -> list[str]:
    return [player for player in PLAYERS if obs[player][0, 8]]


def test_a_player_moves_and_walls_stop() -> None:
    env = placed({"red0": (2, 2), "blue0": (2, 2)})
    for move, cell in ((AHEAD, (3, 2)), (BACK, (2, 2)), (DOWN, (2, 3)), (UP, (2, 2)), (STAY, (2, 2))):
        obs, _ = act(env, red0=move, blue0=move, red1=DOWN, blue1=BACK)
        assert place(obs, "red0") == place(obs, "blue0") == cell
        assert (place(obs, "red1"), place(obs, "blue1")) == ((0, 6), (0, 6))


def test_who_is_tagged_goes_home_and_drops_the_flag() -> None:
    env = placed({"red0": (4, 2), "blue0": (1, 2)}, carries="red0")
    obs, info = act(env, blue0=AHEAD)
    assert happened(info) == {"tag.blue0": 1.0, "tagged.red0": 1.0}
    assert (place(obs, "red0"), place(obs, "blue0"), carriers(obs)) == (BASE, (2, 2), [])


def test_a_dropped_flag_can_be_taken_in_the_same_step() -> None:
    env = placed({"red0": (4, 2), "red1": (5, 3), "blue0": (2, 2)}, carries="red0")
    obs, info = act(env, red1=AHEAD)
    assert happened(info) == {"tag.blue0": 1.0, "tagged.red0": 1.0, "pickup.red1": 1.0}
    assert carriers(obs) == ["red1"]


def test_no_one_is_tagged_in_the_middle_or_at_home() -> None:
    obs, info = act(placed({"red0": (2, 2), "blue0": (3, 2)}), red0=AHEAD)
    assert place(obs, "red0") == place(obs, "blue0") == (3, 2)
    assert happened(info) == {}
    assert "tagged.red0" not in happened(act(placed({"red0": (2, 2), "blue0": (4, 2)}))[1])


def test_a_flag_is_picked_up_and_brought_home() -> None:
    env = placed({"red0": (5, 3)})
    obs, info = act(env, red0=AHEAD)
    assert (happened(info), carriers(obs)) == ({"pickup.red0": 1.0}, ["red0"])
    assert obs["red1"][0, 8:12].tolist() == [0.0, 1.0, 0.0, 0.0]
    assert obs["blue1"][0, 8:12].tolist() == [0.0, 0.0, 1.0, 0.0]
    for _ in range(5):
        obs, info = act(env, red0=BACK)
        assert happened(info) == {}
    obs, info = act(env, red0=BACK)
    scored = {"reward.red0": 1.0, "reward.red1": 1.0, "reward.blue0": -1.0, "reward.blue1": -1.0}
    assert (happened(info), carriers(obs)) == ({"capture.red0": 1.0, **scored}, [])
    assert happened(act(env, red0=STAY)[1]) == {}, "a capture counts once"


def test_team_mates_never_carry_at_once_and_precedence_is_random() -> None:
    env = placed({"red0": (5, 3), "red1": (6, 2), "blue0": (6, 4), "blue1": (5, 3)}, batch=64)
    _, info = act(env, red0=AHEAD, red1=DOWN, blue0=UP, blue1=AHEAD)
    picked = {player: info[f"pickup.{player}"] for player in PLAYERS}
    for one, other in (("red0", "red1"), ("blue0", "blue1")):
        assert torch.equal(picked[one] + picked[other], torch.ones(64))
        assert 16 < picked[one].sum() < 48
    obs, info = act(env)
    assert happened(info) == {}, "the flag is away"
    assert len(carriers(obs)) == 2


def test_what_happens_at_once_has_no_order() -> None:
    env = placed({"red0": (1, 3), "blue1": (1, 3)}, carries="red0 blue1")
    assert happened(act(env, red0=BACK, blue1=BACK)[1]) == {"capture.red0": 1.0, "capture.blue1": 1.0}
    env = placed({"red0": (4, 2), "red1": (5, 1), "blue0": (2, 1), "blue1": (2, 2)}, carries="red1")
    obs, info = act(env, red1=BACK, red0=UP, blue1=UP)
    assert set(happened(info)) == {"tagged.red0", "tagged.red1", "tag.blue0", "tag.blue1"}
    assert carriers(obs) == []
    env = placed({"red0": (4, 2), "blue0": (2, 3), "red1": (2, 5), "blue1": (4, 4)})
    _, info = act(env, blue0=UP, blue1=DOWN)
    assert set(happened(info)) == {"tagged.red0", "tag.blue0", "tagged.blue1", "tag.red1"}


def test_the_mirrored_game_has_the_mirrored_result() -> None:
    game, mirrored = make(FLAG, 32, limit=80), make(FLAG, 32, limit=80)
    game.reset(seed=4)
    mirrored.reset(seed=4)
    saved = game.state_dict()
    state = saved["state"]
    swapped = {"place": state["place"][:, SWAPPED], "captures": state["captures"].flip(1)}
    mirrored.load_state_dict({**saved, "state": {**state, **swapped}})
    other = dict(zip(PLAYERS, (PLAYERS[i] for i in SWAPPED), strict=True))
    draw = torch.Generator().manual_seed(0)
    seen: set[str] = set()
    for _ in range(79):
        moves = {p: torch.randint(0, 5, (32,), generator=draw) for p in PLAYERS}
        forward = (torch.rand(32, generator=draw) < 0.5) & (moves["red0"] == BACK)
        moves["red0"] = torch.where(
            forward, torch.full_like(forward, AHEAD, dtype=torch.int64), moves["red0"]
        )
        obs, reward, _, _, info = game.step(moves)
        obs2, reward2, _, _, info2 = mirrored.step({other[p]: move for p, move in moves.items()})
        assert torch.equal(reward, -reward2)
        assert all(torch.equal(obs[p], obs2[other[p]]) for p in PLAYERS)
        for name in info:
            event, _, player = name.partition(".")
            assert torch.equal(info[name], info2[f"{event}.{other[player]}"])
            seen |= {event} if info[name].any() else set()
    assert {"pickup", "tag", "tagged"} <= seen


def test_metrics_are_of_the_newest_finished_episodes() -> None:
    env = make(FLAG, 4, limit=2)
    env.reset(seed=0)
    assert env.figures() == {}
    places = torch.tensor([CORNERS[player] for player in PLAYERS]).repeat(4, 1, 1)
    places[0, 0] = places[1, 0] = places[1, 2] = places[2, 3] = torch.tensor(BASE)
    carries = (places == torch.tensor(BASE)).all(2)
    state = env.state_dict()
    env.load_state_dict({**state, "state": {**state["state"], "place": places, "carries": carries}})
    act(env)
    assert env.figures() == {}
    act(env)
    expected = {"captures": 1.0, "red_won": 0.25, "drawn": 0.5, "blue_won": 0.25}
    assert env.figures() == expected
    act(env)
    twin = make(FLAG, 4, limit=2)
    twin.load_state_dict(env.state_dict())
    assert env.figures() == twin.figures() == expected
    act(env)
    assert env.figures() == {"captures": 0.0, "red_won": 0.0, "drawn": 1.0, "blue_won": 0.0}


@pytest.mark.parametrize("blue", ["player", "rival"])
def test_teams_learn_as_one_or_apart_and_go_on_bit_for_bit(blue: str, tmp_path: Path) -> None:
    simulation = Simulation(resolved("capture-flag", {"blue": blue}), seed=1)
    simulation.run(5)
    again = Simulation.load(simulation.save(tmp_path / "saved"))
    for one in (simulation, again):
        one.run(4)
    found = {name: agent.parameters for name, agent in simulation.agents.items()}
    for key, value in found["red0"].items():
        assert torch.equal(value, found["red1"][key])
        assert torch.equal(found["blue0"][key], found["blue1"][key])
        assert torch.equal(value, again.agents["red0"].parameters[key])
    same = [torch.equal(value, found["blue0"][key]) for key, value in found["red0"].items()]
    assert all(same) if blue == "player" else not any(same)
