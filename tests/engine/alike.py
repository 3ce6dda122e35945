"""Systems of agents of one kind, as single agents and as stacks, for the tests of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from antiphon.comms.links import StackedFanIn
from antiphon.engine.build.stacking import stack
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import Stacked, System
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import StackedBackend
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import Description, Signal
from antiphon.scenarios import Scenario
from tests.contracts.backend_documents import GOAL, LABEL, OWN, Document, Play, document, levels, ring
from tests.contracts.backend_twins import agree, differences, facts, made, side_by_side, twins

__all__ = [
    "BATCH",
    "BATCH_NORM",
    "ENDS",
    "GOAL",
    "LABEL",
    "LSTM",
    "OWN",
    "QUARANTINE",
    "Document",
    "Play",
    "Sights",
    "agree",
    "assert_same_state",
    "both",
    "by_rows",
    "channel_stacks",
    "close",
    "differences",
    "document",
    "engine_of",
    "facts",
    "gradient",
    "kept",
    "layout_of",
    "leaves",
    "levels",
    "made",
    "mask",
    "normal",
    "only_channel_stack",
    "only_stack",
    "ring",
    "side_by_side",
    "single_agents",
    "stack_of",
    "stacked_names",
    "stacked_system",
    "stacks",
    "states",
    "system_of",
    "twins",
]

BATCH = 4
ENDS = Play(share=0.15)
QUARANTINE: Document = {"on_divergence": "quarantine"}
LSTM: Document = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 3}}
BATCH_NORM: Document = {"network": {"kind": "mlp", "hidden": [4], "norm": "batch"}}


@dataclass(frozen=True)
class Sights(Play):
    """Where there is another thing to see of the shape of `x`: `z`."""

    @property
    def description(self) -> Description:
        usual = super().description
        return replace(usual, signals={**usual.signals, "z": Signal(shape=(4,))})

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env: Any = super().make(batch=batch, **where)
        usual = env._shown

        def shown() -> tuple[dict[str, Tensor], dict[str, Any]]:
            seen, info = usual()
            return {**seen, "z": env._drawn(7, 4)}, info

        env._shown = shown
        found: TorchVectorEnv = env
        return found


def gradient(**keys: Any) -> Document:
    """A channel with these keys of its synthetic gradient."""
    return {"gradient": {"kind": "linear", "context": ["label"], **keys}}


def states(names: Iterable[str], **keys: Any) -> list[Document]:
    """The state channels of some agents."""
    return [{"from": name, "to": name, "carries": "state", **keys} for name in names]


def single_agents(document: Document | Scenario, **settings: Any) -> Simulation:
    """A simulation by the engine in which every stack is of one: its ledgers and tapes can be read."""
    return made(document, "cohort", stacked=False, **settings)


def both(document: Document, **settings: Any) -> tuple[Simulation, Simulation]:
    """The same simulation twice: of single agents, and of stacks."""
    return single_agents(document, **settings), made(document, "cohort", **settings)


def system_of(document: Document, **settings: Any) -> System:
    """The system of a document, one agent at a time."""
    return single_agents(document, **settings).system


def stacked_system(document: Document, **settings: Any) -> Stacked:
    """The system of a document as stacks."""
    return stack(system_of(document, **settings))


def stacks(found: Stacked) -> list[Agent]:
    """The agents with a leading axis of members."""
    return [agent for agent in found.system.agents.values() if agent.stacked]


def channel_stacks(found: Stacked) -> list[Channel]:
    """The channels between which and their stacks of agents rows are selected: all but those as they were built."""
    return [channel for channel in found.system.channels.values() if channel.members != (channel,)]


def stacked_names(document: Document) -> list[tuple[str, ...]]:
    """The names of each stack's members."""
    return [agent.names for agent in stacks(stacked_system(document))]


def engine_of(simulation: Simulation) -> StackedBackend:
    """The engine of a simulation."""
    assert isinstance(simulation.backend, StackedBackend)
    return simulation.backend


def stack_of(found: Stacked, agent: str) -> Agent:
    """The stack that an agent is in."""
    own = found.system.agents[found.place[agent][0]]
    assert own.stacked
    return own


def layout_of(found: Stacked, agent: str) -> StackedFanIn:
    """The fan-in of the stack that an agent is in."""
    layout = stack_of(found, agent).layout
    assert isinstance(layout, StackedFanIn)
    return layout


def only_stack(found: Stacked) -> Agent:
    """The one stack of agents there is."""
    (own,) = stacks(found)
    return own


def only_channel_stack(found: Stacked) -> Channel:
    """The one stack of channels there is."""
    (own,) = channel_stacks(found)
    return own


def close(one: Tensor, other: Tensor) -> None:
    """Hold two tensors to each other, but for rounding."""
    torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-12, atol=1e-12)


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
        kept(state.state_dict()) if isinstance(state, Simulation) else state for state in (one, other)
    )
    assert list(ours) == list(theirs)
    for place, value in ours.items():
        same = torch.equal(value, theirs[place]) if isinstance(value, Tensor) else value == theirs[place]
        assert same, place


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal random numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def mask(*members: int) -> Tensor:
    """A mask of members, from zeros and ones."""
    return torch.tensor(members) > 0


def by_rows(members: Sequence[int]) -> list[bool]:
    """A mask of members as one of their rows."""
    return [bool(member) for member in members for _ in range(BATCH)]
