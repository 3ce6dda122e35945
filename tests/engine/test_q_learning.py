"""Learners of values and policies with masked choices: legal actions, buffers, exports; their numbers are held to loops by hand in tests/numerics."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.distributions import Categorical, EpsilonGreedy
from antiphon.agents.network import NEVER
from antiphon.agents.q_learning import ReplayBuffer
from tests.contracts.builders import Document
from tests.kit.tiers import sampled

VALUES: Document = {"kind": "q", "epsilon": 0.5, "explore": 20}


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name",
    ["mask before", "mask between", pytest.param("recurrent", marks=pytest.mark.nightly), "of one's own"],
)
def test_no_choice_that_is_not_legal_is_explored(name: str) -> None:
    """The world of these raises at one."""
    with Simulation(board(PLAYERS[name][0], VALUES)) as simulation:
        simulation.run(steps=60, progress=False)
        assert simulation.agents["player"].updates > 0
        assert simulation.evaluate(episodes=1).return_ >= 0


def test_actions_are_explored_as_often_as_epsilon_says() -> None:
    outputs = torch.tensor([[0.0, 2.0, NEVER, 1.0]]).expand(30000, -1)
    uniforms = torch.rand(30000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = EpsilonGreedy(4, 0.3).sample(outputs, uniforms).bincount(minlength=4) / 30000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.8, 0.0, 0.1]), atol=0.01, rtol=0)


# --- masked choices --------------------------------------------------------------------------------------


CHOICES = 5


class Board(gymnasium.Env[Any, Any]):
    """A move may be made once; it raises where it is made again. A right move is the first that is legal."""

    observation_space = spaces.Dict(
        {
            "taken": spaces.Box(0, 1, (CHOICES,), np.float32),
            "action_mask": spaces.MultiBinary(CHOICES),
            "picture": spaces.Box(0, 1, (1, 4, 4), np.float32),
            "narrow": spaces.MultiBinary(3),
            "of_classes": spaces.MultiDiscrete([2] * CHOICES),
        }
    )

    def __init__(self, kind: str = "one") -> None:
        every: dict[str, spaces.Space[Any]] = {
            "one": spaces.Discrete(CHOICES),
            "two": spaces.MultiDiscrete([2, 3]),
            "number": spaces.Box(-1, 1, (1,), np.float32),
            "parts": spaces.Dict({"arm": spaces.Discrete(CHOICES), "leg": spaces.Discrete(2)}),
        }
        self.action_space = every[kind]

    def _shown(self) -> dict[str, Any]:
        return {
            "taken": 1 - self.legal.astype(np.float32),
            "action_mask": self.legal.astype(np.int8),
            "picture": np.zeros((1, 4, 4), np.float32),
            "narrow": np.ones(3, np.int8),
            "of_classes": self.legal.astype(np.int64),
        }

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.legal = np.ones(CHOICES, bool)
        self.legal[self.np_random.integers(CHOICES)] = False
        if isinstance(self.action_space, spaces.MultiDiscrete):
            self.legal = np.array([True, False, False, True, True])
        return self._shown(), {"action_mask": self.legal}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if isinstance(self.action_space, spaces.MultiDiscrete):
            assert action[0] == 0
            assert action[1] in (1, 2)
            return self._shown(), float(action[1]), False, False, {}
        assert self.legal[action], f"{action} is not legal"
        right = action == int(self.legal.argmax())
        self.legal[action] = False
        return self._shown(), float(right), not self.legal.any(), False, {}


antiphon.envs.register("tests/Board-v0", Board)


def board(agent: Mapping[str, Any] = {}, objective: Mapping[str, Any] = {}, **env: Any) -> Scenario:
    goal = {"kind": "ppo", "mask": "action_mask", **objective}
    player = {"observes": ["taken"], "acts": True, "objective": goal, "clock": {"unroll": 10}, **agent}
    return Scenario(
        scenario="board",
        env={"id": "tests/Board-v0", **env},
        agents={"player": player},
        training={"batch": 4, "steps": 200},
    )


class Plain(nn.Module):
    """A network of one's own, which has a logit for each choice and a value."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return 9 * self.layer(x)


PLAYERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ppo": ({}, {}),
    "a2c with a critic": ({}, {"kind": "a2c", "critic": {"observes": ["taken"]}}),
    "reinforce": ({}, {"kind": "reinforce"}),
    "mask before": ({"observes": ["action_mask", "taken"]}, {}),
    "mask between": ({"observes": ["of_classes", "action_mask", "taken"], "normalise": ["taken"]}, {}),
    "recurrent": ({"network": {"kind": "gru", "size": 8}}, {}),
    "of one's own": ({"network": Plain}, {}),
}


@pytest.mark.parametrize("name", sampled(PLAYERS, often=2))
def test_no_choice_that_is_not_legal_is_taken(name: str) -> None:
    with Simulation(board(*PLAYERS[name])) as simulation:
        simulation.run(steps=60, progress=False)
        assert simulation.agents["player"].updates > 0
        assert simulation.evaluate(episodes=1).return_ >= 0


@pytest.mark.long
def test_masked_probabilities_are_those_of_the_legal_choices(tmp_path: Path) -> None:
    with Simulation(board(), dtype=torch.float64) as simulation:
        network = simulation.agents["player"].module
        x = torch.rand(6, 2 * CHOICES, dtype=torch.float64)
        legal = torch.rand(6, CHOICES).argsort(1) < 3
        x[:, CHOICES:] = legal.double()
        logits = network(x)["objective"]
        plain = logits[legal].view(6, 3)
        choice = torch.randint(3, (6,))
        place = legal.nonzero()[:, 1].view(6, 3).gather(1, choice[:, None]).squeeze(1)
        every, few = Categorical(CHOICES), Categorical(3)
        log_prob, entropy = found = every.log_prob_and_entropy(logits, place)
        torch.testing.assert_close(found, few.log_prob_and_entropy(plain, choice))
        loss = (entropy - log_prob).sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)
        nothing = torch.zeros(1, 2 * CHOICES, dtype=torch.float64)
        even = network(nothing)["objective"].softmax(1)
        torch.testing.assert_close(even, torch.full_like(even, 1 / CHOICES))


# --- the replay buffer -----------------------------------------------------------------------------------


def test_a_window_that_taught_an_agent_nothing_takes_no_place_in_its_buffer() -> None:
    """A buffer without a window teaches nothing."""
    window = {"unseen": torch.zeros(2, 3, dtype=torch.bool), "inputs": torch.ones(2, 3, 1)}
    buffer = ReplayBuffer.like(window, 2)
    assert buffer.drawn(torch.arange(2), torch.tensor([0.0, 0.9]))["unseen"].all()
    for number, taught in enumerate(([True, True], [True, False], [True, True]), 1):
        buffer.add({**window, "inputs": torch.full((2, 3, 1), float(number))}, torch.tensor(taught))
    places = [
        buffer.drawn(torch.arange(2), torch.full((2,), share))["inputs"][0, :, 0] for share in (0.0, 0.9)
    ]
    assert torch.stack(places).tolist() == [[3, 1], [2, 3]]
