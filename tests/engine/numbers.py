"""What tests of the engine read from a simulation, and hold to what it ought to be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon import ScenarioError, Simulation


def parameters(simulation: Simulation, agent: str) -> list[Tensor]:
    """Copies of an agent's parameters."""
    return [p.data.clone() for p in simulation.agents[agent].parameters.values()]


def all_parameters(simulation: Simulation) -> list[Tensor]:
    """Copies of the parameters of all agents."""
    return [p for agent in simulation.agents for p in parameters(simulation, agent)]


def equal(one: Iterable[Tensor], other: Iterable[Tensor]) -> bool:
    """Whether tensors are the same to the bit."""
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of a state, by its place."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}")
    elif isinstance(value, list | tuple):
        yield f"{path}#", len(value)
        for i, item in enumerate(value):
            yield from leaves(item, f"{path}/{i}")
    else:
        yield path, value


def kept(state: Any) -> dict[str, Any]:
    """The numbers of a state by their places, copied."""
    return {place: v.detach().clone() if isinstance(v, Tensor) else v for place, v in leaves(state)}


def assert_same_state(one: Simulation | dict[str, Any], other: Simulation | dict[str, Any]) -> None:
    """Hold two states to each other, bit by bit."""
    ours, theirs = (
        kept(state.running.state_dict()) if isinstance(state, Simulation) else state for state in (one, other)
    )
    assert list(ours) == list(theirs)
    for place, value in ours.items():
        same = torch.equal(value, theirs[place]) if isinstance(value, Tensor) else value == theirs[place]
        assert same, place


@contextmanager
def unchanged(simulation: Simulation) -> Iterator[None]:
    """Expect that no bit of a simulation changes."""
    before = kept(simulation.running.state_dict())
    yield
    assert_same_state(simulation, before)


@contextmanager
def one_line(match: str, error: type[Exception] = ScenarioError) -> Iterator[None]:
    """Expect an error that says so in one line."""
    with pytest.raises(error, match=match) as caught:
        yield
    assert "\n" not in str(caught.value)
