"""A step of the cohort backend dispatches as many operations for many agents as for a few."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.contracts.builders import LABEL, OWN, TOLD, Document, document, ring
from tests.contracts.twins import made
from tests.kit.tiers import sampled
from tests.reference.backend import Chosen

PATTERN = 12
"""Steps after which the pattern of the slowest scenario repeats: periods 1, 2, 3 and 4."""
GROWTH = 1.02
FEW = 16


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what is dispatched."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(scenario: Document, backend: Chosen = "cohort") -> float:
    """Operations per step, over a whole pattern of steps after two that warm up."""
    with made(scenario, backend, dtype=torch.float32) as simulation:
        simulation.run(2 * PATTERN)
        with Counting() as counting:  # of steps alone: the end of a run looks at each agent
            for _ in range(PATTERN):
                simulation.step()
    return int(counting.count) / PATTERN


def plain_ring(count: int) -> Document:
    """A ring of agents that all have an objective."""
    return ring(count, steps=1000)


def periods(count: int) -> Document:
    """A ring of agents of periods 1 to 4 by turns."""
    return ring(count, agent=[{"clock": {"period": p, "unroll": 2}} for p in (1, 2, 3, 4)], steps=1000)


def sparse(count: int) -> Document:
    """A ring over which messages are lost, whose agents learn from half of their windows, and hold a state."""
    agent = {"network": {"kind": "gru", "size": 4}, "clock": {"unroll": 2}, "learn": 0.5}
    link = {"delay": 1, "drop": 0.3, "noise": 0.1}
    channel = {"link": link, "input": {"context": ["x", "held"]}}
    return ring(count, agent=agent, channel=channel, state={"gradient": {"context": ["label"]}}, steps=1000)


def tree(count: int) -> Document:
    """A root that reads k agents, each of which reads k leaves: k * k + k + 1 in all, about `count`."""
    k = max(k for k in range(1, count) if k * k + k + 1 <= max(count, 13))
    agents = {"root": {**OWN, "objective": LABEL}}
    agents |= {f"m{i}": OWN for i in range(k)}
    agents |= {f"v{i}-{j}": OWN for i in range(k) for j in range(k)}
    ends = [(f"m{i}", "root") for i in range(k)] + [
        (f"v{i}-{j}", f"m{i}") for i in range(k) for j in range(k)
    ]
    channels = [{"from": one, "to": other, "size": 4, **TOLD} for one, other in ends]
    return document(agents, channels, steps=1000)


@pytest.mark.long
@pytest.mark.parametrize("many", [64, pytest.param(1024, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("kind", sampled([plain_ring, periods, tree, sparse], 2, "nightly"))
def test_a_step_has_as_many_operations_for_many_agents_as_for_few(kind: Any, many: int) -> None:
    few, found = operations(kind(FEW)), operations(kind(many))
    assert found <= GROWTH * few, f"{few:.1f} and {found:.1f}"
