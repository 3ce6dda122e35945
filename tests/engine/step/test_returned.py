"""What a predictor conditioned on `returned` is told: the newest gradient that has come back, and no newer."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from tests.engine.numbers import predictor_of
from tests.engine.scenes import CLASSIFY, digits


def pair(**channel: Any) -> Simulation:
    agents = {"a": {"observes": ["image"]}, "b": {"objective": {**CLASSIFY, "when": "each"}}}
    env = channel.pop("env", {})
    told = {"from": "a", "to": "b", "size": 4, "gradient": {"context": ["label", "returned"]}, **channel}
    return Simulation(digits(agents, [told], env))


@pytest.mark.parametrize(("delay", "lag"), [(0, 1), (1, 2), (2, 4)])
def test_it_is_the_newest_delta_that_had_arrived(delay: int, lag: int) -> None:
    """Sent at s over delay d: used at s + d, back at s + 2d, and known when the sender ticks after that."""
    simulation = pair(link={"delay": delay}, env={"hold": 20})
    ledger = simulation.system.channels["a->b"].ledger
    deltas: dict[int, torch.Tensor] = {}
    told: dict[int, torch.Tensor | None] = {}
    for _ in range(12):
        simulation.step()
        for stamp, record in ledger.records.items():
            told.setdefault(stamp, record.returned)
            if record.finished is not None and record.delta is not None:
                deltas[stamp] = record.delta
    for stamp, returned in told.items():
        expected = deltas.get(stamp - lag)
        if expected is None:
            assert returned is None, stamp
        else:
            assert returned is not None, stamp
            assert torch.equal(returned, expected), stamp
    assert sum(returned is not None for returned in told.values()) >= 12 - lag - 1


def test_it_is_nothing_after_an_episodes_end() -> None:
    simulation = pair(link={"delay": 1}, env={"hold": 4, "episode": "example"})
    ledger = simulation.system.channels["a->b"].ledger
    for step in range(12):
        simulation.step()
        returned = ledger.records[step].returned
        fresh = returned is None or not bool(returned.any())
        assert fresh == (step % 4 < 2), step


def test_where_the_link_lost_a_message_the_one_before_is_still_the_newest() -> None:
    simulation = pair(link={"drop": 0.5}, env={"hold": 50})
    ledger = simulation.system.channels["a->b"].ledger
    for _ in range(40):
        simulation.step()
    assert ledger.newest is not None
    assert bool(ledger.newest.any(1).all())


def test_a_predictor_sees_it() -> None:
    simulation = pair(env={"hold": 20})
    predictor = predictor_of(simulation, "a->b")
    assert predictor.parameters["last.weight"].shape == (4, 4 + 10 + 4)
    simulation.run(steps=5)
    assert bool(predictor.parameters["last.weight"][:, -4:].any())
