"""Rules of the specification, read off the reference engine's own parts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from antiphon.engine.reference.engine import ReferenceEngine
from antiphon.engine.reference.forward import replay
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.state import Optimizer
from antiphon.engine.simulation import Simulation
from antiphon.engine.step.backends import ReferenceBackend
from antiphon.errors import DivergenceError, EngineError
from antiphon.nets.layers import cross_entropy
from antiphon.nets.optimisers import Optimiser
from antiphon.nets.schedules import Rate, Schedule
from tests.contracts.builders import LABEL, Document, Play, document, ring
from tests.contracts.twins import made
from tests.engine.numbers import equal, parameters

MLP: Document = {"kind": "mlp", "hidden": [4], "norm": "none"}


def pair(
    sender: Document, receiver: Document, channel: Document, env: Any = None, **training: Any
) -> Document:
    """Agent a sends to agent b, which classifies."""
    agents = {
        "a": {"observes": ["x"], "network": MLP, **sender},
        "b": {"observes": ["y"], "network": MLP, "objective": LABEL, **receiver},
    }
    return document(agents, [{"from": "a", "to": "b", "size": 4, **channel}], env, **training)


def engine_of(simulation: Simulation) -> ReferenceEngine:
    backend = simulation.backend
    assert isinstance(backend, ReferenceBackend)
    return backend.engine


# --- optimisers (rule 22) ----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9, "weight_decay": 0.1}),
        ("adam", {"betas": (0.5, 0.9)}),
        ("adamw", {}),
    ],
)
def test_plain_optimisers_of_torch_equal_ours(kind: str, settings: Document, clip: float | None) -> None:
    g = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, dtype=torch.float64, generator=g) for shape in ((4, 3), (3,))]
    mine, theirs = ([p.clone().requires_grad_() for p in start] for _ in range(2))
    rate = Rate(base=0.05, horizon=30, schedule=Schedule(kind="cosine", warmup=0.2))
    own = Optimiser(kind, theirs, clip=clip, **settings)
    owner: Any = SimpleNamespace(
        optimiser=Optimiser(kind, mine, clip=clip, **settings), trainable=mine, rate=rate, updates=0
    )
    plain = Optimizer(owner)
    for step in range(40):
        gradients = [torch.randn(p.shape, dtype=torch.float64, generator=g) for p in start]
        plain.step(gradients, step)
        with torch.no_grad():
            own.step(gradients, rate(step))
        for p, q in zip(mine, theirs, strict=True):
            torch.testing.assert_close(p.data, q.data, atol=1e-12, rtol=0)
    assert plain.updates == 40
    assert not torch.equal(mine[0], start[0])


# --- gradients (rules 1, 2, 4, 5, 7) -------------------------------------------------------------------------


def test_what_goes_back_is_the_sum_over_all_uses_times_the_batch() -> None:
    slow = {"clock": {"period": 2}}
    simulation = made(pair(slow, {"clock": {"unroll": 2}}, {"gradient": {"kind": "linear"}}), "reference")
    engine, learner = engine_of(simulation), simulation._system.agents["b"].learner
    before = {name: p.data.clone() for name, p in learner.parameters.items()}
    signals = [dict(simulation.world.step_signals.signals)]
    simulation.step()
    signals.append(dict(simulation.world.step_signals.signals))
    simulation.step()
    record = engine.state.ledgers["a->b"].records[0]
    leaf = record.message.clone().requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for seen in signals:
        ports, _ = learner.network(before, learner.buffers, torch.cat([seen["y"], leaf], 1), training=True)
        loss = loss + cross_entropy(ports["objective"], seen["label"]).sum() / len(leaf)
    (expected,) = torch.autograd.grad(loss, leaf)
    assert record.delta is not None
    torch.testing.assert_close(record.delta, expected * len(leaf), atol=1e-12, rtol=0)
    assert record.complete
    assert record.finished == 1


def test_a_message_that_is_replaced_unread_is_neither_injected_nor_learned_from() -> None:
    simulation = made(pair({}, {"clock": {"period": 2}}, {"gradient": {"kind": "linear"}}), "reference")
    injected = [
        bool(update.injected)
        for _ in range(6)
        for update in learned(simulation)
        if "a" in update.group.members
    ]
    assert injected == [True, False] * 3
    assert engine_of(simulation).state.predictors["a->b"].updates == 3


def learned(simulation: Simulation) -> list[Any]:
    simulation.step()
    return list(simulation.learned.updates)


def test_who_does_not_participate_learns_nothing_and_returns_nothing() -> None:
    simulation = made(pair({}, {"p_update": 1e-9}, {"gradient": {"kind": "linear"}}), "reference")
    before = parameters(simulation, "b")
    simulation.run(5)
    state = engine_of(simulation).state
    assert equal(before, parameters(simulation, "b"))
    assert state.predictors["a->b"].updates == 0
    assert all(not record.counts.any() for record in state.ledgers["a->b"].records.values())


def test_all_is_computed_with_the_parameters_of_before_the_step() -> None:
    """The order of the groups cannot matter: in the ring it is turned round."""
    one, other = (made(ring(4, channel={"gradient": {"kind": "linear"}}), "reference") for _ in range(2))
    engine_of(other).state.groups.reverse()
    for simulation in (one, other):
        simulation.run(6)
    for name in one._system.agents:
        assert equal(parameters(one, name), parameters(other, name))


# --- time (rules 15, 17, 18, 20) -------------------------------------------------------------------------------


def test_a_replayed_tape_gives_the_same_bits() -> None:
    lstm = {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 4}}
    simulation = made(pair(lstm, {"clock": {"unroll": 4}}, {"coupling": "locked"}), "reference")
    simulation.run(3)
    state = engine_of(simulation).state
    tape = state.group_of["b"].tape
    first = {key: output.clone() for key, output in tape.outputs.items()}
    assert len(first) == 6
    replay(state, tape)
    for key, output in tape.outputs.items():
        assert torch.equal(output, first[key])
        assert output.requires_grad


def test_a_record_open_beyond_its_deadline_is_an_engine_error() -> None:
    simulation = made(pair({}, {"clock": {"unroll": 3}}, {}), "reference")
    simulation.run(2)
    ledger = engine_of(simulation).state.ledgers["a->b"]
    ledger.records[1].deadline = 1
    with pytest.raises(EngineError, match="step 1 is still open at step 2"):
        ledger.forget(2, None)


def test_the_newest_message_that_arrived_is_read_where_the_due_one_is_lost() -> None:
    channel = {"link": {"drop": 0.5}, "coupling": "detached"}
    simulation = made(pair({}, {}, channel), "reference")
    state, held = engine_of(simulation).state, torch.full((simulation._system.batch,), -1)
    for step in range(8):
        simulation.step()
        record = state.ledgers["a->b"].records[step]
        held = torch.where(record.lost, held, step)
        delivery = state.mailboxes["a->b"].deliveries(step)[-1]
        assert torch.equal(delivery.counts, held == step)
        assert torch.equal(delivery.present, held >= 0)
        assert not delivery.value[held < 0].any()
        for row in range(len(held)):
            if held[row] >= 0 and int(held[row]) in state.ledgers["a->b"].records:
                sent = state.ledgers["a->b"].records[int(held[row])].received[row]
                assert torch.equal(delivery.value[row], sent)
    assert (held >= 0).any()


def test_an_episode_that_ends_voids_what_is_on_its_way() -> None:
    simulation = made(pair({}, {}, {"link": {"delay": 2}}), "reference")
    simulation.run(4)
    engine = engine_of(simulation)
    batch = simulation._system.batch
    ended = torch.arange(batch) < 2
    engine.cut(3, ended, torch.zeros(batch, dtype=torch.bool))
    records = engine.state.ledgers["a->b"].records
    assert torch.equal(records[3].void, ended)
    assert torch.equal(records[3].no_injection, ended)
    assert torch.equal(records[1].void, ended)
    assert not records[1].no_injection.any()  # it was read before its episode ended
    delivery = engine.state.mailboxes["a->b"].deliveries(4)[-1]
    assert torch.equal(delivery.counts, ~ended)
    assert not delivery.value[ended].any()


def test_zeros_are_put_and_never_multiplied() -> None:
    mask = torch.tensor([True, False])
    value = torch.tensor([[1.0], [torch.nan]])
    assert torch.equal(mask_fill_zero(mask, value), torch.tensor([[1.0], [0.0]]))


# --- divergence (rule 32) -------------------------------------------------------------------------------------


def test_where_something_diverges_no_parameter_moves() -> None:
    simulation = made(pair({}, {}, {"gradient": {"kind": "linear"}}), "reference")
    simulation.run(3)
    simulation._system.agents["b"].learner.trainable[0].data.fill_(torch.nan)
    before = parameters(simulation, "a")
    with pytest.raises(DivergenceError, match="agent 'b': the gradient at step 3 is not finite"):
        simulation.step()
    assert equal(before, parameters(simulation, "a"))


def test_under_quarantine_the_others_go_on() -> None:
    env = Play()
    scenario = pair({}, {}, {"gradient": {"kind": "linear"}}, env, on_divergence="quarantine")
    simulation = made(scenario, "reference")
    simulation.run(3)
    simulation._system.agents["b"].learner.trainable[0].data.fill_(torch.nan)
    before = parameters(simulation, "a")
    simulation.run(3)
    state = engine_of(simulation).state
    assert state.agent_disabled == {"b"}
    assert [step for step, _ in simulation.events] == [3]
    assert not any(map(torch.equal, before[:1], parameters(simulation, "a")[:1]))
