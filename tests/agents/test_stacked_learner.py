"""Stacked learners: the members' parameters are views, may be replaced, and step as they would alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.learner import Learner, StackedLearner
from antiphon.errors import DivergenceError
from tests.contracts.builders import LABEL, OWN, Document, document, ring
from tests.contracts.twins import made
from tests.engine.numbers import close, kept
from tests.engine.scenes import BATCH_NORM, gradient
from tests.engine.stacks import system_of

COUNT = 5
OPTIMISERS: dict[str, Document] = {
    "sgd": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"kind": "adam", "lr": 0.01, "clip": 0.5},
    "adamw, scheduled": {"kind": "adamw", "lr": 0.01, "schedule": {"kind": "linear", "factor": 0.1}},
}


def learners(**agent: Any) -> list[Learner]:
    system = system_of(ring(COUNT, agent=agent, channel={"norm": "batch"}))
    return [agent.learner for agent in system.agents.values()]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(learner: Learner) -> dict[str, Any]:
    return kept(learner.state_dict())


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for place, value in one.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            close(value, other[place])
        else:
            assert value == other[place], place


# --- views -----------------------------------------------------------------------------------------------


def test_members_parameters_are_views_of_the_stack() -> None:
    own = learners(**BATCH_NORM)
    before = [numbers(learner) for learner in own]
    stack = StackedLearner(own)
    for n, learner in enumerate(own):
        assert_close(numbers(learner), before[n])
        for (name, stacked), p in zip(stack.parameters.items(), learner.parameters.values(), strict=True):
            assert torch.equal(stacked[n], p), name
            with torch.no_grad():
                stacked[n].add_(1.0 + n)
                assert torch.equal(stacked[n], p)
                p.mul_(2.0)
            assert torch.equal(stacked[n], p)
            assert p.requires_grad


# --- steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMISERS)
def test_members_step_as_their_own_optimisers_would(name: str) -> None:
    """All, some and none by turns; counts of steps and clipping are each one's own."""
    alone = learners(optimiser=OPTIMISERS[name])
    own = learners(optimiser=OPTIMISERS[name])
    stack = StackedLearner(own)
    turns = [None, [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], None, [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    for now, turn in enumerate(turns):
        gradients = [3 * drawn(*p.shape, seed=10 * now + i) for i, p in enumerate(stack.trainable)]
        members = None if turn is None else torch.tensor(turn) > 0
        for n, learner in enumerate(alone):
            if turn is None or turn[n]:
                learner.step([g[n] for g in gradients], now)
            else:
                for g in gradients:
                    g[n] = torch.nan  # of whom nothing may be read
        stack.step(gradients, now, members)
    assert stack.taken.tolist() == [learner.updates for learner in alone]
    assert [learner.updates for learner in own] == [0] * COUNT
    stack.write_members()
    assert stack.taken.tolist() == [0] * COUNT
    for one, other in zip(own, alone, strict=True):
        assert_close(numbers(one), numbers(other))


def test_a_frozen_stack_has_nothing_to_move() -> None:
    own = learners(learn=False)
    stack = StackedLearner(own)
    assert stack.frozen
    assert stack.trainable == []
    assert not any(p.requires_grad for p in stack.parameters.values())
    stack.step([], 0, None)


# --- running statistics -------------------------------------------------------------------------


def two_rings() -> Document:
    agents = {f"n{i}": {**OWN, "objective": LABEL} for i in range(4)}
    layer = {"kind": "mlp", "hidden": [5], "norm": "layer"}
    agents |= {f"z{i}": {**OWN, "network": layer, "objective": LABEL} for i in range(4)}
    return document(
        agents,
        [
            {"from": f"{k}{i}", "to": f"{k}{(i + 1) % 4}", "size": 4, "link": {"delay": 1}, **gradient()}
            for k in "nz"
            for i in range(4)
        ],
    )


@pytest.mark.parametrize("sick", ["n0", "z3"])
def test_where_one_diverges_no_parameter_has_moved(sick: str) -> None:
    with made(two_rings(), "cohort") as simulation:
        simulation.run(5)
        for p in simulation.agents[sick].parameters.values():
            p.data.fill_(torch.nan)
        before = [p.clone() for agent in simulation.agents.values() for p in agent.parameters.values()]
        with pytest.raises(DivergenceError, match=f"agent '{sick}'"):
            simulation.step()
        after = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
