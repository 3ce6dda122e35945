"""States: the whole of a simulation as plain data, from which nothing is shared and no graph is kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from tests.engine.numbers import equal, leaves, parameters
from tests.engine.scenes import CLASSIFY, scenario_of


def unrolled(coupling: str = "decoupled") -> Simulation:
    own = {"network": {"kind": "mlp", "hidden": [5], "norm": "batch"}, "clock": {"unroll": 4}}
    channel = {"size": 4, "coupling": coupling, "link": {"delay": 1}, "gradient": {"context": ["label"]}}
    agents = {"a": {"observes": ["image"], **own}, "b": {"objective": CLASSIFY, **own}}
    return Simulation(scenario_of(agents, [{"from": "a", "to": "b", **channel}], {"hold": 2}, batch=4))


def tensors(state: Any) -> dict[str, Tensor]:
    return {place: value for place, value in leaves(state) if isinstance(value, Tensor)}


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_a_copy_shares_no_memory_and_holds_no_graph(coupling: str) -> None:
    simulation = unrolled(coupling)
    simulation.run(6)
    state = simulation._state_dict()
    copied = checkpoint.copy_tree(state)
    ours, theirs = tensors(state), tensors(copied)
    assert ours.keys() == theirs.keys()
    assert len(ours) > 20
    for place, value in theirs.items():
        assert value.grad_fn is None, place
        assert not value.requires_grad, place
        assert torch.equal(value, ours[place])
        assert value.data_ptr() != ours[place].data_ptr() or not value.numel(), place


@pytest.mark.parametrize("coupling", ["locked", "decoupled"])
def test_an_open_window_is_replayed_to_the_same_graph(coupling: str) -> None:
    simulation = unrolled(coupling)
    simulation.run(7)
    twin = simulation.fork()
    for mine, theirs in zip(simulation._system.groups, twin._system.groups, strict=True):
        assert sorted({tick.step for tick in mine.tape.ticks}) == [4, 5, 6]
        assert [tick.step for tick in mine.tape.ticks] == [tick.step for tick in theirs.tape.ticks]
        for one, other in zip(mine.tape.ticks, theirs.tape.ticks, strict=True):
            for part, copied in zip(one.parts, other.parts, strict=True):
                assert part.ports.keys() == copied.ports.keys()
                for name, value in part.ports.items():
                    assert torch.equal(value, copied.ports[name])
                    assert copied.ports[name].grad_fn is not None


def test_no_graph_outlives_its_window() -> None:
    simulation = unrolled()
    simulation.run(3)
    tapes = [unit.tape for unit in simulation._system.groups]
    simulation.run(1)
    for tape in tapes:
        assert not tape.graph_outputs
        assert all(part.ports == {} for tick in tape.ticks for part in tick.parts)
        assert all(record.graph_output is None and record.prediction is None for _, record in tape.sent)


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed", "detached"])
def test_what_is_kept_does_not_grow(coupling: str) -> None:
    simulation = unrolled(coupling)
    sizes = []
    for _ in range(12):
        simulation.run(4)
        sizes.append(len(tensors(simulation._state_dict())))
    assert max(sizes[6:]) <= max(sizes[:6])


def test_a_state_of_another_seed_brings_its_seed() -> None:
    one = unrolled()
    other = Simulation(one.scenario, seed=7, dtype=one.dtype)
    other.run(3)
    one.run(5)
    one._load_state_dict(other._state_dict())
    assert (one.seed, one.now) == (7, 3)
    one.run(4)
    other.run(4)
    assert equal(parameters(one, "b"), parameters(other, "b"))
