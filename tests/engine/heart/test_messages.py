"""Messages of one channel as its reader has them, by hand: rounded, blurred, and forgotten (semantics 5, 17, 19).

When they come, count and return is tried by the event simulator of tests/contracts, and what they return in tests/numerics.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.nets.random import seed_for
from tests.contracts.builders import LABEL, Document, document
from tests.contracts.event_links import received
from tests.contracts.twins import made
from tests.engine.numbers import close

LINEAR: Document = {"network": {"kind": "mlp", "hidden": [], "norm": "none"}}


def pair(receiver: Document, link: Document, env: Any = None) -> Document:
    """Agent a sends to agent b, which classifies."""
    agents = {"a": {"observes": ["x"], **LINEAR}, "b": {"observes": ["y"], **LINEAR, "objective": LABEL}}
    agents["b"] |= receiver
    told = {"from": "a", "to": "b", "size": 4, "norm": "none", "gradient": {"kind": "linear"}, "link": link}
    return document(agents, [told], env)


@pytest.mark.parametrize(("bits", "noise"), [(1, 0.0), (3, 0.2), (None, 0.2)])
def test_a_message_arrives_rounded_within_its_own_range_and_then_blurred(
    bits: int | None, noise: float
) -> None:
    with made(pair({}, {"delay": 2, "bits": bits, "noise": noise}), "cohort", seed=5) as simulation:
        for step in range(4):
            simulation.step()
            message = simulation.channels["a->b"].messages[step]
            rows = message.value.detach().tolist()
            expected = received(rows, step, bits=bits, noise=noise, seed=seed_for(5, "noise", "a->b"))
            close(message.received, torch.tensor(expected, dtype=torch.float64))
