"""The loss that a network returns itself, against loops by hand; and agents that learn from nothing else."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from tests.contracts.builders import Document
from tests.numerics.linear import GOAL, Numbers, assert_close, descend, leaves, said, simulation_of
from tests.numerics.loops import squared
from tests.numerics.played import Played
from tests.numerics.recurring import BATCH, played
from tests.numerics.whole import DOUBLE
from tests.reference.backend import Chosen, reference

SCALE, UNROLL, RATE = 0.3, 3, 0.1
OWN: Document = {"kind": "own_loss", "scale": SCALE}
SOURCE = played(endless=True)


class Penalised(nn.Module):
    """A hidden layer with its squared length as loss; `carried`: it is the state, of a size that the module alone knows."""

    def __init__(self, inputs: int, outputs: int, carried: int = 0) -> None:
        super().__init__()
        self.state_size, self.outputs = carried, outputs
        self.into, self.out = nn.Linear(inputs + carried, 5), nn.Linear(5, outputs or 1)

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, ...]:
        hidden = torch.tanh(self.into(x if state is None else torch.cat([x, state], 1)))
        carried = [] if state is None else [hidden]
        return self.out(hidden)[:, : self.outputs], *carried, hidden.square().sum(1)


RECURRENT = partial(Penalised, carried=5)


def call(p: Numbers, outputs: int, *inputs: Tensor) -> Any:
    """What a penalised agent's module returns with these parameters."""
    own = {name.removeprefix("module."): value for name, value in p.items()}
    module = Penalised(own["into.weight"].shape[1], outputs).double()
    return functional_call(module, own, inputs)


def with_gaps() -> Played:
    shown = played().shown
    return Played({**shown, "_y": shown["hint"][..., 0] > 0}, ("y", "hint", "_y"), endless=True)


@pytest.mark.parametrize(
    ("objectives", "source", "backend"),
    [
        ([GOAL, OWN], SOURCE, "cohort"),
        ([GOAL, OWN], with_gaps(), reference),
        ([OWN], SOURCE, "cohort"),
        ([OWN], SOURCE, reference),
        ([{**OWN, "target": "y"}], with_gaps(), "cohort"),
    ],
)
def test_every_tick_of_a_window_counts(objectives: list[Document], source: Played, backend: Chosen) -> None:
    """With an objective and without one; with a target it counts where the target is."""
    agent = {"observes": ["x"], "network": RECURRENT, "clock": {"unroll": UNROLL}, "objective": objectives}
    with simulation_of({"a": agent}, [], source, backend) as simulation:
        p, state = leaves(simulation.agents["a"]), torch.zeros(BATCH, 5, dtype=DOUBLE)
        for _ in range(4):
            loss = torch.zeros((), dtype=DOUBLE)
            for _ in range(UNROLL):
                seen = source.at(simulation.now)
                output, state, own = call(p, 2 * (GOAL in objectives), seen["x"], state)
                own = torch.where(seen["_y"], own, 0.0) if "target" in objectives[-1] else own
                errors = squared(output, seen) if GOAL in objectives else torch.zeros_like(own)
                loss = loss + (errors + SCALE * own).sum() / BATCH
                info = simulation.step()
            assert float(info["losses"]["a"]) == pytest.approx(loss.item(), abs=1e-10)
            p, state = descend(p, loss), state.detach()
            assert_close(simulation.agents["a"], p, 1e-10)


@pytest.mark.parametrize("coupling", ["locked", "decoupled"])
def test_it_goes_back_to_the_senders_as_any_loss(coupling: str) -> None:
    agents = {
        "a": {"observes": ["x"], "network": Penalised, "objective": OWN},
        "b": {"network": Penalised, "objective": [GOAL, OWN]},
    }
    channel = {"from": "a", "to": "b", "coupling": coupling}
    channel |= {"gradient": {"kind": "linear", "context": ["hint"]}} if coupling == "decoupled" else {}
    with simulation_of(agents, [channel], SOURCE) as simulation:
        a, b = (leaves(simulation.agents[name]) for name in "ab")
        model = simulation.channels["a->b"].synthetic_gradient
        sg = {} if model is None else leaves(model)
        for step in range(8):
            seen = SOURCE.at(step)
            sent, own = call(a, 2, seen["x"])
            read = sent if coupling == "locked" else sent.detach().requires_grad_()
            output, other = call(b, 2, read)
            received = (squared(output, seen) + SCALE * other).sum() / BATCH
            loss = SCALE * own.sum() / BATCH
            if model is None:
                a, b = descend(a, loss + received), descend(b, received)
            else:
                (gradient,) = torch.autograd.grad(received, read, retain_graph=True)
                predicted = said(sg, "last", sent.detach(), seen["hint"])
                a = descend(a, loss + (sent * predicted.detach()).sum() / BATCH)
                sg = descend(sg, (predicted - BATCH * gradient).square().sum() / BATCH)
                b = descend(b, received)
            simulation.step()
            assert_close(simulation.agents["a"], a, 1e-10)
            assert_close(simulation.agents["b"], b, 1e-10)
            if model is not None:
                assert_close(model, sg, 1e-10)
