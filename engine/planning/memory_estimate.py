"""Estimate of the memory that a system needs, and what the machine has."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.message import LearningGroup
from antiphon.engine.heart.system import System
from antiphon.engine.planning.activations import most_kept
from antiphon.engine.planning.cost_model import CostModel
from antiphon.nets.memory import installed_memory

__all__ = [
    "MemoryEstimate",
    "byte_unit",
    "in_unit",
    "in_units",
    "installed",
    "memory_of",
    "slots",
]

_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_WORDS = {
    "optimiser": "optimiser state",
    "messages": "messages in flight",
    "activations": "activations of one window",
}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of a system at its fullest: at a step at which all learn.

    torch itself, the environment's data and what telemetry keeps are not in it.
    """

    parameters: int
    """Of all agents, with their running statistics; tied agents have them once."""
    optimiser: int
    """The agents' optimisers: moments, or momentum."""
    predictors: int
    """Synthetic gradients and inputs: parameters, running statistics, optimiser state."""
    gradients: int
    """Of all that is learned at one step."""
    messages: int
    """In flight, or waiting for what comes back, as many as delays, windows and periods keep."""
    activations: int
    """What autograd keeps of the agents until their windows are differentiated."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the parts by name."""
        return asdict(self)

    @staticmethod
    def word(part: str) -> str:
        """Return a part's name in words: `optimiser state`."""
        return _WORDS.get(part, part)


def byte_unit(count: float) -> str:
    """Return the unit in which so many bytes are written."""
    return next((unit for unit, size in _UNITS.items() if count < 1000 * size), "TiB")


def in_unit(count: float, unit: str) -> str:
    """Write bytes in a unit, without it: two digits will do of what is estimated."""
    number = count / _UNITS[unit]
    return f"{number:,.0f}" if number >= 10 else f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def in_units(count: float) -> str:
    """Write bytes as MiB or GiB."""
    return f"{in_unit(count, byte_unit(count))} {byte_unit(count)}"


# --- what a system needs ---------------------------------------------------------------------------------


def memory_of(system: System, costs: CostModel | None = None) -> MemoryEstimate:
    """Return the memory of a system; its tensors may be on torch's meta device.

    Args:
        system: Built.
        costs: Of it.
    """
    costs = costs or CostModel(system)
    learners = [agent.learner for agent in system.owners().values()]
    channels = [channel for agent in system.agents.values() for channel in agent.channels]
    models = [model for channel in channels for model in channel.models]
    return MemoryEstimate(
        parameters=sum(_size(one.parameters.values(), one.buffers.values()) for one in learners),
        optimiser=sum(_size(one.optimiser.expected()) for one in learners),
        predictors=sum(
            _size(m.parameters.values(), m.buffers.values(), m.optimiser.expected()) for m in models
        ),
        gradients=sum(_size(one.trainable) for one in (*learners, *models)),
        messages=sum(_messages(system, channel) for channel in channels),
        activations=most_kept(system, costs),
    )


def _size(*tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for some in tensors for t in some)


def _messages(system: System, channel: Channel) -> int:
    copies = 1 + channel.ledger.wants_gradient + bool(channel.ledger.link.noise or channel.ledger.link.bits)
    return _size([channel.zeros]) * (1 + copies * slots(channel, system.group_of[channel.sender]))


def slots(channel: Channel, sender: LearningGroup) -> int:
    """Return how many messages of a channel are kept at a time, at most: until `sender`, the group, has learned from them."""
    ledger = channel.ledger
    if channel.state:  # all but the newest of a window are passed on with their graph
        return 3 + (channel.gradient.span if channel.traced else 0)
    every = ledger.sender.interval
    read = max(math.ceil(every), ledger.receiver.period)
    used = ledger.link.delay + read - 1 + ledger.windows.steps() - 1 + ledger.slack
    learned = sender.windows.steps() * (1 + (sender.staleness if sender.late else 0))
    return math.ceil(max(used + ledger.back + 1, learned) / every)


# --- what the machine has --------------------------------------------------------------------------------


def installed(device: torch.device) -> int | None:
    """Return the bytes of memory that a device has, or that this process may have of it; None: not known."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1]) if torch.cuda.is_available() else None
    return installed_memory()
