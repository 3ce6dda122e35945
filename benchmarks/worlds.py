"""Frames that PPO learns from in a CPU second, in worlds of other people, beside Stable-Baselines3 and a bare loop.

    python benchmarks/worlds.py [--rounds 9] [--save] [CASE …]

All have the same networks, environments, windows, four passes and four minibatches: antiphon's first pass is over the whole
window, and its minibatches are of environments. A frame is a step of one environment (of Pong: four frames of the game). Stable-Baselines3
has its own vector environments, the bare loop (`baselines/ppo_loop.py`) those of antiphon. Turns are interleaved
(`interleaved.py`), one thread. Needs gymnasium[box2d], ale-py, opencv and stable-baselines3; what is not installed is left out.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch import Tensor

from antiphon import Scenario, Simulation
from antiphon.base.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from baselines.ppo_loop import PPOLoop
from interleaved import Contestant, finish, parsed, ratio, table, timed

EPOCHS, MINIBATCHES = 4, 4


class Case(NamedTuple):
    """A world, and how much of it is learned from at once."""

    world: str
    batch: int
    ticks: int = 16
    needs: str = "gymnasium"


CASES = {
    "cartpole": Case("CartPole-v1", 64),
    "few": Case("CartPole-v1", 8, ticks=128),
    "lunarlander": Case("LunarLander-v3", 64, needs="Box2D"),
    "pong": Case("Pong-v5", 8, needs="ale_py"),
    "spread": Case("simple_spread_v3", 64, needs="mpe2"),
}
AGENTS = ("agent_0", "agent_1", "agent_2")
"""Of simple_spread; they share their parameters."""


class Antiphon:
    """antiphon, with a network for actions and a critic; of images one network has both."""

    def __init__(self, case: Case) -> None:
        world = case.world
        mlp = {"kind": "mlp", "hidden": [64, 64], "activation": "tanh", "norm": "none"}
        images, several = world == "Pong-v5", world == "simple_spread_v3"
        env = {"Pong-v5": "gymnasium/ale_py:ALE/Pong-v5", "simple_spread_v3": f"pettingzoo/mpe2.{world}"}
        agents = {}
        for name in AGENTS if several else ("player",):
            sees = f"{name}.observation" if several else "observation"
            objective: dict[str, Any] = {"kind": "ppo", "epochs": EPOCHS, "minibatches": MINIBATCHES}
            if not images:
                objective["critic"] = {"observes": [sees], "network": mlp}
            agents[name] = {
                "observes": [sees],
                "acts": name if several else True,
                "objective": objective,
                "network": "nature" if images else mlp,
                "clock": {"unroll": case.ticks},
                **({"share": "team"} if several else {}),
            }
        training = {"batch": case.batch, "optimiser": {"kind": "adam", "lr": 0.0003}, "steps": 10**6}
        document = {
            "scenario": "world",
            "env": {"id": env.get(world, f"gymnasium/{world}")},
            "agents": agents,
            "training": training,
        }
        self.simulation = Simulation(Scenario.model_validate(document))

    def turn(self, count: int) -> float:
        start = time.process_time()
        self.simulation.run(count, progress=False)
        return (time.process_time() - start) / count


class Baselines3:
    """Stable-Baselines3's PPO on its own vector environments."""

    def __init__(self, case: Case) -> None:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_atari_env, make_vec_env
        from stable_baselines3.common.vec_env import VecFrameStack

        world, self.batch = case.world, case.batch
        images = world == "Pong-v5"
        env: Any = (
            VecFrameStack(make_atari_env(f"ALE/{world}", self.batch), 4)
            if images
            else make_vec_env(world, self.batch)
        )
        size = self.batch * case.ticks // MINIBATCHES
        kind = "CnnPolicy" if images else "MlpPolicy"
        self.model = PPO(
            kind, env, n_steps=case.ticks, batch_size=size, n_epochs=EPOCHS, ent_coef=0.01, device="cpu"
        )

    def turn(self, count: int) -> float:
        start = time.process_time()
        self.model.learn(count * self.batch, reset_num_timesteps=False)
        return (time.process_time() - start) / count


class Loop:
    def __init__(self, case: Case) -> None:
        start = _spread if case.world == "simple_spread_v3" else _vector
        step, observed, choices = start(case.world, case.batch)
        settings = {"epochs": EPOCHS, "minibatches": MINIBATCHES, "images": case.world == "Pong-v5"}
        self.loop = PPOLoop(step, observed, choices, ticks=case.ticks, **settings)

    def turn(self, count: int) -> float:
        start = time.process_time()
        for _ in range(count // self.loop.ticks):
            self.loop.update()
        return (time.process_time() - start) / count


Started = tuple[Callable[[Tensor], tuple[Tensor, Tensor, Tensor]], Tensor, int]


def _vector(world: str, batch: int) -> Started:
    """A vector environment of Gymnasium: the id's own where it has one."""
    mode = "sync" if world == "LunarLander-v3" else "vector_entry_point"
    name = f"ALE/{world}" if world == "Pong-v5" else world
    env: Any = gymnasium.make_vec(name, batch, vectorization_mode=mode)

    def step(action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        observed, reward, terminated, truncated, _ = env.step(action.numpy())
        ended = torch.as_tensor(terminated | truncated)
        return torch.as_tensor(observed.copy()), torch.as_tensor(reward, dtype=torch.float32), ended

    return step, torch.as_tensor(env.reset(seed=0)[0].copy()), int(env.single_action_space.n)


def _spread(world: str, batch: int) -> Started:
    """Environments of PettingZoo, one after the other, whose agents are rows."""
    each = [importlib.import_module(f"mpe2.{world}").parallel_env() for _ in range(batch)]

    def rows(values: list[dict[str, Any]]) -> Tensor:
        return torch.as_tensor(np.array([own[name] for own in values for name in AGENTS], dtype=np.float32))

    def step(action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        observed, rewards, ends = [], [], []
        for env, did in zip(each, action.view(len(each), -1).tolist(), strict=True):
            seen, reward, terminated, truncated, _ = env.step(dict(zip(AGENTS, did, strict=True)))
            ended = terminated[AGENTS[0]] or truncated[AGENTS[0]]
            observed.append(env.reset()[0] if ended else seen)
            rewards.append(reward)
            ends += [ended] * len(AGENTS)
        return rows(observed), rows(rewards), torch.tensor(ends)

    return step, rows([env.reset(seed=number)[0] for number, env in enumerate(each)]), 5


def contestants(case: Case) -> Iterator[tuple[str, Contestant]]:
    yield "antiphon", Antiphon(case)
    yield "bare_loop", Loop(case)
    if case.world != "simple_spread_v3" and importlib.util.find_spec("stable_baselines3") is not None:
        yield "stable_baselines3", Baselines3(case)


def measured(name: str, rounds: int) -> dict[str, Any]:
    """Return frames per CPU second of all contestants in a case, and antiphon's times those of the others."""
    case = CASES[name]
    times = timed(dict(contestants(case)), rounds, multiple=case.ticks)
    found: dict[str, Any] = {"case": name, **case._asdict()}
    for rival, seconds in times.items():
        found[rival] = round(case.batch / float(np.median(seconds)))
        if rival != "antiphon":
            found[f"ratio_{rival}"], found[f"interval_{rival}"] = ratio(times, rival, "antiphon")
    return found


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"default: all of {', '.join(CASES)}")
    arguments = parsed(parser, rounds=9)
    torch.set_num_threads(1)
    keep_memory()
    if importlib.util.find_spec("ale_py") is not None:
        gymnasium.register_envs(importlib.import_module("ale_py"))
    found = [name for name, case in CASES.items() if importlib.util.find_spec(case.needs) is not None]
    rows = [measured(name, arguments.rounds) for name in arguments.cases or found]
    columns = [
        "case",
        "batch",
        "ticks",
        "antiphon",
        "bare_loop",
        "stable_baselines3",
        "ratio_bare_loop",
        "ratio_stable_baselines3",
    ]
    finish(
        {"benchmark": "worlds", "unit": "frames per CPU second", "rows": rows},
        arguments,
        table(rows, columns),
    )


if __name__ == "__main__":
    main()
