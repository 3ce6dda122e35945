"""Messages of one channel as its reader has them, by hand: rounded, blurred, and forgotten (semantics 5, 17, 19).

When they come, count and return is tried by the event simulator of tests/contracts, and what they return in tests/numerics.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.nets.random import seed_for
from tests.contracts.builders import LABEL, Document, Play, document
from tests.contracts.event_links import received
from tests.contracts.twins import made
from tests.engine.numbers import close
from tests.reference.backend import Chosen, reference

LINEAR: Document = {"network": {"kind": "mlp", "hidden": [], "norm": "none"}}
BACKENDS = pytest.mark.parametrize("backend", ["cohort", reference])


def pair(receiver: Document, link: Document, env: Any = None) -> Document:
    """Agent a sends to agent b, which classifies."""
    agents = {"a": {"observes": ["x"], **LINEAR}, "b": {"observes": ["y"], **LINEAR, "objective": LABEL}}
    agents["b"] |= receiver
    told = {"from": "a", "to": "b", "size": 4, "norm": "none", "gradient": {"kind": "linear"}, "link": link}
    return document(agents, [told], env)


@BACKENDS
def test_nothing_is_injected_into_a_message_that_no_tick_reads(backend: Chosen) -> None:
    with made(pair({"clock": {"period": 2}}, {}, Play()), backend) as simulation:
        for step in range(6):
            simulation.step()
            injects = simulation.channels["a->b"].messages[step].injects
            assert injects.all() if step % 2 == 0 else not injects.any()


@BACKENDS
def test_what_an_episode_leaves_behind_is_void_where_it_ended(backend: Chosen) -> None:
    """The sender learns before it can know of an end in a later step: it injects all the same."""
    with made(pair({}, {"delay": 2}, Play(share=0.2)), backend) as simulation:
        ended: list[torch.Tensor] = []
        for step in range(12):
            ended.append(torch.as_tensor(simulation.step()["ended"]).expand(4).clone())
            messages = simulation.channels["a->b"].messages
            assert torch.equal(messages[step].injects, ~ended[step])
            read = messages.get(step - 2)
            if read is not None:
                gone = ended[step - 2] | ended[step - 1]
                assert torch.equal(read.counted, ~gone)
                assert torch.equal(read.void, gone | ended[step])
                assert read.finished == step
                assert read.gradient is None or not read.gradient[gone].any()
    assert torch.stack(ended).any()


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
