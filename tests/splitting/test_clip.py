"""Clipping of parts that are locked: `clip_grad_norm_` over the whole model, in a plain loop."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon import Simulation
from tests.reference.backend import Chosen, reference

STEPS = 12


class Words(nn.Module):
    """Tokens through two layers; the head's weight is the embedding's, where they are tied."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.embed, self.layers = nn.Embedding(7, 8), nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.head = nn.Linear(8, 7, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, words: Tensor) -> Tensor:
        x = self.embed(words)
        for layer in self.layers:
            x = torch.tanh(layer(x))
        return self.head(x)


OPTIMISERS: dict[str, tuple[dict[str, Any], Any]] = {
    "sgd": ({"kind": "sgd", "lr": 0.5}, lambda ps: torch.optim.SGD(ps, lr=0.5)),
    "adam": ({"kind": "adam", "lr": 0.01}, lambda ps: torch.optim.Adam(ps, lr=0.01)),
    "RMSprop": ({"kind": "RMSprop", "lr": 0.01}, lambda ps: torch.optim.RMSprop(ps, lr=0.01)),
}


def words() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randint(7, (16, 5)), torch.randint(7, (16, 5))


def split_words(model: nn.Module, optimiser: dict[str, Any], **settings: Any) -> antiphon.Scenario:
    tokens, target = words()
    tokens[0, 0] = target[0, 0] = 6
    env = antiphon.envs.from_tensors(
        words=tokens, target=target, training_only=["target"], test=0, validation=0
    )
    return antiphon.split(
        model,
        at=["layers.0", "layers.1", "head"],
        env=env,
        objective="target",
        coupling="locked",
        class_axis=-1,
        batch=16,
        steps=STEPS,
        optimiser=optimiser,
        **settings,
    )


def plain_loop(model: nn.Module, optimiser: torch.optim.Optimizer, clip: float) -> None:
    tokens, target = words()
    tokens[0, 0] = target[0, 0] = 6
    for _ in range(STEPS):
        optimiser.zero_grad()
        F.cross_entropy(model(tokens).transpose(1, 2), target).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()


@pytest.mark.cases(1)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("name", "backend"), [(n, "cohort") for n in OPTIMISERS] + [("sgd", reference), ("adam", "native")]
)
def test_locked_parts_are_clipped_as_one_model(name: str, backend: Chosen, *, tied: bool) -> None:
    torch.manual_seed(0)
    model = Words(tied=tied).double()
    settings, make = OPTIMISERS[name]
    scenario = split_words(model, {**settings, "clip": 0.2})
    with Simulation(scenario, backend=backend, dtype=torch.float64) as run:
        run.run(steps=STEPS, progress=False)
        joined = antiphon.join(run)
    wanted = copy.deepcopy(model)
    plain_loop(wanted, make(wanted.parameters()), 0.2)
    for key, value in wanted.state_dict().items():
        torch.testing.assert_close(joined.state_dict()[key], value, rtol=0, atol=1e-10)
