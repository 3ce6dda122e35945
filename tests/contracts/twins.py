"""Two simulations of one scenario, one of either backend, and whether they are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from antiphon import Simulation
from antiphon.base.errors import DivergenceError
from antiphon.scenarios import Scenario
from tests.contracts.builders import STEPS, Document
from tests.reference.backend import Chosen, reference

TOLERANCE = 1e-9


def made(document: Document | Scenario, backend: Chosen, **settings: Any) -> Simulation:
    """Return a simulation of a document."""
    settings = {"dtype": torch.float64, "seed": 3, **settings}
    return Simulation(Scenario.model_validate(document), backend=backend, **settings)


def twins(document: Document | Scenario, **settings: Any) -> tuple[Simulation, Simulation]:
    """Return the same simulation twice: by the reference backend, and by the cohort backend."""
    return made(document, reference, **settings), made(document, "cohort", **settings)


def facts(simulation: Simulation) -> dict[str, Any]:
    """Copies of everything that is known of a simulation's agents and channels, by its place."""
    found: dict[str, Any] = {"now": simulation.now, "events": sorted(map(list, simulation.events))}
    for name, agent in simulation.agents.items():
        found |= _numbers(f"agent {name}", agent)
    for name, channel in simulation.channels.items():
        for what, model in (("gradient", channel.synthetic_gradient), ("input", channel.synthetic_input)):
            found |= {} if model is None else _numbers(f"channel {name} {what}", model)
        # how long a channel keeps a message of which nothing will ever come is its own affair
        messages = {
            stamp: message
            for stamp, message in channel.messages.items()
            if message.complete or (message.finished is None and message.injects.any())
        }
        found[f"channel {name} stamps"] = list(messages)
        for stamp, message in messages.items():
            found |= _message(f"channel {name} @{stamp}", message)
    return found


def _numbers(place: str, model: Any) -> dict[str, Any]:
    tensors = {**model.parameters, **model.buffers}
    for name, state in model.optimiser.items():
        tensors |= {
            f"{name} {i}": value for i, value in enumerate(tree_leaves(state)) if isinstance(value, Tensor)
        }
    found: dict[str, Any] = {f"{place} {name}": value.detach().clone() for name, value in tensors.items()}
    return {**found, f"{place} updates": model.updates}


def _message(place: str, message: Any) -> dict[str, Any]:
    """What became of a message. A gradient of which nothing counts is none, however that is written."""
    nothing = torch.zeros(())
    return {
        f"{place} value": message.value.detach().clone(),
        f"{place} complete": message.complete,
        f"{place} counted": message.counted,
        f"{place} void": message.void,
        f"{place} injects": message.injects,
        f"{place} gradient": nothing if message.gradient is None else message.gradient.detach().clone(),
        f"{place} loss": nothing if message.loss is None else message.loss.detach().clone(),
    }


def differences(one: Any, other: Any, place: str = "", tolerance: float = TOLERANCE) -> Iterator[str]:
    """Say where two trees of numbers differ by more than the tolerance, relative to the number and at least to one."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f"{place}/{key}"
            if key not in one or key not in other:
                yield f"{where}: only with the {'other' if key not in one else 'one'}"
            else:
                yield from differences(one[key], other[key], where, tolerance)
    elif isinstance(one, Tensor) != isinstance(other, Tensor):
        yield from _far(_like(one, other), _like(other, one), place, tolerance)
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        yield from _far(one.detach(), other.detach(), place, tolerance)
    elif isinstance(one, float) and isinstance(other, float):
        numbers = (torch.tensor(value, dtype=torch.float64) for value in (one, other))
        yield from _far(*numbers, place, tolerance)
    elif one != other:
        yield f"{place}: {one} and {other}"


def _like(value: Any, other: Any) -> Tensor:
    """What may be written as a number, as all or none of the environments, or as nothing, as the other is."""
    if isinstance(value, Tensor):
        return value.detach()
    assert isinstance(other, Tensor)
    return torch.full_like(other.detach(), 0 if value is None else value)


def _far(one: Tensor, other: Tensor, place: str, tolerance: float) -> Iterator[str]:
    if not one.is_floating_point():
        if not torch.equal(one, other):
            yield f"{place}: {one.tolist()} and {other.tolist()}"
        return
    if one.shape != other.shape and (one.numel() > 1 or one.any()) and (other.numel() > 1 or other.any()):
        yield f"{place}: shape {list(one.shape)} and {list(other.shape)}"
        return
    one, other = one.double(), other.double()
    gap = (one - other).abs() / one.abs().clamp(min=1.0)
    same = (one == other) | (one.isnan() & other.isnan())
    largest = float(torch.where(same, 0.0, gap).nan_to_num(torch.inf).max()) if gap.numel() else 0.0
    if largest > tolerance:
        yield f"{place}: {largest:.2e} apart"


def agree(one: Simulation, other: Simulation) -> None:
    """Hold two simulations to each other, the reference first."""
    found = list(differences(facts(one), facts(other)))
    assert not found, "\n".join([f"after {one.now} steps, {len(found)} differ:", *found[:12]])


def stepped(simulation: Simulation) -> Any:
    """Take a step; return what it returns, or the line with which the simulation diverged."""
    try:
        return simulation.step()
    except DivergenceError as error:
        return str(error)


def side_by_side(one: Simulation, other: Simulation, steps: int = STEPS, look: int | None = None) -> None:
    """Let two simulations run; hold their losses at each step, and at the end and after `look` steps everything, to each other."""
    for step in range(1, steps + 1):
        found = list(differences(stepped(one), stepped(other)))
        assert not found, "\n".join([f"step {step}:", *found])
        if step in (look, steps) or one.diverged is not None:
            agree(one, other)
        if one.diverged is not None:
            break


def hold(scenario: Document | Scenario, look: int | None = None, steps: int = STEPS) -> None:
    """Hold the backends to each other: over all steps, or step by step where the scenario is unsteady."""
    try:
        side_by_side(*twins(scenario), steps, look)
    except AssertionError:
        if not unsteady(scenario):
            raise
        step_by_step(scenario)


def unsteady(scenario: Document | Scenario) -> bool:
    """Whether rounding errors of its first parameters alone lead the reference further away than the tolerance."""
    for seed in range(4):
        ours, other = made(scenario, reference), made(scenario, reference)
        random = torch.Generator().manual_seed(seed)
        for agent in other.agents.values():
            for p in agent.parameters.values():
                p.data.mul_(1 + 1e-15 * torch.randn(p.shape, generator=random, dtype=p.dtype))
        try:
            side_by_side(ours, other)
        except AssertionError:
            return True
    return False


def step_by_step(scenario: Document | Scenario) -> None:
    """Let the cohort backend take every step from the reference's state."""
    ours = made(scenario, reference)
    for _ in range(STEPS):
        side_by_side(ours, ours.fork("cohort"), 1)
