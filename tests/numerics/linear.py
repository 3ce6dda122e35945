"""Linear agents by hand: what they say, plain gradient descent, and an agent that sends on what it reads.

B batch; parameters by name, such as `to_b.weight` of the message to b.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from tests.contracts.builders import Document, document
from tests.contracts.twins import made

LINEAR: Document = {"kind": "mlp", "hidden": [], "norm": "none"}
GOAL: Document = {"kind": "regression", "target": "y"}
Numbers = dict[str, Tensor]


def simulation_of(
    agents: Document,
    channels: list[Document],
    source: Any,
    backend: str = "cohort",
    share: Sequence[Sequence[str]] = (),
    **training: Any,
) -> Simulation:
    """A simulation in float64 of agents that are linear unless they have a network, in the environments of a source."""
    agents = {name: {"network": LINEAR, **agent} for name, agent in agents.items()}
    channels = [
        c if c.get("key") == "state" or "sample" in c else {"norm": "none", "size": 2, **c} for c in channels
    ]
    scene = document(
        agents,
        channels,
        source,
        **{"batch": getattr(source, "batch", None), "optimiser": sgd(0.1), **training},
    )
    return made({**scene, "share": share}, backend)


def sgd(lr: float) -> Document:
    """Plain gradient descent."""
    return {"kind": "sgd", "lr": lr}


def leaves(model: Any) -> Numbers:
    """Copies of the parameters of an agent or predictor that a gradient can be taken of."""
    return {name: p.detach().clone().requires_grad_() for name, p in model.parameters.items()}


def said(p: Numbers, head: str, *inputs: Tensor) -> Tensor:
    """What one head of a linear network says of inputs side by side."""
    return F.linear(torch.cat(inputs, -1), p[f"{head}.weight"], p.get(f"{head}.bias"))


def normed(p: Numbers, buffers: dict[str, Tensor] | None, x: Tensor, head: str) -> Tensor:
    """What a layer with batch norm says; `buffers`: running statistics, which it moves; None: a replay, which moves none."""
    hidden = F.linear(x, p["0.weight"], p.get("0.bias"))
    if buffers is not None:
        for name, value in (("mean", hidden.mean(0)), ("var", hidden.var(0))):
            buffers[f"0.norm.{name}"] = (0.9 * buffers[f"0.norm.{name}"] + 0.1 * value).detach()
    hidden = F.batch_norm(hidden, None, None, p["0.norm.gain"], p["0.norm.bias"], True)
    return said(p, head, torch.tanh(hidden))


def descend(p: Numbers, loss: Tensor, lr: float = 0.1) -> Numbers:
    """The parameters after one step of gradient descent."""
    found = torch.autograd.grad(loss, list(p.values()), allow_unused=True, retain_graph=True)
    return {
        name: (value if g is None else value - lr * g).detach().requires_grad_()
        for (name, value), g in zip(p.items(), found, strict=True)
    }


def assert_close(model: Any, p: Numbers, tolerance: float = 1e-12) -> None:
    """Hold parameters to those by hand: the same sums in another order, in float64."""
    assert model.parameters.keys() == p.keys()
    for name, value in model.parameters.items():
        torch.testing.assert_close(value.detach(), p[name].detach(), atol=tolerance, rtol=tolerance, msg=name)
