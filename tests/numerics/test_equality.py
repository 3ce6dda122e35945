"""A chain with batch norm by hand: locked it is one module under plain autograd, decoupled a loop with synthetic gradients."""

from __future__ import annotations

import pytest
import torch

from antiphon import Simulation
from tests.contracts.builders import Document
from tests.numerics.linear import (
    GOAL,
    Numbers,
    assert_close,
    descend,
    leaves,
    normed,
    said,
    sgd,
    simulation_of,
)
from tests.numerics.recurring import BATCH, played

SOURCE = played(endless=True)
LAYER: Document = {"network": {"kind": "mlp", "hidden": [5], "norm": "batch", "activation": "tanh"}}
STEPS, SG_RATE = 20, 0.2


def chain(coupling: str, **gradient: float) -> Simulation:
    agents = {"a": {"observes": ["x"], **LAYER}, "b": LAYER, "c": {"objective": GOAL}}
    told = {"kind": "linear", "context": ["hint"], "optimiser": sgd(SG_RATE), **gradient}
    channels = [{"from": s, "to": r, "coupling": coupling, "gradient": told} for s, r in ("ab", "bc")]
    return simulation_of(agents, channels, SOURCE)


def numbers_of(simulation: Simulation) -> tuple[dict[str, Numbers], dict[str, Numbers]]:
    """Copies of parameters and running statistics by agent."""
    buffers = {n: {k: v.clone() for k, v in agent.buffers.items()} for n, agent in simulation.agents.items()}
    return {name: leaves(agent) for name, agent in simulation.agents.items()}, buffers


def check(simulation: Simulation, own: dict[str, Numbers], statistics: dict[str, Numbers]) -> None:
    for name, agent in simulation.agents.items():
        assert_close(agent, own[name], 1e-10)
        for key, value in agent.buffers.items():
            torch.testing.assert_close(value, statistics[name][key], atol=1e-10, rtol=0)


def test_a_locked_graph_equals_one_torch_module_under_plain_autograd() -> None:
    with chain("locked") as simulation:
        own, statistics = numbers_of(simulation)
        for step in range(STEPS):
            seen = SOURCE.at(step)
            to_b = normed(own["a"], statistics["a"], seen["x"], "to_b")
            to_c = normed(own["b"], statistics["b"], to_b, "to_c")
            loss = (said(own["c"], "objective", to_c) - seen["y"]).square().mean(1).sum() / BATCH
            own = {name: descend(p, loss) for name, p in own.items()}
            info = simulation.step()
            torch.testing.assert_close(info["losses"]["c"], loss.detach(), atol=1e-12, rtol=0)
        check(simulation, own, statistics)


@pytest.mark.parametrize(("scale", "discount"), [(1.0, 1.0), (0.25, 0.5)])
def test_a_decoupled_chain_equals_a_hand_written_loop(scale: float, discount: float) -> None:
    """What a layer returns counts its predictor with the discount, what it learns with the scale: at first exactly nothing."""
    with chain("decoupled", scale=scale, discount=discount) as simulation:
        own, statistics = numbers_of(simulation)
        start, (first, last) = own, (leaves(c.synthetic_gradient) for c in simulation.channels.values())
        for step in range(STEPS):
            seen = SOURCE.at(step)
            to_b = normed(own["a"], statistics["a"], seen["x"], "to_b")
            at_b = to_b.detach().requires_grad_()
            to_c = normed(own["b"], statistics["b"], at_b, "to_c")
            at_c = to_c.detach().requires_grad_()
            loss = (said(own["c"], "objective", at_c) - seen["y"]).square().mean(1).sum() / BATCH
            said_b, said_c = (
                said(p, "last", m, seen["hint"]) for p, m in ((first, to_b.detach()), (last, to_c.detach()))
            )
            put_b, put_c = ((m * s.detach()).sum() / BATCH for m, s in ((to_b, said_b), (to_c, said_c)))
            (returned_c,) = torch.autograd.grad(loss, at_c, retain_graph=True)
            (returned_b,) = torch.autograd.grad(discount * put_c, at_b, retain_graph=True)
            losses = {"a": scale * put_b, "b": scale * put_c, "c": loss}
            own = {name: descend(p, losses[name]) for name, p in own.items()}
            first = descend(first, (said_b - BATCH * returned_b).square().sum() / BATCH, SG_RATE)
            last = descend(last, (said_c - BATCH * returned_c).square().sum() / BATCH, SG_RATE)
            simulation.step()
            if step == 0:
                moved = {name: leaves(agent) for name, agent in simulation.agents.items()}
                assert all(
                    torch.equal(p, start[name][key]) for name in "ab" for key, p in moved[name].items()
                )
        check(simulation, own, statistics)
        for p, channel in zip((first, last), simulation.channels.values(), strict=True):
            assert_close(channel.synthetic_gradient, p, 1e-10)
