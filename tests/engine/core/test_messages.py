"""One channel's messages from sending to their gradient, against values by hand (semantics 4, 5, 7, 17 to 20).

The event simulator of tests/contracts tries the same in random scenes; here a reader sees single cases.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from antiphon.comms.links import Link
from antiphon.engine.core.clock import Clock, Sends, TickWindows
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.records import StepSignals
from antiphon.engine.handles import ModelHandle
from antiphon.errors import EngineError
from antiphon.nets.random import seed_for
from tests.contracts.builders import LABEL, Document, Play, document
from tests.contracts.event_links import received
from tests.contracts.twins import made
from tests.engine.numbers import close, equal, parameters

LINEAR: Document = {"network": {"kind": "mlp", "hidden": [], "norm": "none"}}
BACKENDS = pytest.mark.parametrize("backend", ["cohort", "reference"])
BATCH = 4


def pair(
    sender: Document, receiver: Document, channel: Document, env: Any = None, **training: Any
) -> Document:
    """Agent a sends to agent b, which classifies."""
    agents = {
        "a": {"observes": ["x"], **LINEAR, **sender},
        "b": {"observes": ["y"], **LINEAR, "objective": LABEL, **receiver},
    }
    told = {"from": "a", "to": "b", "size": 4, "norm": "none", "gradient": {"kind": "linear"}, **channel}
    return document(agents, [told], env, batch=BATCH, **training)


def predictor(simulation: Simulation) -> ModelHandle:
    found = simulation.channels["a->b"].synthetic_gradient
    assert found is not None
    return found


def loss(numbers: dict[str, Tensor], seen: dict[str, Tensor], message: Tensor) -> Tensor:
    """b's loss by hand, [B]."""
    given = torch.cat([seen["y"], message], 1)
    output = given @ numbers["objective.weight"].T + numbers["objective.bias"]
    return F.cross_entropy(output, seen["label"], reduction="none")


def own(simulation: Simulation, agent: str) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in simulation.agents[agent].parameters.items()}


@BACKENDS
def test_a_gradient_takes_as_long_back_as_its_message_took(backend: str) -> None:
    with made(pair({}, {}, {"link": {"delay": 2}}), backend) as simulation:
        updates = []
        for _ in range(6):
            simulation.step()
            updates.append(predictor(simulation).updates)
            done = {stamp: m.finished for stamp, m in simulation.channels["a->b"].messages.items()}
            assert all(at == stamp + 2 for stamp, at in done.items() if at is not None)
            assert done[simulation.now - 1] is None
    assert updates == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("unroll", [1, 2])
@BACKENDS
def test_what_goes_back_is_the_sum_over_all_uses_times_the_batch(backend: str, unroll: int) -> None:
    """Over two ticks of one window, or of two: a receiver that learns in between."""
    with made(pair({"clock": {"period": 2}}, {"clock": {"unroll": unroll}}, {}), backend) as simulation:
        total, leaf = torch.zeros(BATCH, dtype=torch.float64), torch.zeros(0)
        for step in range(2):
            numbers, seen = own(simulation, "b"), dict(simulation.signals)
            simulation.step()
            message = simulation.channels["a->b"].messages[0]
            assert message.complete is (step == 1)
            leaf = message.value.detach().clone().requires_grad_() if step == 0 else leaf
            total = total + loss(numbers, seen, leaf)
        assert message.gradient is not None
        (expected,) = torch.autograd.grad(total.sum(), leaf)
        close(message.gradient, expected)
        assert message.finished == 1


@BACKENDS
def test_a_link_that_loses_messages_shows_the_newest_that_came(backend: str) -> None:
    """Zeros, before any has come. Only the use of a message that came itself counts."""
    frozen = {"optimiser": {"kind": "sgd", "lr": 1e-30}}
    with made(pair({}, frozen, {"link": {"drop": 0.5}}), backend) as simulation:
        held, fresh = torch.zeros(BATCH, 4, dtype=torch.float64), 0
        for step in range(12):
            numbers, seen = own(simulation, "b"), dict(simulation.signals)
            info = simulation.step()
            message = simulation.channels["a->b"].messages[step]
            held = torch.where(message.counted.unsqueeze(1), message.received.detach(), held)
            assert float(info["losses"]["b"]) == pytest.approx(float(loss(numbers, seen, held).mean()))
            fresh += int(message.counted.sum())
    assert 12 < fresh < 36


@BACKENDS
def test_what_an_episode_leaves_behind_is_void_where_it_ended(backend: str) -> None:
    """The sender learns before it can know of an end in a later step: it injects all the same."""
    with made(pair({}, {}, {"link": {"delay": 2}}, Play(share=0.2)), backend) as simulation:
        ended: list[Tensor] = []
        for step in range(12):
            ended.append(torch.as_tensor(simulation.step()["ended"]).expand(BATCH).clone())
            messages = simulation.channels["a->b"].messages
            assert torch.equal(messages[step].injects, ~ended[step])
            read = messages.get(step - 2)
            if read is not None:
                gone = ended[step - 2] | ended[step - 1]
                assert torch.equal(read.counted, ~gone)
                assert torch.equal(read.void, gone | ended[step])
                assert read.gradient is None or not read.gradient[gone].any()
    assert torch.stack(ended).any()


@BACKENDS
def test_an_agent_that_does_not_participate_learns_nothing_and_returns_nothing(backend: str) -> None:
    with made(pair({}, {"p_update": 1e-9}, {}), backend) as simulation:
        before = parameters(simulation, "b")
        simulation.run(5)
        assert equal(before, parameters(simulation, "b"))
        assert predictor(simulation).updates == 0
        assert not any(m.counted.any() for m in simulation.channels["a->b"].messages.values())
        assert simulation.agents["a"].updates == 5


@BACKENDS
def test_messages_that_nothing_needs_any_more_are_forgotten(backend: str) -> None:
    document = pair({}, {"clock": {"period": 2, "unroll": 3}}, {"link": {"delay": 2}})
    with made(document, backend) as simulation:
        for _ in range(40):
            simulation.step()
            assert len(simulation.channels["a->b"].messages) <= 12


@pytest.mark.parametrize(("bits", "noise"), [(1, 0.0), (3, 0.2), (None, 0.2)])
def test_a_message_arrives_rounded_within_its_own_range_and_then_blurred(
    bits: int | None, noise: float
) -> None:
    link = {"delay": 2, "bits": bits, "noise": noise}
    with made(pair({}, {}, {"link": link}), "cohort", seed=5) as simulation:
        for step in range(4):
            simulation.step()
            message = simulation.channels["a->b"].messages[step]
            rows = message.value.detach().tolist()
            expected = received(rows, step, bits=bits, noise=noise, seed=seed_for(5, "noise", "a->b"))
            close(message.received, torch.tensor(expected, dtype=torch.float64))


def test_a_record_open_beyond_its_deadline_is_the_engines_fault() -> None:
    """No document comes here: the ledger itself is misused. The reference has the same check."""
    clock = Clock()
    ledger = GradientLedger(
        "a->b", Sends(clock), clock, TickWindows(clock, 1), Link(name="a->b"), wants_deltas=True
    )
    ledger.send(0, torch.zeros(3, 2), StepSignals(0, {}))
    with pytest.raises(EngineError, match="a->b: the record of step 0 is still open at step 1"):
        ledger.send(1, torch.zeros(3, 2), StepSignals(1, {}))
