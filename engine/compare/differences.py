"""Differences between two simulations at the same step, tensor by tensor, in the order of cause and effect.

The tensors are those of the state dict, beside what the step itself reports: signals, ends of episodes, gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.records import StepSignals
from antiphon.engine.core.system import System
from antiphon.engine.metrics.digests import holders
from antiphon.nets.torch_optimisers import flat_state

__all__ = [
    "DIGESTED",
    "QUANTITIES",
    "Difference",
    "Place",
    "StepTaken",
    "Tensors",
    "difference",
    "differences",
    "equal_as_run",
    "learned_tensors",
    "step_tensors",
]

QUANTITIES = (
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
DIGESTED = ("running statistic", "parameter")
"""Of these there are digests."""
_SECTIONS = (
    ("learners", "agent", ""),
    ("predictors", "channel", "predictor."),
    ("inputs", "channel", "input."),
)
"""Sections of a state dict with learned tensors: their kind, and what names begin with."""
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

Place = tuple[str, str, str, str]
"""Quantity, kind (`env`, `agent`, `channel`), name, tensor."""
Tensors = dict[Place, Tensor]


class StepTaken(NamedTuple):
    """A step of a simulation.

    Attributes:
        simulation: Just after the step.
        signals: The environment's signals at the step.
        ended: Which episodes ended.
    """

    simulation: BaseSimulation
    signals: StepSignals
    ended: EnvMask


class Difference(NamedTuple):
    """One tensor that is not the same to the last bit.

    Attributes:
        what: One of `QUANTITIES`.
        kind: `env`, `agent` or `channel`.
        name: Of the agent or channel; empty for the environment.
        tensor: Its name; empty where there is only one.
        different: How many of its elements differ.
        numbers: How many it has.
        largest: The largest difference; None: the shapes differ, or one of the elements is not finite.
        note: Shapes or types that differ, or which simulation alone has it.
    """

    what: str
    kind: str
    name: str
    tensor: str
    different: int
    numbers: int
    largest: float | None
    note: str = ""


def learned_tensors(state: Mapping[str, Any]) -> Tensors:
    """Return parameters, running statistics and optimiser moments of a system's state dict."""
    found: Tensors = {}
    for section, kind, prefix in _SECTIONS:
        for name, saved in state[section].items():
            for tensor, value in saved["buffers"].items():
                found["running statistic", kind, name, prefix + tensor] = value
            for moments, values in flat_state(saved["optimiser"]).items():
                names = ["steps"] if moments == "steps" else [f"{p} ({moments})" for p in saved["parameters"]]
                for tensor, value in zip(names, values, strict=False):  # a frozen learner has no moments
                    found["moment", kind, name, prefix + tensor] = value
            for tensor, value in saved["parameters"].items():
                found["parameter", kind, name, prefix + tensor] = value
    return found


def step_tensors(taken: StepTaken) -> Tensors:
    """Return the tensors of a step: what the environment showed, what was sent, and what was learned."""
    simulation, signals, ended = taken.simulation, taken.signals.signals, taken.ended
    system, step = simulation.system, simulation.now - 1
    state = simulation.backend.state_dict()
    found: Tensors = {("signal", "env", "", name): signals[name] for name in sorted(signals)}
    found["episode end", "env", "", ""] = torch.as_tensor(ended)
    order = {name: turn for turn, name in enumerate(chain.from_iterable(simulation.scenario.waves()))}
    for name in sorted(system.channels, key=lambda name: order[system.channels[name].sender]):
        link = system.channels[name].ledger.link
        for record in state["ledgers"][name]["records"]:
            if record["stamp"] == step:
                found["message", "channel", name, ""] = record["message"]
                if link.noise or link.bits:
                    found["transmission", "channel", name, "received"] = record["received"]
                if record["lost"] is not None:
                    found["transmission", "channel", name, "lost"] = record["lost"]
    for update in simulation.learned.updates:
        for name, gradients in update.gradients.items():
            for parameter, gradient in zip(system.agents[name].learner.parameters, gradients, strict=False):
                if gradient is not None:
                    found["gradient", "agent", name, parameter] = gradient
    return found | learned_tensors(state)


def differences(first: Tensors, second: Tensors) -> list[Difference]:
    """Return what differs, in the order of cause and effect.

    A tensor that only one of them has counts where both have the agent or channel.
    """
    common = {place[1:3] for place in first} & {place[1:3] for place in second}
    places = [
        place
        for place in {**first, **second}
        if place[1:3] in common and (place[1] != "env" or (place in first and place in second))
    ]
    found = [difference(place, first.get(place), second.get(place)) for place in places]
    return sorted((d for d in found if d is not None), key=lambda d: QUANTITIES.index(d.what))


def difference(place: Place, first: Tensor | None, second: Tensor | None) -> Difference | None:
    """Return the difference of two tensors; None: no bit differs, or neither is there."""
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
    """Return a tensor's bits as integers: zeros differ by their sign, and nan equals itself."""
    return tensor.data.view(_INTEGERS[tensor.element_size()])


def _equal(first: Tensor, second: Tensor) -> bool:
    comparable = first.shape == second.shape and first.dtype == second.dtype
    return comparable and torch.equal(_integers(first), _integers(second.to(first.device)))


# --- stacked tensors -------------------------------------------------------------------------------------


def equal_as_run(first: StepTaken, second: StepTaken) -> bool:
    """Return whether two steps of the same stacks are equal to the last bit, stack by stack.

    False, too, where stacks cannot be compared; then the tensors of each agent and channel decide.
    """
    members = [[part.names for part in _parts(taken.simulation.backend.view())] for taken in (first, second)]
    if first.signals.signals.keys() != second.signals.signals.keys() or members[0] != members[1]:
        return False
    one, other = (list(_stacks(taken)) for taken in (first, second))
    return len(one) == len(other) and all(_equal(a, b) for a, b in zip(one, other, strict=True))


def _parts(system: System) -> list[Agent | Channel]:
    return [*system.agents.values(), *system.channels.values()]


def _stacks(taken: StepTaken) -> Iterator[Tensor]:
    """Yield the tensors of `step_tensors` as stacks hold them."""
    simulation, signals = taken.simulation, taken.signals.signals
    system, learned = simulation.backend.view(), simulation.learned.stacks
    yield from (signals[name] for name in sorted(signals))
    yield torch.as_tensor(taken.ended)
    for channel in system.channels.values():
        record = channel.ledger.records.get(simulation.now - 1)
        if record is not None:
            yield from (record.message, record.received, torch.as_tensor(record.lost is None))
            yield from () if record.lost is None else (record.lost,)
    for update in learned.updates:
        for gradients in update.gradients.values():
            yield from (gradient for gradient in gradients if gradient is not None)
    for part in _parts(system):
        for holder in holders(part).values():
            yield from (*holder.parameters.values(), *holder.buffers.values())
            yield from holder.optimiser.tensors()
