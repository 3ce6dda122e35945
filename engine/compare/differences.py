"""Differences between two simulations that take the same step: what each shows of it, in the order of cause and effect."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.comms.bundled import StackedModels
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.mask import EnvMask
from antiphon.engine.core.signals import StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.metrics.digests import holders
from antiphon.engine.simulation import Simulation

__all__ = [
    "LEARNED",
    "WHATS",
    "Difference",
    "Place",
    "Taken",
    "View",
    "compared",
    "difference",
    "same",
    "state",
    "view",
]

WHATS = (
    "signal",
    "episode end",
    "message",
    "transmission",
    "running statistic",
    "gradient",
    "moment",
    "parameter",
)
"""What may differ, in the order in which one follows from the other within a step."""
LEARNED = ("running statistic", "parameter")
"""What digests are of."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Place = tuple[str, str, str, str]
"""What, kind (`env`, `agent`, `channel`), name, tensor."""
View = dict[Place, Tensor]


class Taken(NamedTuple):
    """A step that was taken.

    Attributes:
        simulation: Just after the step.
        moment: The environment's at the step.
        ended: Which episodes ended.
    """

    simulation: Simulation
    moment: StepSignals
    ended: EnvMask


class Difference(NamedTuple):
    """One tensor that is not the same to the last bit.

    Attributes:
        what: One of `WHATS`.
        kind: `env`, `agent` or `channel`.
        name: Of the agent or channel; empty for the environment.
        tensor: Its name; empty where there is only one.
        different: How many of its numbers differ.
        numbers: How many it has.
        largest: The largest difference; None: the shapes differ, or one of the numbers is not finite.
        note: What else is to be said: shapes or types that differ, or that only one simulation has it.
    """

    what: str
    kind: str
    name: str
    tensor: str
    different: int
    numbers: int
    largest: float | None
    note: str = ""


def state(system: System) -> View:
    """Return what agents and channels have learned, and their optimisers' moments."""
    found: View = {}
    owners = [(part, prefix, holder) for part in _parts(system) for prefix, holder in holders(part).items()]
    for part, prefix, holder in owners:
        for name, tensor in holder.buffers.items():
            found["running statistic", _kind(part), part.name, prefix + name] = tensor
    for part, prefix, holder in owners:
        for moment, tensors in holder.optimiser.state.items():
            names = ["steps"] if moment == "steps" else [f"{name} ({moment})" for name in holder.parameters]
            for name, tensor in zip(names, tensors, strict=False):  # what is frozen has none
                found["moment", _kind(part), part.name, prefix + name] = tensor
    for part, prefix, holder in owners:
        for name, tensor in holder.parameters.items():
            found["parameter", _kind(part), part.name, prefix + name] = tensor
    return found


def view(taken: Taken) -> View:
    """Return what a simulation shows of a step, in the order of cause and effect."""
    simulation, moment, ended = taken
    system, step = simulation.system, simulation.now - 1
    found: View = {("signal", "env", "", name): moment.signals[name] for name in sorted(moment.signals)}
    found["episode end", "env", "", ""] = torch.as_tensor(ended)
    turns = {name: turn for turn, name in enumerate(_in_turn(system))}
    channels = sorted(system.channels.values(), key=lambda channel: turns[channel.sender])
    for channel in channels:
        sent = simulation.backend.sent(channel.name, step)
        if sent is not None:
            found["message", "channel", channel.name, ""] = sent.message
            if channel.ledger.link.noise or channel.ledger.link.bits:
                found["transmission", "channel", channel.name, "received"] = sent.received
            if sent.lost is not None:
                found["transmission", "channel", channel.name, "lost"] = sent.lost
    numbers = state(system)
    found |= {place: tensor for place, tensor in numbers.items() if place[0] == "running statistic"}
    for update in simulation.learned.updates:
        for name, gradients in update.gradients.items():
            for parameter, gradient in zip(system.agents[name].learner.parameters, gradients, strict=False):
                if gradient is not None:
                    found["gradient", "agent", name, parameter] = gradient
    return found | numbers


def _in_turn(system: System) -> Iterator[str]:
    """Yield the agents in the order in which they tick."""
    return (name for wave in system.schedule.waves for call in wave for name in call)


def _parts(system: System) -> list[Agent | Channel]:
    return [*system.agents.values(), *system.channels.values()]


def _kind(part: Agent | Channel) -> str:
    return "agent" if isinstance(part, Agent) else "channel"


def same(first: Taken, second: Taken) -> bool:
    """Return whether nothing differs, where both are run in the same cohorts: their stacks are compared as they are.

    False, too, where that cannot be said without looking at each agent and channel.
    """
    if first.moment.signals.keys() != second.moment.signals.keys() or _who(first) != _who(second):
        return False
    one, other = (list(_as_run(taken)) for taken in (first, second))
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _who(taken: Taken) -> list[tuple[str, ...]]:
    return [part.names for part in _parts(taken.simulation.backend.view())]


def _as_run(taken: Taken) -> Iterator[Tensor]:
    """Yield all that `view` is made of, as cohorts and bundles hold it."""
    simulation, moment, ended = taken
    system, learned = simulation.backend.view(), simulation.learned.stacks
    yield from (moment.signals[name] for name in sorted(moment.signals))
    yield torch.as_tensor(ended)
    for channel in system.channels.values():
        record = channel.ledger.records.get(simulation.now - 1)
        if record is not None:
            yield from (record.message, record.received, torch.as_tensor(bool(record.lost is None)))
            yield from () if record.lost is None else (record.lost,)
    for update in learned.updates:
        for gradients in update.gradients.values():
            yield from (gradient for gradient in gradients if gradient is not None)
    for part in _parts(system):
        for holder in holders(part).values():
            held = holder.bundled if isinstance(holder, StackedModels) else holder
            yield from (*held.parameters.values(), *held.buffers.values())
            yield from (tensor for moments in holder.optimiser.state.values() for tensor in moments)


def compared(first: View, second: View) -> list[Difference]:
    """Return what differs, in the order of cause and effect.

    What only one of them has counts where both have the agent or channel.
    """
    common = {place[1:3] for place in first} & {place[1:3] for place in second}
    places = [
        place
        for place in {**first, **second}
        if place[1:3] in common and (place[1] != "env" or (place in first and place in second))
    ]
    found = [difference(place, first.get(place), second.get(place)) for place in places]
    return sorted((d for d in found if d is not None), key=lambda d: WHATS.index(d.what))


def difference(place: Place, first: Tensor | None, second: Tensor | None) -> Difference | None:
    """Return in what two tensors differ; None: in no bit, or neither is there."""
    if first is None or second is None:
        there = first if second is None else second
        if there is None:
            return None
        only = "first" if second is None else "second"
        return Difference(*place, there.numel(), there.numel(), None, f"only the {only} run has it")
    if first.shape != second.shape:
        shapes = " against ".join(" x ".join(map(str, t.shape)) or "one number" for t in (first, second))
        return Difference(*place, first.numel(), first.numel(), None, shapes)
    note = ""
    if first.dtype != second.dtype:
        note = " against ".join(str(t.dtype).removeprefix("torch.") for t in (first, second))
    elif _equal(first, second):
        return None
    one, other = (tensor.data.cpu() for tensor in (first, second))
    unlike = one != other if note else _integers(one) != _integers(other)
    gap = (one.double() - other.double()).abs()[unlike]
    largest = gap.max().item() if gap.numel() else 0.0
    finite = bool(torch.isfinite(gap).all())
    return Difference(*place, int(unlike.sum()), one.numel(), largest if finite else None, note)


def _integers(tensor: Tensor) -> Tensor:
    """Return a tensor's bits as integers: they tell zeros apart by their sign, and know when nan is nan."""
    return tensor.data.view(_INTEGERS[tensor.element_size()])


def _equal(first: Tensor, second: Tensor) -> bool:
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(_integers(first), _integers(second.to(first.device)))
