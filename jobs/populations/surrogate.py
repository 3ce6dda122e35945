"""Library scenario `surrogate`, which the population `toy` trains: figure 2 of Jaderberg et al. 2017."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from antiphon.envs.data import from_tensors
from antiphon.scenarios import Scenario


class Number(nn.Module):
    """A learned number, the same for every input."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        """Return [batch, 1] from an input [batch, …]."""
        return self.value.expand(len(x), 1)


def surrogate(*, h0: float = 1.0, h1: float = 1.0, lr: float = 0.01, steps: int = 200) -> Scenario:
    """Two learned numbers, 0.9 at first, minimise a weighted sum of their squares. The error is the mean of the squares.

    Args:
        h0: Weight of the square of the first number.
        h1: Weight of the square of the second number.
        lr: Learning rate.
        steps: Steps of training.
    """
    agents: Any = {
        name: {
            "observes": ["x"],
            "network": Number(0.9),
            "objective": {"kind": "regression", "target": "zero", "scale": scale},
        }
        for name, scale in (("theta0", h0), ("theta1", h1))
    }
    training: Any = {"batch": 1, "steps": steps, "optimiser": {"kind": "sgd", "lr": lr}}
    env = from_tensors(x=torch.ones(4, 1), zero=torch.zeros(4, 1))
    return Scenario(scenario="surrogate", env=env, agents=agents, channels=(), training=training)
