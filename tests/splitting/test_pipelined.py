"""Splits whose parts work at the same time, each on another sample."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

import antiphon
from antiphon import Simulation
from tests.splitting.models import ResNet, UNet
from tests.splitting.parts import pictures

STILL = {"kind": "sgd", "lr": 1e-30}
CASES = [(ResNet, ["layer1.1", "layer2.0.conv2", "fc"]), (UNet, ["bottom", "up2"])]
"""The second has a skip from part 0 to part 2; the first one inside a block."""


def losses(make: Callable[[], nn.Module], at: list[str], delay: int, steps: int) -> list[float]:
    torch.manual_seed(0)
    scenario = antiphon.split(
        make(), at, env=pictures(), delay=delay, coupling="detached", batch=4, optimiser=STILL
    )
    found = []
    with Simulation(scenario) as run:
        for _ in range(steps):
            loss = run.step()["losses"].get(f"part{len(at)}")
            found += [] if loss is None else [float(loss)]
    return found


@pytest.mark.long
@pytest.mark.parametrize(("make", "at"), CASES)
def test_every_sample_keeps_its_label_and_its_skips(make: Callable[[], nn.Module], at: list[str]) -> None:
    """While nothing learns, a pipeline has the losses of the whole model, so many steps later."""
    whole, pipelined = losses(make, at, 0, 6), losses(make, at, 1, 6 + len(at))
    assert len(whole) == 6
    assert pipelined == pytest.approx(whole, rel=1e-5)


def test_a_skip_takes_as_many_steps_as_the_parts_that_it_passes() -> None:
    scenario = antiphon.split(UNet(), CASES[1][1], env=pictures(), delay=1, gradient="local", batch=4)
    delays = {(channel.sender, channel.receiver): channel.link.delay for channel in scenario.channels}
    assert delays == {("part0", "part1"): 1, ("part0", "part2"): 2, ("part1", "part2"): 1}
