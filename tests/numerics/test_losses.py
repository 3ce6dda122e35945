"""What an objective says of a window, by hand (semantics 1, 19, 21)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, assert_close, descend, leaves, said, simulation_of
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, STEPS, played
from tests.reference.backend import Chosen, reference


def masked(present: Tensor) -> Played:
    """Targets that are no number where there is none."""
    source = played(endless=True)
    source.shown["y"] = torch.where(present.unsqueeze(2), source.shown["y"], torch.nan)
    source.shown["_y"] = present
    return source


SOME = torch.zeros(STEPS, BATCH, dtype=torch.bool)
SOME[0, :3] = SOME[2, 1] = True


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("weight", [1.0, 0.25])
@pytest.mark.parametrize("present", [torch.ones(STEPS, BATCH, dtype=torch.bool), SOME], ids=["all", "some"])
def test_losses_are_summed_over_ticks_and_divided_by_the_batch_however_few_have_a_target(
    present: Tensor, weight: float, backend: Chosen
) -> None:
    """The score is the mean of what has a target, and has no weight."""
    source = masked(present)
    agents = {"a": {"observes": ["x"], "clock": {"unroll": 3}, "objective": {**GOAL, "scale": weight}}}
    with simulation_of(agents, [], source, backend) as simulation:
        p = leaves(simulation.agents["a"])
        losses = []
        for step in range(3):
            seen = source.at(step)
            each = (said(p, "objective", seen["x"]) - seen["y"].nan_to_num()).square().mean(1)
            losses.append(torch.where(present[step], each, 0.0))
            info = simulation.step()
        total = weight * torch.stack(losses).sum() / BATCH
        torch.testing.assert_close(info["losses"]["a"], total.detach(), atol=1e-13, rtol=0)
        assert_close(simulation.agents["a"], descend(p, total))


@pytest.mark.parametrize(("when", "counted"), [("each", range(6)), ("last", (2, 5))])
def test_only_an_examples_last_step_counts_where_that_is_asked(when: str, counted: Any) -> None:
    env = {"id": "antiphon/Digits-v0", "hold": 3, "episode": "example"}
    goal: Document = {"kind": "classification", "target": "label", "read": when}
    found = []
    for own in (goal, {**goal, "read": "each"}):
        agents = {"a": {"observes": ["image"], "objective": own}}
        with simulation_of(agents, [], env, batch=4, optimiser={"kind": "sgd", "lr": 1e-300}) as simulation:
            found.append([float(simulation.step()["losses"].get("a", 0.0)) for _ in range(6)])
    assert found[0] == [loss if step in counted else 0.0 for step, loss in enumerate(found[1])]
    assert min(found[1]) > 0
