"""Two simulations of one scenario, one of either backend, and whether they are the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.core.records import Record
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import DivergenceError
from antiphon.scenarios import Scenario
from tests.contracts.backend_documents import STEPS, Document

__all__ = [
    "agree",
    "differences",
    "facts",
    "hold",
    "made",
    "side_by_side",
    "stacked",
    "step_by_step",
    "twins",
    "unsteady",
]

TOLERANCE = 1e-9


def made(document: Document | Scenario, backend: str, **settings: Any) -> Simulation:
    """Return a simulation of a document."""
    settings = {"dtype": torch.float64, "seed": 3, **settings}
    return Simulation(Scenario.model_validate(document), backend=backend, **settings)


def twins(document: Document | Scenario, **settings: Any) -> tuple[Simulation, Simulation]:
    """Return the same simulation twice: by the reference backend, and by the cohort backend."""
    return made(document, "reference", **settings), made(document, "cohort", **settings)


def stacked(simulation: Simulation) -> bool:
    """Whether some agents are computed as one."""
    backend: Any = simulation.backend
    return any(len(agent.members) > 1 for agent in backend.stacked.system.agents.values())


def facts(simulation: Simulation) -> dict[str, Any]:
    """Everything that is known of a simulation's agents and channels, by its place."""
    system = simulation._system
    found: dict[str, Any] = {"now": simulation.now, "events": sorted(map(list, simulation.events))}
    for name, agent in system.agents.items():
        found |= _numbers(f"agent {name}", agent.learner)
        found[f"agent {name} silenced"] = agent.agent_disabled
    for name, channel in system.channels.items():
        place = f"channel {name}"
        found |= {} if channel.predictor is None else _numbers(f"{place} gradient", channel.predictor)
        found |= {} if channel.input is None else _numbers(f"{place} input", channel.input)
        found |= {f"{place} muted": channel.predictor_disabled, f"{place} deaf": channel.input_model_disabled}
        records = {s: record for s, record in channel.ledger.records.items() if not _void(record)}
        found[f"{place} stamps"] = list(records)
        for stamp, record in records.items():
            found |= _told(f"{place} @{stamp}", record)
    return found


def _void(record: Record) -> bool:
    """Whether nothing will ever come of a record: how long a ledger keeps such a one is its own affair."""
    return record.finished is not None and not record.complete


def _numbers(place: str, owner: Any) -> dict[str, Any]:
    """The numbers of a learner or of a predictor."""
    found = {f"{place} {name}": value for name, value in {**owner.parameters, **owner.buffers}.items()}
    for name, tensors in owner.optimiser.state.items():
        found |= {f"{place} {name} {i}": value for i, value in enumerate(tensors)}
    return {**found, f"{place} updates": owner.updates}


def _told(place: str, record: Record) -> dict[str, Any]:
    """What became of a message. Where it does not count its delta is nothing, however that is written."""
    found: dict[str, Any] = {f"{place} message": record.message, f"{place} complete": record.complete}
    rows = record.message.shape[0]
    for name in ("counted", "void", "no_injection"):
        lanes = getattr(record, name)
        found[f"{place} {name}"] = (
            lanes if isinstance(lanes, Tensor) else torch.full((rows,), lanes)
        ).clone()
    for name in ("delta", "loss"):
        value = getattr(record, name)
        found[f"{place} {name}"] = torch.zeros(()) if value is None else value
    return found


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Say where two trees of numbers differ by more than the tolerance."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in [*one, *(key for key in other if key not in one)]:
            where = f"{place}/{key}"
            if key not in one or key not in other:
                yield f"{where}: only with the {'cohort' if key not in one else 'reference'} backend"
            else:
                yield from differences(one[key], other[key], where)
    elif isinstance(one, Tensor) != isinstance(other, Tensor):
        yield from _far(_like(one, other), _like(other, one), place)
    elif isinstance(one, Tensor) and isinstance(other, Tensor):
        yield from _far(one.detach(), other.detach(), place)
    elif isinstance(one, float) and isinstance(other, float):
        yield from _far(
            torch.tensor(one, dtype=torch.float64), torch.tensor(other, dtype=torch.float64), place
        )
    elif one != other:
        yield f"{place}: {one} and {other}"


def _like(value: Any, other: Any) -> Tensor:
    """What may be written as a number, as all or none of the environments, or as nothing, as the other is."""
    if isinstance(value, Tensor):
        return value.detach()
    assert isinstance(other, Tensor)
    return torch.full_like(other.detach(), 0 if value is None else value)


def _far(one: Tensor, other: Tensor, place: str) -> Iterator[str]:
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
    if largest > TOLERANCE:
        yield f"{place}: {largest:.2e} apart"


def agree(one: Simulation, other: Simulation) -> None:
    """Hold two simulations to each other, the reference first."""
    found = list(differences(facts(one), facts(other)))
    assert not found, "\n".join([f"after {one.now} steps, {len(found)} differ:", *found[:12]])


def side_by_side(one: Simulation, other: Simulation, steps: int = STEPS, look: int | None = None) -> None:
    """Let two simulations run, and hold their losses at each step, and at the end everything, to each other.

    Args:
        one: By the reference backend.
        other: By the cohort backend.
        steps: How many.
        look: After so many everything is held to each other too.
    """
    told: list[tuple[Any, Any]] = []
    for step in range(1, steps + 1):
        told.append((_stepped(one), _stepped(other)))
        if step % 2:  # what is not asked for at once must still be there in the end
            _same(*told[-1], step)
        if step in (look, steps) or one.diverged is not None:
            agree(one, other)
        if one.diverged is not None:
            break
    for step, (ours, theirs) in enumerate(told, 1):
        _same(ours, theirs, step)


def _same(ours: Any, theirs: Any, step: int) -> None:
    found = list(differences(ours, theirs))
    assert not found, "\n".join([f"step {step}:", *found])


def _stepped(simulation: Simulation) -> Any:
    """What happened at a step, or why it did not."""
    try:
        return simulation.step()
    except DivergenceError as error:
        return str(error)


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
        reference, other = made(scenario, "reference"), made(scenario, "reference")
        random = torch.Generator().manual_seed(seed)
        for agent in other._system.agents.values():
            for p in agent.learner.parameters.values():
                p.data.mul_(1 + 1e-15 * torch.randn(p.shape, generator=random, dtype=p.dtype))
        try:
            side_by_side(reference, other)
        except AssertionError:
            return True
    return False


def step_by_step(scenario: Document | Scenario) -> None:
    """Let both backends take every step from the reference's state."""
    reference, cohort = twins(scenario)
    for _ in range(STEPS):
        cohort._load_state_dict(checkpoint.copy_tree(reference._state_dict()))
        side_by_side(reference, cohort, 1)
