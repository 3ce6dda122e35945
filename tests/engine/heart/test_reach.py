"""Who takes a step in a stack: the members that a learning signal reaches, and no others (semantics 41).

With one environment to a seed, a target that is absent, or an episode that ends, leaves some seeds without any signal at a
step while others learn.
"""

from __future__ import annotations

import pytest
import torch

from antiphon import Scenario, Simulation
from tests.contracts.builders import Document, Play, levels, ring
from tests.kit.running import seeds_together

SEEDS = (1, 2, 3)
STEPS = 12
DETACHED: Document = {"coupling": "detached"}
DOCUMENTS: dict[str, Document] = {
    "targets that are absent": ring(2, channel=DETACHED, env=Play(gaps=0.5), batch=1),
    "episodes that end before a message is read": levels(
        channel={"gradient": {"kind": "linear"}, "link": {"delay": 1}}, count=2, env=Play(share=0.4), batch=1
    ),
}


def steps_of(simulation: Simulation) -> dict[str, int]:
    """How many optimiser steps each agent has taken."""
    return {name: agent.updates for name, agent in simulation.agents.items()}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_seeds_side_by_side_take_the_steps_that_each_takes_alone(name: str) -> None:
    scenario = Scenario.model_validate(DOCUMENTS[name])
    together = seeds_together(scenario, SEEDS, dtype=torch.float64)
    assert together is not None
    together.run(STEPS)
    taken = []
    for seed, beside in zip(SEEDS, together.simulations, strict=True):
        alone = Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(STEPS)
        taken.append(steps_of(alone))
        assert steps_of(beside) == taken[-1]
    assert len({tuple(one.values()) for one in taken}) > 1, "all seeds take as many steps: nothing is shown"
