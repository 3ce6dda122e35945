"""Systems of agents that are alike, for the tests of this folder, and what there is to be told of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.build.stacking import Stacked, stack
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import System
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.engine import Engine
from antiphon.envs.base import TorchVectorEnv
from antiphon.envs.signal import Description, Signal
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
    "close",
    "cohort_backend",
    "cohort_of",
    "cohorts",
    "differences",
    "document",
    "facts",
    "gradient",
    "kept",
    "leaves",
    "levels",
    "lifted",
    "made",
    "only_bundle",
    "only_cohort",
    "ring",
    "side_by_side",
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


def system_of(document: Document, **settings: Any) -> System:
    """The system of a document, one agent at a time."""
    return made(document, "reference", **settings).system


def lifted(document: Document, **settings: Any) -> Stacked:
    """The system of a document as cohorts and bundles."""
    return stack(system_of(document, **settings))


def cohorts(document: Document) -> list[tuple[str, ...]]:
    """Who is run together, by cohort."""
    return [cohort.names for cohort in lifted(document).cohorts]


def cohort_backend(simulation: Simulation) -> Engine:
    """The backend of a simulation that is run by cohorts."""
    assert isinstance(simulation.backend, Engine)
    return simulation.backend


def cohort_of(found: Stacked, agent: str) -> Agent:
    """The cohort that an agent is in."""
    cohort = found.system.agents[found.place[agent][0]]
    assert isinstance(cohort, Agent)
    return cohort


def only_cohort(found: Stacked) -> Agent:
    """The one cohort there is."""
    (cohort,) = found.cohorts
    return cohort


def only_bundle(found: Stacked) -> Channel:
    """The one bundle there is."""
    (bundle,) = found.bundles
    return bundle


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
