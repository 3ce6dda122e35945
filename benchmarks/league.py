"""What evolved rewards are worth in the league `flags`: tournaments between populations that differ in their rewards alone.

Each seed trains three populations for equal steps. In all of them learning rate and entropy evolve; the weights of the rewards for
picking up the flag, tagging and being tagged evolve, too (`evolved`), are the scenario's (`hand-made`), or 0 (`score`). Then
every two populations of a seed play: their best members by rating, and each member of one against each of the other. Reported
are score rates (won games plus half of the drawn ones) and captures of either team in a game, means over seeds with their 95 %
intervals. Populations that are trained already are in `--logdir` and are not trained again.
Run: `python benchmarks/league.py --json`.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import antiphon
from antiphon import envs
from antiphon.base.spec import plain
from antiphon.engine.inference.policy import Policy
from antiphon.populations import TrainedMembers
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.telemetry.statistics import mean

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table

EVENTS = ("pickup", "tag", "tagged")
REWARDS: dict[str, dict[str, float] | None] = {
    "evolved": None,
    "hand-made": {},
    "score": dict.fromkeys(EVENTS, 0.0),
}
"""Values of the weights in a condition, beside the scenario's; None: they vary."""
BEST, EACH = 512, 16
"""Games between the best members, and between every two members."""


def train(condition: str, seed: int, folder: Path, **keys: Any) -> TrainedMembers:
    """Train a population, or go on with it."""
    league = find_document(PopulationSpec, "flags")
    assert league is not None
    fixed, vary = REWARDS[condition], plain(league)["vary"]
    if fixed is not None:
        vary = {name: within for name, within in vary.items() if name not in EVENTS}
    values = {**league.set, **(fixed or {}), **keys.pop("values", {})}
    place = folder / f"{condition}-{seed}"
    return antiphon.population(
        "flags", values=values, vary=vary, seed=seed, logdir=place, exist="resume", progress=False, **keys
    )


def policy(run: str | Path) -> Policy:
    """Return what a run has learned, sampling as in training."""
    with antiphon.Simulation.load(run) as simulation:
        return simulation.policy(greedy=False)


def games(teams: Sequence[Policy], others: Sequence[Policy], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Play games between each of some teams and each of others.

    Returns:
        Of each pair, [teams, others]: the score rate of the first, its captures in a game, and the other's.
    """
    shape = len(teams), len(others), count
    half = len(teams) * len(others) * count
    env = envs.make({"id": "antiphon/CaptureFlag-v0"}, batch=2 * half)
    observation, _ = env.reset(seed=0)
    rows = torch.arange(half)
    state = env.state_dict()
    state["state"]["opponent"] = torch.cat([torch.full((half,), half), torch.full((half,), -half)])
    env.load_state_dict(state)
    seats = list(zip(teams, rows.view(shape).flatten(1), strict=True))
    seats += zip(others, half + rows.view(shape).transpose(0, 1).flatten(1), strict=True)
    for each, _ in seats:
        each.reset()
    captures = torch.zeros(2 * half)
    for _ in range(env.episode_steps or 0):
        actions = {player: torch.zeros(2 * half, dtype=torch.int64) for player in observation}
        for each, own in seats:
            found = each.act({player: value[own] for player, value in observation.items()})
            for player, choice in found.items():
                actions[player][own] = torch.as_tensor(choice)
        observation, _, _, _, info = env.step(actions)
        captures += sum(info[f"capture.{player}"] for player in observation)
    first, second = captures.view(2, *shape)
    return ((first - second).sign() / 2 + 0.5).mean(2), first.mean(2), second.mean(2)


def tournament(members: Sequence[TrainedMembers], others: Sequence[TrainedMembers]) -> dict[str, Any]:
    """Return a row of the table: populations of one condition against those of another, seed by seed."""
    best, every, captures = [], [], []
    for one, other in zip(members, others, strict=True):
        score, _, _ = games([policy(one.best)], [policy(other.best)], BEST)
        best.append(float(score))
        found = [[policy(each["run_dir"]) for each in side.result["members"]] for side in (one, other)]
        score, first, second = games(*found, EACH)
        every.append(float(score.mean()))
        captures.append([float(first.mean()), float(second.mean())])
    return {
        **estimate("best", best),
        **estimate("all", every),
        "captures": [round(sum(side) / len(side), 2) for side in zip(*captures, strict=True)],
        "seeds": {"best": [round(x, 3) for x in best], "all": [round(x, 3) for x in every]},
    }


def estimate(name: str, values: Sequence[float]) -> dict[str, Any]:
    """Return the mean over seeds and its interval, as two entries of a row."""
    found = mean(values)
    ends = None if found.low is None or found.high is None else [round(found.low, 3), round(found.high, 3)]
    return {name: round(found.value, 3), f"{name}_interval": ends}


def main() -> None:
    """Train, play and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--members", type=int)
    parser.add_argument("--logdir", type=Path, default=Path("runs/league"))
    arguments = parsed(parser)
    torch.set_num_threads(1)
    keys = {"steps": arguments.steps, "members": arguments.members}
    trained: dict[str, list[TrainedMembers]] = {name: [] for name in REWARDS}
    for seed, name in itertools.product(range(arguments.seeds), REWARDS):
        trained[name].append(train(name, 100 * seed, arguments.logdir, **keys))
    rows = [
        {"condition": one, "against": other, **tournament(trained[one], trained[other])}
        for one, other in itertools.combinations(REWARDS, 2)
    ]
    columns = [name for name in rows[0] if name != "seeds"]
    finish({"benchmark": "league", "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
