"""Estimate of the memory that a system needs, what the machine has, and one line where that is not enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self, TypeVar

import torch
from torch import Tensor

from antiphon.agents.learner import Learner
from antiphon.engine.build.builder import build_kinds, build_to_look, outline
from antiphon.engine.build.shapes import Shapes
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.records import LearningGroup
from antiphon.engine.core.system import System
from antiphon.engine.planning.activations import most_kept
from antiphon.engine.planning.cost_model import CostModel
from antiphon.envs.signal import Description
from antiphon.errors import ResourceError
from antiphon.nets.memory import installed_memory, was_refused
from antiphon.scenarios.document import Scenario

__all__ = [
    "MemoryEstimate",
    "MemoryGuard",
    "byte_unit",
    "in_unit",
    "in_units",
    "installed",
    "memory_of",
    "slots",
]

_Part = TypeVar("_Part")

_FILLED = 0.9
"""A scenario that needs more than this share of all the memory is not begun."""
_LOOK = 0.25
"""From this share on, what it needs is counted out before it is built; below, an outline is enough."""
_UNITS = {"MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_REMEDIES = {
    "parameters": "fewer agents, or smaller networks",
    "optimiser": "fewer agents, smaller networks, or an optimiser that keeps less",
    "predictors": "smaller messages, contexts or gradient.hidden",
    "gradients": "fewer agents, or smaller networks",
    "messages": "lower training.batch ({batch}), delays, or the sizes of messages",
    "activations": "lower training.batch ({batch}), clock.unroll, or the number of agents",
}
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

    def fits(self, installed: int | None) -> bool:
        """Whether a device with so much is enough; None: not known."""
        return installed is None or self.total <= _FILLED * installed

    @staticmethod
    def word(part: str) -> str:
        """Return a part's name in words: `optimiser state`."""
        return _WORDS.get(part, part)

    def remedy(self, batch: int) -> str:
        """Return the largest part with what would make it smaller."""
        largest = max(self.parts().items(), key=lambda part: part[1])
        remedy = _REMEDIES[largest[0]].format(batch=batch)
        return f"the largest part is {self.word(largest[0])} ({in_units(largest[1])}): {remedy}"


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


def memory_of(
    system: System, costs: CostModel | None = None, learners: Collection[Learner] | None = None
) -> MemoryEstimate:
    """Return the memory of a system; its tensors may be on torch's meta device.

    Args:
        system: Built as a whole, or as `build_kinds` does.
        costs: Of it.
        learners: One for each agent or group of tied ones; None: as the system has them.
    """
    costs = costs or CostModel(system)
    if learners is None:
        learners = [agent.learner for agent in system.owners().values()]
    channels = [channel for agent in system.agents.values() for channel in agent.channels]
    models = [model for channel in channels for model in channel.models]
    return MemoryEstimate(
        parameters=_total(learners, lambda one: _size(one.parameters.values(), one.buffers.values())),
        optimiser=_total(learners, lambda one: _size(one.optimiser.expected())),
        predictors=_total(
            models, lambda m: _size(m.parameters.values(), m.buffers.values(), m.optimiser.expected())
        ),
        gradients=_total((*learners, *models), lambda one: _size(one.trainable)),
        messages=_total(channels, lambda channel: _messages(system, channel)),
        activations=most_kept(system, costs),
    )


def _total(parts: Collection[_Part], size: Callable[[_Part], int]) -> int:
    """Sum of the sizes of parts; of kinds (`build_kinds`) one stands for many, and its size is found once."""
    sizes: dict[int, int] = {}
    for part in parts:
        if id(part) not in sizes:
            sizes[id(part)] = size(part)
    return sum(sizes[id(part)] for part in parts)


def _size(*tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for some in tensors for t in some)


def _messages(system: System, channel: Channel) -> int:
    copies = 1 + channel.ledger.wants_deltas + bool(channel.ledger.link.noise or channel.ledger.link.bits)
    return _size([channel.zeros]) * (1 + copies * slots(channel, system.group_of[channel.sender]))


def slots(channel: Channel, sender: LearningGroup) -> int:
    """Return how many messages of a channel are kept at a time, at most: until `sender`, the group, has learned from them."""
    ledger = channel.ledger
    if channel.state:  # all but the newest of a window are passed on with their graph
        return 3 + (channel.span if channel.traced else 0)
    every = ledger.sender.clock.period / ledger.sender.rate
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


# --- where it is not enough ------------------------------------------------------------------------------


@dataclass(frozen=True)
class MemoryGuard:
    """Guard of a device's memory: refuses what cannot fit, and turns torch's refusal within it into one line."""

    scenario: Scenario
    env: Description
    device: torch.device
    dtype: torch.dtype

    def check(self, shapes: Shapes) -> None:
        """Refuse by a ResourceError what needs clearly more than the device has, before it is built.

        `shapes`: of the scenario, which its build takes too.
        """
        has = installed(self.device)
        if has is None or outline(self.scenario, self.env, shapes, self.dtype.itemsize) < _LOOK * has:
            return
        needed = self.needed(shapes)
        if needed is not None and not needed.fits(has):
            raise ResourceError(self._line(needed, has))

    def needed(self, shapes: Shapes | None = None) -> MemoryEstimate | None:
        """Return what the scenario needs; None where not even that can be found out. `shapes`: as of `build`."""
        scenario = self.scenario
        make = (
            build_to_look if scenario.training.sweep else build_kinds
        )  # which has not all that a sweep goes through
        try:
            system = make(scenario, self.env, self.dtype, shapes)
            owners = {
                spec.share or name: system.agents[name].learner for name, spec in scenario.agents.items()
            }
            return memory_of(system, learners=owners.values())
        except (MemoryError, RuntimeError):  # a user's module that is too large in itself
            return None

    def _line(self, needed: MemoryEstimate | None, has: int | None) -> str:
        there = "" if has is None else f", and {self.device} has {in_units(has)}"
        if needed is None:
            return (
                f"out of memory{there}; lower training.batch, the number of agents or their networks' sizes"
            )
        need = f"'{self.scenario.scenario}' needs about {in_units(needed.total)}"
        return f"out of memory: {need}{there}; {needed.remedy(self.scenario.training.batch)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse(error)

    def refuse(self, error: BaseException | None) -> None:
        """Say what an error of exhausted memory means; any other is left alone.

        Raises:
            ResourceError: The device has no more memory.
        """
        if was_refused(error) and not isinstance(error, ResourceError):
            raise ResourceError(self._line(self.needed(), installed(self.device))) from error
