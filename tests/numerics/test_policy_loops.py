"""Policies against a loop written by hand: parameters, actions and rewards of dozens of steps, by the formulas alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document, document
from tests.contracts.games import Game
from tests.contracts.twins import made

BATCH, TICKS, WINDOWS = 16, 4, 8
OPTIONS: Document = {"discount": 0.9, "entropy": 0.05}


class ByHand:
    """One agent with a hidden layer, three actions and a value, that learns from windows of the world's rewards."""

    def __init__(
        self, kind: str, options: Document, parameters: dict[str, Tensor], seed: int, env: Any
    ) -> None:
        self.kind, self.options, self.seed, self.env = kind, options, seed, env
        self.p = {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}
        self.optimiser = torch.optim.Adam(list(self.p.values()), lr=1e-2)
        self.x = env.reset(seed=3)[0]["x"]
        self.actions: list[Tensor] = []

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        hidden = torch.tanh(x @ self.p["0.weight"].T + self.p["0.bias"])
        logits = hidden @ self.p["objective.weight"].T + self.p["objective.bias"]
        if "value.weight" not in self.p:
            return logits, None
        return logits, (hidden @ self.p["value.weight"].T + self.p["value.bias"])[..., 0]

    def window(self, first: int) -> None:
        seen, actions, rewards, terminated, truncated = [], [], [], [], []
        for step in range(first, first + TICKS):
            numbers = uniform(seed_for(self.seed, "action"), step, BATCH).unsqueeze(1)
            with torch.no_grad():
                action = (self(self.x)[0].softmax(1).cumsum(1) <= numbers).sum(1)
            seen.append(self.x)
            observation, reward, done, cut, _ = self.env.step(action + 2)  # the space starts at 2
            self.x = observation["x"]
            for entries, value in zip(
                (actions, rewards, terminated, truncated), (action, reward, done, cut), strict=True
            ):
                entries.append(value)
        self.actions.append(torch.stack(actions))
        self.learn(
            torch.stack(seen), torch.stack(rewards), torch.stack(terminated), torch.stack(truncated), first
        )

    def advantages(self, values: Tensor | None, rewards: Tensor, done: Tensor, cut: Tensor) -> Any:
        """Raw advantages, returns and valid ticks, environment by environment."""
        gamma, trace = self.options["discount"], self.options.get("trace", 0.0)
        advantages, returns = torch.zeros_like(rewards), torch.zeros_like(rewards)
        valid = torch.zeros_like(done)
        for b in range(BATCH):
            follows: float | None = None  # reinforce: the return from the next tick on, once its end is known
            for t in reversed(range(TICKS)):
                r, ends = float(rewards[t, b]), bool(done[t, b] or cut[t, b])
                if values is None:
                    follows = r if ends else None if follows is None else r + gamma * follows
                    if follows is not None:
                        returns[t, b], valid[t, b] = follows, True
                elif t + 1 < TICKS and not cut[t, b]:
                    beyond = 0.0 if done[t, b] else gamma * float(values[t + 1, b])
                    later = 0.0 if done[t, b] else gamma * trace * float(advantages[t + 1, b])
                    advantages[t, b], valid[t, b] = r + beyond - float(values[t, b]) + later, True
                    returns[t, b] = advantages[t, b] + values[t, b]
        if values is None:
            advantages = torch.where(valid, returns - returns[valid].mean(), 0.0)
        if valid.sum() >= 32:
            known = advantages[valid]
            advantages = torch.where(valid, (advantages - known.mean()) / (known.std() + 1e-8), 0.0)
        return advantages, returns, valid

    def learn(self, x: Tensor, rewards: Tensor, done: Tensor, cut: Tensor, first: int) -> None:
        values = self(x)[1]
        constants = self.advantages(None if values is None else values.detach(), rewards, done, cut)
        chosen = self.actions[-1].unsqueeze(-1)
        then = self(x)[0].log_softmax(-1).gather(-1, chosen).squeeze(-1).detach()
        everyone = torch.arange(BATCH)
        self.follow(x, chosen, then, constants, everyone)
        for epoch in range(1, self.options.get("epochs", 1)):
            seed = seed_for(self.seed, "epoch", str(epoch))
            order = uniform(seed, first + TICKS - 1, BATCH).argsort(stable=True)
            for rows in order.tensor_split(self.options["minibatches"]):
                self.follow(x, chosen, then, constants, rows)

    def follow(self, x: Tensor, chosen: Tensor, then: Tensor, constants: Any, rows: Tensor) -> None:
        advantages, returns, valid = (each[:, rows] for each in constants)
        logits, values = self(x[:, rows])
        logs = logits.log_softmax(-1)
        log_prob = logs.gather(-1, chosen[:, rows]).squeeze(-1)
        loss = -log_prob * advantages
        if self.kind == "ppo":
            ratio, clip = (log_prob - then[:, rows]).exp(), self.options["clip"]
            loss = -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)
        if values is not None:
            loss = loss + self.options["value"] * (values - returns).square()
        loss = loss + self.options["entropy"] * (logs.exp() * logs).sum(-1)
        if not valid.any():
            return
        self.optimiser.zero_grad()
        loss[valid].mean().backward()
        self.optimiser.step()


CASES: dict[str, Document] = {
    "a2c": {**OPTIONS, "trace": 0.8, "value": 0.7},
    "ppo": {**OPTIONS, "trace": 0.8, "value": 0.7, "clip": 0.1, "epochs": 3, "minibatches": 3},
    "reinforce": OPTIONS,
}


@pytest.mark.parametrize("backend", ["reference", "cohort"])
@pytest.mark.parametrize("kind", CASES)
def test_a_loop_by_hand(kind: str, backend: str) -> None:
    game, options = Game(share=0.3), CASES[kind]
    agent = {
        "observes": ["x"],
        "acts": True,
        "network": {"kind": "mlp", "hidden": [6], "norm": "none", "activation": "tanh"},
        "clock": {"unroll": TICKS},
        "objective": {"kind": kind, **options},
    }
    simulation = made(
        document({"a": agent}, [], game, batch=BATCH, optimiser={"kind": "adam", "lr": 1e-2}), backend
    )
    own = simulation.agents["a"].parameters
    env = game.make(batch=BATCH, split=None, dtype=torch.float64)
    hand = ByHand(kind, options, own, seed_for(simulation.seed, "agent", "a"), env)
    before = {name: value.detach().clone() for name, value in own.items()}
    for window in range(WINDOWS):
        hand.window(window * TICKS)
        done = []
        for _ in range(TICKS):
            simulation.step()
            action = simulation.backend.action
            assert isinstance(action, Tensor)
            done.append(action - 2)
        assert torch.equal(torch.stack(done), hand.actions[-1])
        for name, value in simulation.agents["a"].parameters.items():
            torch.testing.assert_close(value.detach(), hand.p[name].detach(), rtol=1e-9, atol=1e-9)
    assert all((hand.p[name] - value).abs().max() > 1e-3 for name, value in before.items())
