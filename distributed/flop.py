"""Floating-point operations of networks, counted on a few rows by torch's own formulas (`torch.utils.flop_counter`)."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from antiphon.agents.learner import Learner
from antiphon.engine.heart.system import System

_ROWS = 2
_PER_PARAMETER = 6
"""FLOP of a parameter that is read once in a row: a product and a sum, twice of them again for gradients."""


class FlopCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts products and convolutions; `FlopCounterMode` would import torch's compiler, which takes seconds."""

    flop = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flop += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


@contextmanager
def counting() -> Iterator[FlopCounter]:
    """Count what is computed; attention step by step, as torch has no formula for its one operation on a CPU."""
    counter = FlopCounter()  # type: ignore[no-untyped-call]
    with sdpa_kernel(SDPBackend.MATH), counter:
        yield counter


def agent_flop(system: System) -> dict[str, float]:
    """Return the FLOP of a step of each agent, the mean over steps: of its network and of its channels' predictors.

    A predictor counts with the agent that evaluates it, as if each message met every parameter once.
    """
    counted: dict[Hashable, float] = {}
    flop = {}
    for name, agent in system.agents.items():
        reads = bool(agent.connections.incoming)
        kind = agent.learner.network.signature(), agent.learner.frozen, reads
        if kind not in counted:
            counted[kind] = _network_flop(agent.learner, system.dtype, reads=reads)
        flop[name] = counted[kind] * system.batch / agent.clock.tick_period
    for channel in system.channels.values():
        messages = system.batch / channel.wire.timetable.sender_clock.tick_period
        predictors = channel.synthetic_gradient.model, channel.synthetic_input.model
        for end, predictor in zip((channel.sender, channel.receiver), predictors, strict=True):
            if predictor is not None:
                sites = 1 if predictor.sites is None else predictor.sites.count
                flop[end] += _PER_PARAMETER * sites * messages * _size(predictor.parameters)
    return flop


def _network_flop(learner: Learner, dtype: torch.dtype, *, reads: bool) -> float:
    """FLOP of a row of a tick with its gradients; `reads`: those of the input are among them."""
    network = learner.network
    parameters = {name: p.data.requires_grad_(p.requires_grad) for name, p in learner.parameters.items()}
    buffers = {name: buffer.clone() for name, buffer in learner.buffers.items()}
    device = next((p.device for p in parameters.values()), torch.device("cpu"))
    x = torch.zeros(_ROWS, *network.input_shape, dtype=dtype, device=device, requires_grad=reads)
    state = torch.zeros(_ROWS, network.state_size, dtype=dtype, device=device) if network.state_size else None
    with counting() as counter:
        try:
            ports = network(parameters, buffers, x, training=True, state=state)[0]
            outputs = [port for port in ports.values() if port.requires_grad]
            leaves = [leaf for leaf in (*parameters.values(), x) if leaf.requires_grad]
            if outputs and leaves:
                torch.autograd.grad(outputs, leaves, [*map(torch.zeros_like, outputs)], allow_unused=True)
        except Exception:  # noqa: BLE001  (a user's module may not take zeros)
            return float(_PER_PARAMETER * _size(parameters))
    return counter.flop / _ROWS


def _size(parameters: Mapping[str, torch.Tensor]) -> int:
    return sum(p.numel() for p in parameters.values())
