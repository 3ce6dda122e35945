"""Learners own numbers: frozen ones keep them, and a round trip through their state loses none."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.feedforward import Mlp
from antiphon.agents.learner import Learner
from antiphon.agents.network import OBJECTIVE, Head, Network
from antiphon.errors import DivergenceError
from antiphon.nets.schedules import Rate, StepsSchedule
from tests.contracts.builders import ring
from tests.contracts.twins import made

DOUBLE = torch.float64


def learner(
    *, seed: int = 0, frozen: bool = False, network: Network | None = None, **optimiser: Any
) -> Learner:
    return Learner(
        network or Mlp((5,), (4,), (Head(OBJECTIVE, (3,)),)),
        torch.Generator().manual_seed(seed),
        optimiser={"kind": "adam", **optimiser},
        rate=Rate(base=0.1, run_steps=10, schedule=StepsSchedule(at=(0.5,))),
        frozen=frozen,
        device="cpu",
        dtype=DOUBLE,
    )


def train(own: Learner, x: Tensor, steps: range) -> None:
    for now in steps:
        ports, own.buffers = own.network(own.parameters, own.buffers, x, training=True)
        own.step(torch.autograd.grad(ports[OBJECTIVE].square().mean(), own.trainable), now)


def test_a_step_uses_the_rate_of_the_step_and_zeros_where_nothing_came() -> None:
    own = learner(kind="sgd")
    before = [p.detach().clone() for p in own.trainable]
    gradients: list[Tensor | None] = [torch.ones_like(p) for p in own.trainable]
    gradients[1] = None
    own.step(gradients, 5)
    assert own.updates == 1
    for i, (old, new) in enumerate(zip(before, own.trainable, strict=True)):
        torch.testing.assert_close(new.detach(), old if i == 1 else old - 0.01)


def test_a_frozen_learner_has_nothing_to_train_and_passes_gradients_on() -> None:
    own = learner(frozen=True)
    assert own.trainable == []
    assert not any(p.requires_grad for p in own.parameters.values())
    x = torch.randn(6, 5, dtype=DOUBLE, requires_grad=True)
    ports, _ = own.network(own.parameters, own.buffers, x, training=False)
    assert torch.autograd.grad(ports[OBJECTIVE].sum(), x)[0].abs().sum() > 0


@pytest.mark.parametrize(
    "optimiser", [{}, {"kind": "sgd", "momentum": 0.9}, {"kind": "adamw", "weight_decay": 0.1}]
)
def test_a_round_trip_through_its_state_continues_to_the_bit(optimiser: dict[str, Any]) -> None:
    x = torch.randn(6, 5, dtype=DOUBLE)
    straight, broken, fresh = learner(**optimiser), learner(**optimiser), learner(seed=9, **optimiser)
    train(straight, x, range(8))
    train(broken, x, range(4))
    fresh.load_state_dict(broken.state_dict())
    train(broken, x, range(4, 6))  # what was loaded is a copy
    train(fresh, x, range(4, 8))
    assert fresh.updates == 8
    for name, p in straight.parameters.items():
        assert torch.equal(p, fresh.parameters[name])
    for name, b in straight.buffers.items():
        assert torch.equal(b, fresh.buffers[name])


@pytest.mark.parametrize("sick", ["n0", "n3"])
def test_where_one_diverges_no_parameter_has_moved(sick: str) -> None:
    """Neither of its own stack nor of another, whichever is the first to step."""
    layers = [{"network": {"kind": "mlp", "hidden": [4], "norm": norm}} for norm in ("layer", "none")]
    with made(ring(agent=layers), "cohort") as simulation:
        simulation.run(5)
        for p in simulation.agents[sick].parameters.values():
            p.data.fill_(torch.nan)
        before = [p.clone() for agent in simulation.agents.values() for p in agent.parameters.values()]
        with pytest.raises(DivergenceError, match=f"agent '{sick}'"):
            simulation.step()
        after = [p for agent in simulation.agents.values() for p in agent.parameters.values()]
        torch.testing.assert_close(after, before, rtol=0, atol=0, equal_nan=True)
