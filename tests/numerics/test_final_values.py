"""Ends of episodes against loops by hand: values of final observations (rules 40, 41), time limits and ways of resetting."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import Env, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor

from tests.contracts.builders import Document
from tests.contracts.games import Game
from tests.contracts.twins import made
from tests.kit.worlds import ROWS
from tests.numerics.linear import assert_close
from tests.numerics.loops import Hand
from tests.numerics.test_policies import (
    BATCH,
    DEFAULTS,
    TICKS,
    Window,
    chosen,
    entropy,
    follow,
    log_prob,
    loss_of,
    simulation_of,
    world_of,
)
from tests.numerics.test_q_learning import Q, Target, double
from tests.numerics.test_q_learning import chosen as explored
from tests.reference.backend import Chosen, reference


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", [reference, "cohort"])
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_recurrent_actor_values_the_final_observation_from_its_newest_state(
    kind: str, backend: Chosen
) -> None:
    """Semantics 40a."""
    source = Game(share=0.3)
    network: Document = {"kind": kind, "size": 4, "norm": "none"}
    agent: Document = {"observes": ["x"], "acts": True, "network": network, "clock": {"unroll": TICKS}}
    simulation = simulation_of({"m": {**agent, "objective": {"kind": "a2c"}}}, [], source, backend)
    hand = Hand(simulation, "m", kind)
    optimiser = torch.optim.SGD(hand.numbers.values(), lr=0.3, momentum=0.5)
    env, seen = world_of(source)
    state, following = torch.zeros(BATCH, hand.state_size, dtype=torch.float64), Window()
    for w in range(3):
        window, outputs, values = following.following(), list[Tensor](), list[Tensor]()
        state = state.detach()
        for step in range(w * TICKS, (w + 1) * TICKS):
            hidden, state = hand.tick(seen["x"], state)
            outputs.append(hand.head("objective", hidden))
            values.append(hand.head("value", hidden)[:, 0])
            action = chosen(outputs[-1], "m", step)
            seen, reward, terminated, truncated, info = env.step(action + 2)
            last = hand.tick(info.get("final_obs", seen)["x"], state)[0]
            final = hand.head("value", last)[:, 0].detach()
            window.add(action, reward, terminated, truncated, final=final)
            state = torch.where((terminated | truncated).unsqueeze(1), 0.0, state)
        logits, actions = torch.stack(outputs), torch.stack(window.actions)
        judged = window.judged(torch.stack(values).detach(), **DEFAULTS)
        follow(optimiser, loss_of(log_prob(logits, actions), entropy(logits), torch.stack(values), judged))
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], hand.numbers, 1e-9)


# --- vector environments ---------------------------------------------------------------------------------


LIMIT = 4
MODES = {mode.name.lower(): mode for mode in (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)}
SEEDS: list[int] = []
"""Those with which the rows of an environment were reset, in their order."""


class Walk(Env[Any, Any]):
    """A random walk that actions push, whose episodes end at random, and by a time limit, sometimes by both at once."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        SEEDS.extend([] if seed is None else [seed])
        self.place = self.np_random.normal(3, 2, 2)
        return self.place, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.place = self.place + self.np_random.normal(0, 1, 2) + float(action) - 1
        return self.place, float(self.place[0]), bool(self.np_random.random() < 0.2), False, {}


gymnasium.register("Walk-v0", entry_point=Walk, max_episode_steps=LIMIT)


class Moments:
    """Mean and variance of all observations of windows before; 0 and 1 until then."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.mean, self.variance = torch.zeros(()), torch.ones(())

    def add(self, seen: list[Tensor]) -> None:
        self.seen += seen
        every = torch.cat(self.seen)
        self.mean, self.variance = every.mean(0), every.var(0, correction=0)

    def of(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.variance.sqrt()).clamp(-10, 10)


@pytest.mark.cases(1)
@pytest.mark.parametrize("objective", ["a2c", "q"])
@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("autoreset", MODES)
def test_a_recurrent_actor_at_time_limits(autoreset: str, normalise: bool, objective: str) -> None:
    """In each mode it comes with its step (rule 40b); it is normalised by the statistics of its window; in statistics it counts where a tick observes it."""
    agent: Document = {
        "observes": ["observation"],
        "normalise": ["observation"] if normalise else [],
        "acts": True,
        "network": {"kind": "gru", "size": 4, "norm": "none"},
        "objective": Q if objective == "q" else objective,
        "clock": {"unroll": TICKS},
    }
    env: Document = {"id": ROWS, "name": "Walk-v0", "autoreset": autoreset}
    training: Document = {"batch": BATCH, "optimiser": {"kind": "sgd", "lr": 0.3, "momentum": 0.5}}
    SEEDS.clear()
    simulation = made(
        {"scenario": "walk", "env": env, "agents": {"m": agent}, "training": training}, "cohort"
    )
    seeds = SEEDS[-BATCH:]
    hand, copy = (Hand(simulation, "m", "gru") for _ in range(2))
    target = Target(hand.numbers)
    optimiser = torch.optim.SGD(hand.numbers.values(), lr=0.3, momentum=0.5)
    walks = [partial(gymnasium.make, "Walk-v0")] * BATCH
    world = SyncVectorEnv(walks, autoreset_mode=MODES[autoreset])
    seen = torch.from_numpy(world.reset(seed=seeds)[0])
    statistics = Moments() if normalise else None
    resets = torch.zeros(BATCH, dtype=torch.bool)
    state, following = torch.zeros(BATCH, 4, dtype=torch.float64), Window(normalise=objective == "a2c")
    for w in range(5):
        window, outputs, values, sights = (
            following.following(),
            list[Tensor](),
            list[Tensor](),
            list[Tensor](),
        )
        state, copy.numbers = state.detach(), target.copied

        def ports(x: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """What is said, its value, and the next state."""
            x = statistics.of(x) if statistics else x
            hidden, after = hand.tick(x, state)
            said = hand.head("objective", hidden)
            if objective == "a2c":
                return said, hand.head("value", hidden)[:, 0], after
            return said, double(said, copy.head("objective", copy.tick(x, state.detach())[0])), after

        for step in range(w * TICKS, (w + 1) * TICKS):
            sights.append(seen)
            logits, value, state = ports(seen, state)
            outputs.append(logits)
            values.append(value)
            action = chosen(logits, "m", step) if objective == "a2c" else explored(logits.detach(), step)
            shown, reward, *ends, info = world.step(action.numpy())
            terminated, truncated = map(torch.from_numpy, ends)
            ended, last = terminated | truncated, torch.from_numpy(shown.copy())
            seen, cut = last, ended
            if autoreset == "same_step" and ended.any():
                last = last.clone()
                for row in ended.nonzero().flatten().tolist():
                    last[row] = torch.from_numpy(info["final_obs"][row])
            if autoreset == "next_step":
                cut = resets
            final = ports(last, state)[1].detach()
            window.add(action, torch.from_numpy(reward.copy()), terminated, truncated, ~resets, final)
            state = torch.where(cut.unsqueeze(1), 0.0, state)
            resets = ended if autoreset == "next_step" else resets
        logits, actions = torch.stack(outputs), torch.stack(window.actions)
        if objective == "a2c":
            judged = window.judged(torch.stack(values).detach(), **DEFAULTS)
            loss = loss_of(log_prob(logits, actions), entropy(logits), torch.stack(values), judged)
        else:
            _, returns, valid = window.judged(torch.stack(values), discount=Q["discount"], trace=Q["trace"])
            loss = (logits.gather(2, actions.unsqueeze(2))[..., 0] - returns)[valid].square().mean()
        follow(optimiser, loss)
        target.follow()
        if statistics is not None:
            statistics.add(sights)
        simulation.run(TICKS)
        assert_close(simulation.agents["m"], hand.numbers, 1e-9)
