"""A locked split trains as the model in a plain loop does; it comes back as the user's own model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.nets.random import seed_for
from tests.engine.split.models import GPT, ResNet, TwoInputs, UNet, ViT

ADAM = {"kind": "adam", "lr": 0.003}


def pictures() -> Any:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randn(64, 1, 8, 8, generator=numbers)
    return from_tensors(image=image, label=torch.arange(64) % 10, test=0.1, validation=0.1)


def text() -> Any:
    data = torch.randint(0, 7, (64, 7), generator=torch.Generator().manual_seed(0))
    return from_tensors(
        tokens=data[:, :-1], following=data[:, 1:], training_only=["following"], test=0.1, validation=0.1
    )


def seeded_at(model: nn.Module, cuts: list[str], step: list[int]) -> None:
    """Seed torch where the parts begin, as the agents do at every tick."""

    def seed(part: int) -> Callable[..., None]:
        def hook(*_: object) -> None:
            torch.manual_seed(seed_for(seed_for(0, "agent", f"part{part}"), "tick", str(step[0])))

        return hook

    model.register_forward_pre_hook(seed(0))
    for i, name in enumerate(cuts):
        model.get_submodule(name).register_forward_pre_hook(seed(i + 1))


def trained_plainly(
    model: nn.Module, cuts: list[str], run: Simulation, steps: int, loss: Callable[[nn.Module, Any], Tensor]
) -> nn.Module:
    step = [0]
    seeded_at(model, cuts, step)
    optimiser = torch.optim.Adam(model.double().train().parameters(), lr=ADAM["lr"], fused=True)
    for step[0] in range(steps):
        signals = {name: value.clone() for name, value in run.world.step_signals.signals.items()}
        optimiser.zero_grad()
        loss(model, signals).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        run.step()
    return model


def of_pictures(model: nn.Module, signals: dict[str, Tensor]) -> Tensor:
    return F.cross_entropy(model(signals["image"]), signals["label"])


@pytest.mark.parametrize("backend", ["cohort", "reference"])
@pytest.mark.parametrize(
    ("make", "at"),
    [
        (ResNet, ["layer1.1", "layer2.0.conv2", "fc"]),
        (UNet, ["bottom", "up2"]),
        (ViT, ["blocks.1", "blocks.2.mlp"]),
    ],
)
def test_a_locked_split_trains_as_the_model_does(
    make: Callable[[], nn.Module], at: list[str], backend: str
) -> None:
    torch.manual_seed(0)
    model = make()
    scenario = antiphon.split(model, at, env=pictures(), coupling="locked", batch=8, optimiser=ADAM)
    with Simulation(scenario, dtype=torch.float64, backend=backend) as run:
        plain = trained_plainly(model, at, run, 50, of_pictures)
        joined = antiphon.join(run).double()
        loaded = antiphon.join(run, into=make().double())
    assert type(joined) is type(model)
    assert list(joined.state_dict()) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value, atol=1e-10, rtol=0)
