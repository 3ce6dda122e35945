"""One backward pass over one window, against autograd called by hand."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from antiphon.comms import backward_requests
from antiphon.comms.backward_requests import BackwardRequest, Injection

DOUBLE = torch.float64
BATCH = 6


class Window:
    """A network that received a leaf, has an objective and sent a message."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        self.parameters = list(self.network.parameters())
        self.leaf = torch.randn(BATCH, 4, dtype=DOUBLE, requires_grad=True)
        self.message: Tensor = self.network(self.leaf)
        self.objective: Tensor = self.message.square().sum() / BATCH
        self.gradient = torch.randn(BATCH, 3, dtype=DOUBLE)


def backward(
    objective: Tensor | None,
    injections: list[Injection],
    parameters: list[Tensor],
    values_read: list[Tensor],
    batch: int,
    module: Any = backward_requests,
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """The gradients of one window: of its parameters, and of what it read."""
    losses = [] if objective is None else [objective]
    request = BackwardRequest(
        losses=losses, injections=injections, parameters={"": parameters}, values_read=values_read
    )
    ((gradients, returned),) = module.backward_all([request], batch)
    return gradients[""], returned


def assert_equal(found: list[Tensor | None], expected: tuple[Tensor, ...] | list[Tensor]) -> None:
    for mine, theirs in zip(found, expected, strict=True):
        assert mine is not None
        torch.testing.assert_close(mine, theirs)


def test_channels_that_share_a_port_add_their_injections() -> None:
    w, twice = Window(), Window()
    other = torch.randn(BATCH, 3, dtype=DOUBLE)
    both = [Injection(w.message, w.gradient, 0.5, 1.0), Injection(w.message, other, 2.0, 0.0)]
    own, returned = backward(None, both, w.parameters, [w.leaf], BATCH)
    expected = torch.autograd.grad(
        twice.message, twice.parameters, (0.5 * w.gradient + 2 * other) / BATCH, retain_graph=True
    )
    (back,) = torch.autograd.grad(twice.message, twice.leaf, w.gradient)
    assert_equal(own, expected)
    assert_equal(returned, [back])


def test_without_a_private_function_of_torch_the_bits_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.autograd.graph, "_engine_run_backward")
    spec = spec_from_file_location("without", backward_requests.__file__)
    assert spec is not None
    assert spec.loader is not None
    without = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "without", without)
    spec.loader.exec_module(without)
    found = []
    for module in (backward_requests, without):
        w = Window()
        unused = torch.zeros(2, requires_grad=True)
        injections = [
            Injection(w.message, w.gradient, 0.5, 2.0)
        ]  # two passes: the first one retains the graph
        gradients, returned = backward(
            w.objective, injections, [*w.parameters, unused], [w.leaf], BATCH, module
        )
        assert gradients.pop() is None
        found.append([*gradients, *returned])
    for mine, theirs in zip(*found, strict=True):
        assert torch.equal(mine, theirs)
