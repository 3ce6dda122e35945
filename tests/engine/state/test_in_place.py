"""Parameters and buffers changed in place between two steps count from the next one on, as in a fork made after the change."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from antiphon import Simulation
from tests.contracts.builders import Document, Play, ring
from tests.contracts.twins import made
from tests.reference.backend import Chosen, reference

UNROLLED: Document = {"clock": {"unroll": 4}, "network": {"kind": "mlp", "hidden": [5], "norm": "batch"}}
SCENE = ring(
    count=2, agent=UNROLLED, channel={"gradient": {"kind": "linear", "context": ["label"]}}, env=Play()
)


def halved(p: Tensor) -> None:
    with torch.no_grad():
        p.mul_(0.5)


def halved_data(p: Tensor) -> None:
    p.data.mul_(0.5)


def numbers(simulation: Simulation) -> dict[str, Tensor]:
    """All parameters and buffers of the agents and of the predictors."""
    agents, channels = simulation.agents.items(), simulation.channels.items()
    models = [*agents, *((name, c.synthetic_gradient) for name, c in channels if c.synthetic_gradient)]
    return {
        f"{name}.{key}": value
        for name, model in models
        for key, value in {**model.parameters, **model.buffers}.items()
    }


def check_change_counts(
    simulation: Simulation,
    unchanged: Simulation,
    change: Callable[[Tensor], None],
) -> None:
    """Check that parameters changed within a window count from the next step on, as in a fork, where the window is replayed."""
    for p in simulation.agents["n0"].parameters.values():
        change(p)
    fork = simulation.fork()
    for one in (simulation, fork, unchanged):
        one.run(steps=6, progress=False)
    own, twin, other = map(numbers, (simulation, fork, unchanged))
    assert all(torch.equal(own[name], twin[name]) for name in own)
    assert not torch.equal(own["n0.0.weight"], other["n0.0.weight"])


@pytest.mark.cases(1)
@pytest.mark.parametrize("backend", [reference, "cohort", "native"])
@pytest.mark.parametrize("change", [halved, halved_data])
@pytest.mark.parametrize("steps", [1, 3])
def test_a_change_within_a_window_is_as_before_a_fork(
    backend: Chosen, change: Callable[[Tensor], None], steps: int
) -> None:
    with made(SCENE, backend) as simulation, made(SCENE, backend) as unchanged:
        for one in (simulation, unchanged):
            one.run(steps=steps, progress=False)
        check_change_counts(simulation, unchanged, change)
