"""Room: the memory that a system needs, what the machine has, and one line where that is not enough."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from antiphon.agents.network import features_of
from antiphon.engine.blank import build_blank
from antiphon.engine.clock import Windows
from antiphon.engine.pace import Loads, length_of
from antiphon.engine.parts import Channel
from antiphon.engine.shapes import resolve
from antiphon.engine.system import System
from antiphon.envs.signal import Description
from antiphon.errors import ResourceError
from antiphon.nets.optimisers import Optimiser
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.parts import AgentSpec, NetworkSpec

__all__ = ["Memory", "Room", "installed", "memory_of", "outline", "slots", "was_refused"]

_FILLED = 0.9
"""A scenario that needs more than this share of all the memory is not begun."""
_LOOK = 0.25
"""From this share on, what it needs is counted out before it is built; below, an outline is enough."""
_REFUSALS = ("can't allocate memory", "out of memory", "DefaultCPUAllocator")
_MEMINFO = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where Linux says what a container may have."""
_KNOBS = {
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
class Memory:
    """What a system needs at its fullest, in bytes: at a step at which all learn.

    torch itself, the environment's data and what telemetry keeps are not in it.

    Attributes:
        parameters: Of all agents, with their running statistics; tied agents have them once.
        optimiser: The agents' optimisers: moments, or momentum.
        predictors: Synthetic gradients and inputs: parameters, running statistics, optimiser state.
        gradients: Of all that is learned at one step.
        messages: In flight, or waiting for what comes back, as many as delays, windows and periods keep.
        activations: What autograd keeps of all agents until their windows end.
    """

    parameters: int
    optimiser: int
    predictors: int
    gradients: int
    messages: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, int]:
        """Return the parts by name."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @staticmethod
    def word(part: str) -> str:
        """Return what a part is called: `optimiser state`."""
        return _WORDS.get(part, part)

    def knob(self, batch: int) -> str:
        """Return the largest part with what would make it smaller."""
        largest = max(self.parts().items(), key=lambda part: part[1])
        mend = _KNOBS[largest[0]].format(batch=batch)
        return f"the largest part is {self.word(largest[0])} ({in_units(largest[1])}): {mend}"


def in_units(count: float) -> str:
    """Write bytes as MiB or GiB."""
    mib = count / 2**20
    if mib >= 1000:
        return f"{mib / 1024:,.1f} GiB"
    return f"{mib:.3g} MiB" if mib < 100 else f"{mib:.0f} MiB"


# --- what a system needs ---------------------------------------------------------------------------------


def memory_of(system: System, loads: Loads | None = None) -> Memory:
    """Return what a system needs; its tensors may be without numbers (`engine.blank`).

    Args:
        system: The system.
        loads: Counts its parts, if somebody has begun to.
    """
    loads = loads or Loads(system)
    learners = {id(agent.learner): agent.learner for agent in system.agents.values()}.values()
    models = [m for c in system.channels.values() for m in (c.predictor, c.input) if m is not None]
    return Memory(
        parameters=sum(_size(learner.parameters.values(), learner.buffers.values()) for learner in learners),
        optimiser=sum(_state(learner.optimiser) for learner in learners),
        predictors=sum(
            _size(m.parameters.values(), m.buffers.values()) + _state(m.optimiser) for m in models
        ),
        gradients=sum(_size(learner.trainable) for learner in learners)
        + sum(_size(m.trainable) for m in models),
        messages=sum(_messages(system, channel) for channel in system.channels.values()),
        activations=sum(_activations(system, name, loads) for name in system.agents),
    )


def _size(*tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for some in tensors for t in some)


def _state(optimiser: Optimiser) -> int:
    return _size(*optimiser.state.values())


def _activations(system: System, name: str, loads: Loads) -> int:
    agent = system.agents[name]
    ticks = -(-length_of(system.unit_of[name].windows) // agent.clock.period)
    return int(loads.passes(agent)[0].held) * ticks


def _messages(system: System, channel: Channel) -> int:
    copies = 1 + channel.ledger.returns + bool(channel.ledger.link.noise or channel.ledger.link.bits)
    return _size([channel.zeros]) * (1 + copies * slots(channel, system.unit_of[channel.sender].windows))


def slots(channel: Channel, learns: Windows) -> int:
    """Return how many messages of a channel are kept at a time.

    Args:
        channel: The channel.
        learns: The windows of its sender, who learns from a message when its window ends.
    """
    ledger = channel.ledger
    if channel.state:  # all but the newest of a window are passed on with their graph
        return 3 + (channel.span if channel.traced else 0)
    every = ledger.sender.clock.period / ledger.sender.rate
    read = max(math.ceil(every), ledger.receiver.period)
    used = ledger.link.delay + read - 1 + length_of(ledger.windows) - 1 + ledger.slack
    return math.ceil(max(used + ledger.back + 1, length_of(learns)) / every)


# --- what the machine has --------------------------------------------------------------------------------


def installed(device: torch.device) -> int | None:
    """Return the bytes of memory that a device has, or that this process may have of it; None: nobody says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    found = [limit for path in _LIMITS if (limit := _number(path)) is not None]
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemTotal:")]
    return min(found, default=None)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # it is not there, or says `max`
        return None


# --- where it is not enough ------------------------------------------------------------------------------


def was_refused(error: BaseException | None) -> bool:
    """Whether an error says that there is no more memory to be had."""
    refused = isinstance(error, RuntimeError) and any(word in str(error) for word in _REFUSALS)
    return refused or isinstance(error, MemoryError)


class Room:
    """The memory for a scenario on a device; within it, torch's refusal is one line.

    Args:
        scenario: What is to run.
        env: What its environment shows.
        device: Where.
        dtype: Of all floats.
    """

    def __init__(
        self, scenario: Scenario, env: Description, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.scenario, self.env = scenario, env
        self.device, self.dtype = device, dtype

    def check(self) -> None:
        """Refuse what needs clearly more than the device has, before it is built.

        Raises:
            ResourceError: It does; the line has the estimate and what would make it smaller.
        """
        has = installed(self.device)
        if has is None or outline(self.scenario, self.env, self.dtype.itemsize) < _LOOK * has:
            return
        needed = self.needed()
        if needed is not None and needed.total > _FILLED * has:
            raise ResourceError(self._line(needed, has))

    def needed(self) -> Memory | None:
        """Return what the scenario needs; None where not even that can be found out."""
        try:
            return memory_of(build_blank(self.scenario, self.env, self.dtype))
        except (MemoryError, RuntimeError):  # a user's module that is too large in itself
            return None

    def _line(self, needed: Memory | None, has: int | None) -> str:
        there = "" if has is None else f", and {self.device} has {in_units(has)}"
        if needed is None:
            return (
                f"out of memory{there}; lower training.batch, the number of agents or their networks' sizes"
            )
        batch = self.scenario.training.batch
        return (
            f"out of memory: '{self.scenario.scenario}' needs about {in_units(needed.total)}{there}; "
            f"{needed.knob(batch)}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and was_refused(error):
            raise ResourceError(self._line(self.needed(), installed(self.device))) from error


def outline(scenario: Scenario, env: Description, width: int) -> int:
    """Return about what a scenario needs in bytes, in no time: within a factor of three or so, users' modules left out.

    Args:
        scenario: The scenario.
        env: What its environment shows.
        width: Bytes of a number.
    """
    shapes = resolve(scenario, env)
    numbers = 0
    for group in scenario.locked_groups():
        window = scenario.window(group)
        steps = (env.episode_steps or env.longest_episode or 1) if isinstance(window, str) else window
        for name in group:
            agent = scenario.agents[name]
            heads = sum(head.features for head in shapes.heads[name])
            weights, units = _outline(agent, shapes.inputs[name], heads)
            numbers += 4 * weights + 3 * units * scenario.training.batch * steps // agent.clock.period
    for channel in scenario.channels:
        size = features_of(shapes.messages[channel.name])
        numbers += 2 * size * scenario.training.batch * (2 + channel.link.delay)
        if channel.coupling in ("decoupled", "unlocked"):
            numbers += 4 * size * (channel.gradient.hidden[0] if channel.gradient.hidden else size)
    return numbers * width


def _outline(agent: AgentSpec, inputs: tuple[int, ...], heads: int) -> tuple[int, int]:
    """An agent's weights, and the units that a tick computes."""
    network = agent.network
    if not isinstance(network, NetworkSpec):
        return 0, features_of(inputs) + heads
    if network.kind == "conv":
        area = features_of(inputs[1:])
        channels = (inputs[0], *network.hidden)
        weights = sum(a * b * network.filter**2 for a, b in pairwise(channels))
        return weights + channels[-1] * heads, area * sum(channels) + heads
    layers = (features_of(inputs), *(network.encoder if network.recurrent else network.hidden))
    weights = sum(a * b for a, b in pairwise(layers))
    if network.recurrent:
        weights += 4 * network.size * (layers[-1] + network.size)
        layers = (*layers, *(4 * [network.size]))
    return weights + layers[-1] * heads, sum(layers) + heads
