"""Which examples of a split an evaluation is limited to."""

from __future__ import annotations

import torch

from antiphon.engine.inference.evaluation import example_batches
from tests.engine.inference.test_evaluation import simulate, source


def test_a_limit_spreads_examples_evenly_over_the_split() -> None:
    with simulate(source(test=0.4)) as simulation:
        env = simulation.world.env
        whole, some_of_it = (
            torch.cat([batch["x"] for batch in example_batches(env, "test", limit, 100)])
            for limit in (None, 30)
        )
    assert torch.equal(some_of_it, whole[torch.arange(30) * len(whole) // 30])
