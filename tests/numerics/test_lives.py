"""Agents of PettingZoo that die and come back, against a loop by hand: nothing of the dead is learned from, or read.

B batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils import seeding
from pettingzoo import ParallelEnv
from torch import Tensor

from antiphon import envs
from tests.contracts.builders import Document
from tests.contracts.twins import made
from tests.numerics.linear import assert_close, leaves
from tests.numerics.test_policies import (
    BATCH,
    DEFAULTS,
    MLP,
    TICKS,
    Window,
    by_torch,
    chosen,
    entropy,
    follow,
    log_prob,
    loss_of,
    ports_of,
)

SEEDS: list[int] = []
"""Those with which worlds were reset, in their order."""


class Ponds(ParallelEnv[str, Any, Any]):
    """Two frogs that see noise, which their actions move; each dies sometimes, for good or by its own limit, and comes back."""

    metadata = {"name": "ponds"}  # noqa: RUF012
    possible_agents = ["a", "b"]  # noqa: RUF012

    def observation_space(self, _: str) -> spaces.Space[Any]:
        return spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def action_space(self, _: str) -> spaces.Space[Any]:
        return spaces.Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        if seed is not None:
            SEEDS.append(seed)
            self.random = seeding.np_random(seed)[0]
        self.agents, self.steps = [*self.possible_agents], 0
        return {agent: self.random.normal(size=3) for agent in self.agents}, {}

    def step(self, actions: dict[str, Any]) -> tuple[dict[str, Any], ...]:
        assert set(actions) == set(self.agents)
        self.steps += 1
        lived, number = self.agents, self.random.random
        seen = {agent: self.random.normal(size=3) + int(actions[agent]) for agent in lived}
        rewards = {agent: float(self.random.normal() + int(actions[agent])) for agent in lived}
        over = self.steps == 7
        dead = {agent: bool(number() < 0.15) for agent in lived}
        late = {agent: over or bool(number() < 0.15) for agent in lived}
        ended = [agent for agent in lived if dead[agent] or late[agent]]
        back = [agent for agent in self.possible_agents if agent not in lived and number() < 0.4]
        back = [] if over else back
        self.agents = [
            one for one in self.possible_agents if one in back or (one in lived and one not in ended)
        ]
        return seen | {agent: self.random.normal(size=3) for agent in back}, rewards, dead, late, {}

    def close(self) -> None:
        pass


PONDS = "ponds_that_die"
envs.register(PONDS, Ponds)


class Lake(Ponds):
    """What a loop by hand sees of `Ponds`: zeros of the dead, and the next episode where nobody is left."""

    def __init__(self, seed: int) -> None:
        self.seen = self.reset(seed)[0]

    def shown(self, agent: str) -> Any:
        return self.seen.get(agent, np.zeros(3))

    def advanced(self, actions: dict[str, int]) -> dict[str, tuple[float, bool, bool, bool, Any]]:
        """By agent: reward, terminated, truncated, whether it lived, and what it saw last."""
        lived = [*self.agents]
        self.seen, rewards, dead, late, _ = self.step({agent: actions[agent] for agent in lived})
        found = {
            agent: (
                rewards.get(agent, 0.0),
                dead.get(agent, False),
                late.get(agent, False),
                agent in lived,
                self.shown(agent),
                agent in self.agents,
            )
            for agent in self.possible_agents
        }
        if not self.agents:
            self.seen = self.reset()[0]
        return found


@pytest.mark.cases(1)
@pytest.mark.parametrize(("kind", "delay"), [("detached", 0), ("detached", 1), ("locked", 0)])
def test_two_that_die_and_come_back(kind: str, delay: int) -> None:
    """`b` tells `a` what it sees. A message is zeros where one of them does not live as it is sent, or has died on its way."""
    own: Document = {"acts": True, "network": MLP, "objective": "a2c", "clock": {"unroll": TICKS}}
    agents: Document = {name: {**own, "observes": [f"{name}.observation"]} for name in "ba"}
    agents = {name: {**agent, "acts": name} for name, agent in agents.items()}
    told: Document = {
        "from": "b",
        "to": "a",
        "size": 2,
        "norm": "none",
        "coupling": kind,
        "link": {"delay": delay},
    }
    training: Document = {"batch": BATCH, "optimiser": {"kind": "sgd", "lr": 0.3, "momentum": 0.5}}
    env = {"id": PONDS}
    SEEDS.clear()
    simulation = made(
        {"scenario": "lives", "env": env, "agents": agents, "channels": [told], "training": training},
        "cohort",
    )
    lakes = [Lake(seed) for seed in SEEDS[-BATCH:]]
    p = {name: leaves(simulation.agents[name]) for name in "ab"}
    optimisers = {"": by_torch(p["a"], p["b"])} if kind == "locked" else {n: by_torch(p[n]) for n in "ab"}
    windows = {name: Window() for name in "ab"}
    coming = torch.zeros(BATCH, 2, dtype=torch.float64)

    def stacked(each: list[Any]) -> Tensor:
        return torch.from_numpy(np.stack(each))

    def ports(seen: dict[str, Tensor], both: Tensor) -> tuple[dict[str, Any], Tensor]:
        """What both say, and the message of `b`."""
        nonlocal coming
        of_b = ports_of(p["b"], seen["b"])
        sent = torch.where(both.unsqueeze(1), of_b["to_a"], 0.0)
        read = coming if delay else sent if kind == "locked" else sent.detach()
        return {"a": ports_of(p["a"], torch.cat([seen["a"], read], 1)), "b": of_b}, sent.detach()

    for w in range(4):
        windows = {name: window.following() for name, window in windows.items()}
        said: dict[str, list[Any]] = {"a": [], "b": []}
        for step in range(w * TICKS, (w + 1) * TICKS):
            seen = {name: stacked([lake.shown(name) for lake in lakes]) for name in "ab"}
            both = torch.tensor([len(lake.agents) == 2 for lake in lakes])
            outputs, sent = ports(seen, both)
            actions = {name: chosen(outputs[name]["objective"], name, step) for name in "ab"}
            found = [
                lake.advanced({name: int(actions[name][row]) for name in "ab"})
                for row, lake in enumerate(lakes)
            ]
            each = {name: [one[name] for one in found] for name in "ab"}
            last = {name: stacked([one[4] for one in each[name]]) for name in "ab"}
            on = {
                name: torch.tensor([(one[3] and not one[1]) or one[5] for one in each[name]]) for name in "ab"
            }
            coming = sent
            final = ports(last, on["a"] & on["b"] if not delay else both)[0]
            for name in "ab":
                reward, terminated, truncated, known = map(stacked, list(zip(*each[name], strict=True))[:4])
                said[name].append(outputs[name])
                value = final[name]["value"].detach()[:, 0]
                windows[name].add(actions[name], reward, terminated, truncated, known, value)
            alive = torch.tensor([len(lake.agents) == 2 and lake.steps > 0 for lake in lakes])
            ended = torch.tensor([any(one[n][1] or one[n][2] for n in "ab") for one in found])
            coming = torch.where((alive & ~ended).unsqueeze(1), coming, 0.0)
        losses = {}
        for name, window in windows.items():
            logits = torch.stack([one["objective"] for one in said[name]])
            values = torch.stack([one["value"][:, 0] for one in said[name]])
            judged = window.judged(values.detach(), **DEFAULTS)
            chances = log_prob(logits, torch.stack(window.actions))
            losses[name] = loss_of(chances, entropy(logits), values, judged)
        for name, optimiser in optimisers.items():
            follow(optimiser, losses[name] if name else losses["a"] + losses["b"])
        simulation.run(TICKS)
        for name in "ab":
            assert_close(simulation.agents[name], p[name], 1e-9)
