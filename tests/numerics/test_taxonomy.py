"""Rows of table 1 of Czarnecki et al. 2017 through channels: what backpropagating L_SG into a message gives.

h is a message, g = h W + b the receiver's first pre-activation, p an objective's output, y its target. Gradients are per
sample: N times those of a loss that is a mean over the N examples.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.numerics.linear import LINEAR, leaves, said, sgd
from tests.numerics.whole import Whole, drawn, followed, run_of

N, RATE = 30, 0.01
EXACT: dict[str, Any] = {"atol": 1e-11, "rtol": 0}


def inner(target: Tensor, said: Tensor) -> Tensor:
    """L_SG(t, s) = -<t, s> of the rows in which SG does not train, with the target a constant."""
    return -(target.detach() * said).sum()


@pytest.mark.parametrize("coupling", ["decoupled", "locked"])
def test_the_rows_of_the_taxonomy_give_the_gradients_of_our_couplings(coupling: str) -> None:
    """SG: dL/dh is SG(h, y), whose target is dL/dh. Bprop: what -<t, h> gives for the target t = -dL/dh."""
    source = Whole(drawn(5, N, 3), drawn(6, N, 2))
    training = {"optimiser": sgd(RATE)}
    simulation = run_of(source, {"f": LINEAR}, nn.Linear(2, 2), (coupling,), sizes=(2,), training=training)
    simulation.run(20)
    probe, f = simulation.probe()["f->judge"], leaves(simulation.agents["f"])
    told = probe.synthetic if coupling == "decoupled" else probe.true
    assert told is not None
    expected = torch.autograd.grad(inner(-told, said(f, "to_judge", source.x)) / N, list(f.values()))
    found = followed(simulation, RATE)["f"]
    for own, wanted in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(own, wanted, **EXACT)
    if coupling == "decoupled":
        gradient = simulation.channels["f->judge"].messages[20].gradient
        torch.testing.assert_close(gradient, probe.true, **EXACT)
