"""What is put on a message beside the plain prediction: clips, scales, symbols (rules 3, 42).

Senders are linear and follow plain gradient descent at rate 1: the step of their weights shows what was injected.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.nets.random import seed_for, uniform
from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, Numbers, assert_close, descend, leaves, said, sgd, simulation_of
from tests.numerics.recurring import BATCH, played
from tests.reference.backend import Chosen, reference

SOURCE = played(endless=True)
SEED = 3


def chain(names: str = "abcd", coupling: str = "decoupled", **gradient: Any) -> Simulation:
    """Agents one after the other, every second of which has an objective; the last always."""
    agents: Document = {name: {} for name in names}
    agents[names[0]]["observes"] = ["x"]
    for name in names[::-2]:
        agents[name]["objective"] = GOAL
    told = {"kind": "linear", "context": ["hint"], "optimiser": sgd(0.1), **gradient}
    channels = [{"from": s, "to": r, "coupling": coupling, "gradient": told} for s, r in pairwise(names)]
    return simulation_of(agents, channels, SOURCE, optimiser=sgd(0.05))


def injected(before: Numbers, simulation: Simulation, x: Tensor, head: str = "to_b") -> Tensor:
    """[outputs, inputs]: the sum over the batch of what was injected times what the sender saw, from the step of its weights."""
    after = simulation.agents["a"].parameters[f"{head}.weight"].detach()
    return (before[f"{head}.weight"].detach() - after) / 0.05 * len(x)


# --- the size of what is injected ------------------------------------------------------------------------------


def test_clips_shorten_what_is_long_and_a_scale_moves_by_its_schedule() -> None:
    """Per sample; the discount and what is returned have nothing of either."""
    schedule = {"kind": "steps", "at": [0.5], "scale": 0.25}
    lengths = []
    with chain("ab", clip=0.3, scale=2.0, schedule=schedule) as simulation:
        for step in range(14):
            a = leaves(simulation.agents["a"])
            sg, seen = leaves(simulation.channels["a->b"].synthetic_gradient), SOURCE.at(step)
            message = said(a, "to_b", seen["x"])
            predicted = said(sg, "last", message, seen["hint"]).detach()
            length = predicted.norm(dim=1, keepdim=True)
            lengths.append(length)
            short = torch.where(length > 0.3, predicted * 0.3 / length, predicted)
            scale = 2.0 if step < 7 else 0.5
            simulation.step()
            assert_close(simulation.agents["a"], descend(a, scale * (message * short).sum() / BATCH, 0.05))
    assert (torch.cat(lengths) > 0.3).any()
    assert ((torch.cat(lengths) < 0.3) & (torch.cat(lengths) > 0)).any()


# --- symbols ---------------------------------------------------------------------------------------------------


def straight_through(p: Numbers, x: Tensor, step: int) -> Tensor:
    """[B, 6]: two symbols of three, one-hot, with the gradient of the relaxed ones at temperature 0.5."""
    logits = said(p, "to_b", x).view(BATCH, 2, 3)
    noise = -torch.log(-torch.log(uniform(seed_for(SEED, "message", "a", "to_b"), step, BATCH * 6)))
    noisy = logits + noise.view(BATCH, 2, 3)
    soft = torch.softmax(noisy / 0.5, -1)
    return (soft + (F.one_hot(noisy.argmax(-1), 3).double() - soft).detach()).flatten(1)


@pytest.mark.parametrize("backend", ["cohort", reference])
@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_symbols_are_one_hot_and_their_gradient_passes_straight_through(
    coupling: str, backend: Chosen
) -> None:
    """Also where a window waits: when it is replayed, the same symbols are sent with the present logits."""
    channel = {
        "from": "a",
        "to": "b",
        "coupling": coupling,
        "sample": {"kind": "gumbel", "vocabulary": 3, "size": 2, "temperature": 0.5},
        "gradient": {"kind": "linear", "context": ["hint"], "optimiser": sgd(0.1)},
    }
    agents = {"a": {"observes": ["x"]}, "b": {"objective": GOAL}}
    with simulation_of(agents, [channel], SOURCE, backend) as simulation:
        waiting: tuple[Tensor, int] | None = None
        for step in range(6):
            a, b = (leaves(simulation.agents[name]) for name in "ab")
            message = straight_through(a, SOURCE.at(step)["x"], step)
            loss = (said(b, "objective", message) - SOURCE.at(step)["y"]).square().mean(1).sum() / BATCH
            (returned,) = torch.autograd.grad(loss, message, retain_graph=True)
            if coupling == "decoupled":
                sg = leaves(simulation.channels["a->b"].synthetic_gradient)
                put = said(sg, "last", message, SOURCE.at(step)["hint"]).detach() / BATCH
                a = descend(a, (message * put).sum())
            elif coupling == "locked":
                a = descend(a, loss)
            elif waiting is not None:
                put, stamp = waiting
                a = descend(a, (straight_through(a, SOURCE.at(stamp)["x"], stamp) * put).sum())
            waiting = returned, step
            simulation.step()
            assert_close(simulation.agents["a"], a, 1e-11)
            if coupling != "locked":
                value = simulation.channels["a->b"].messages[step].value
                torch.testing.assert_close(value, message.detach(), atol=1e-12, rtol=0)
