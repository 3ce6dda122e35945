"""Splits whose parts work at the same time, each on another sample; and the gradient that a split has by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from tests.contracts.twins import made, side_by_side
from tests.engine.split.models import ResNet, UNet

STILL = {"kind": "sgd", "lr": 1e-30}
CASES = [(ResNet, ["layer1.1", "layer2.0.conv2", "fc"]), (UNet, ["bottom", "up2"])]
"""The second has a skip from part 0 to part 2; the first one inside a block."""


def pictures(**more: Any) -> Any:
    numbers = torch.Generator().manual_seed(0)
    image = torch.randn(64, 1, 8, 8, generator=numbers)
    return from_tensors(image=image, label=torch.arange(64) % 10, test=0.1, validation=0.1, **more)


def losses(make: Callable[[], nn.Module], at: list[str], delay: int, steps: int) -> list[float]:
    torch.manual_seed(0)
    scenario = antiphon.split(
        make(), at, env=pictures(), delay=delay, coupling="detached", batch=4, optimiser=STILL
    )
    found = []
    with Simulation(scenario) as run:
        for _ in range(steps):
            run._advance()
            learned = dict(run.learned.by_agent())
            found += [float(loss) for name, loss in learned.items() if name == f"part{len(at)}"]
    return found


@pytest.mark.parametrize(("make", "at"), CASES)
def test_every_sample_keeps_its_label_and_its_skips(make: Callable[[], nn.Module], at: list[str]) -> None:
    """While nothing learns, a pipeline has the losses of the whole model, so many steps later."""
    whole, pipelined = losses(make, at, 0, 6), losses(make, at, 1, 6 + len(at))
    assert len(whole) == 6
    assert pipelined == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("gradient", ["local", {"kind": "sobolev_label", "target": "label", "pool": "mean"}])
def test_the_engines_agree_on_pipelines(gradient: Any) -> None:
    torch.manual_seed(0)
    scenario = antiphon.split(
        UNet(), CASES[1][1], env=pictures(), delay=1, gradient=gradient, batch=4, steps=6
    )
    delays = {(channel.sender, channel.receiver): channel.link.delay for channel in scenario.channels}
    assert delays == {("part0", "part1"): 1, ("part0", "part2"): 2, ("part1", "part2"): 1}
    side_by_side(made(scenario, "reference"), made(scenario, "cohort"), 6)


@pytest.mark.parametrize(
    ("objective", "kind"),
    [
        ({"kind": "classification", "target": "label"}, "local"),
        ({"kind": "coding", "target": "label"}, "local"),
        ({"kind": "regression", "target": "height"}, "linear"),
    ],
)
def test_labels_are_learned_from_local_losses_by_default(objective: dict[str, str], kind: str) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10))
    env = pictures(height=torch.randn(64, 10), training_only=["label", "height"])
    scenario = antiphon.split(model, [2], env=env, objective=objective, batch=4)
    (channel,) = scenario.channels
    assert channel.gradient.kind == kind
    explicit = antiphon.split(model, [2], env=env, objective=objective, batch=4, gradient="linear")
    assert explicit.channels[0].gradient.kind == "linear"
    with Simulation(scenario) as run:
        run.run(2)
