"""Rules of the specification that only the reference engine's own parts show; documents hold the other backends to it."""

from __future__ import annotations

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.reference.engine import ReferenceEngine
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.step.backends import ReferenceBackend
from antiphon.errors import EngineError
from tests.contracts.builders import ring
from tests.contracts.twins import differences, facts, made


def engine_of(simulation: Simulation) -> ReferenceEngine:
    backend = simulation.backend
    assert isinstance(backend, ReferenceBackend)
    return backend.engine


def test_all_is_computed_with_the_parameters_of_before_the_step() -> None:
    """Rule 7: the order of the groups cannot matter. In the ring it is turned round."""
    one, other = (made(ring(4, channel={"gradient": {"kind": "linear"}}), "reference") for _ in range(2))
    engine_of(other).state.groups.reverse()
    for simulation in (one, other):
        simulation.run(6)
    assert not list(differences(facts(one), facts(other), tolerance=0.0))


def test_a_record_open_beyond_its_deadline_is_an_engine_error() -> None:
    """Rule 17."""
    simulation = made(ring(2, agent={"clock": {"unroll": 3}}), "reference")
    simulation.run(2)
    ledger = engine_of(simulation).state.ledgers["n0->n1"]
    ledger.records[1].deadline = 1
    with pytest.raises(EngineError, match="step 1 is still open at step 2"):
        ledger.forget(2, None)


def test_zeros_are_put_and_never_multiplied() -> None:
    """Rule 19."""
    value = torch.tensor([[1.0], [torch.nan]])
    assert torch.equal(mask_fill_zero(torch.tensor([True, False]), value), torch.tensor([[1.0], [0.0]]))
