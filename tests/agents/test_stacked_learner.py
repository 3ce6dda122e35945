"""Stacked learners: the members' parameters are views, may be replaced, and step as they would alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.agents.learner import Learner, StackedLearner
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import DivergenceError
from tests.contracts.builders import LABEL, OWN, Document, document, levels, ring
from tests.contracts.twins import agree, made, side_by_side, twins
from tests.engine.numbers import close, kept
from tests.engine.scenes import BATCH, BATCH_NORM, ENDS, LSTM, gradient
from tests.engine.stacks import engine_of, stacks, system_of

COUNT = 5
OPTIMISERS: dict[str, Document] = {
    "sgd": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
    "adam": {"kind": "adam", "lr": 0.01, "clip": 0.5},
    "adamw, scheduled": {"kind": "adamw", "lr": 0.01, "schedule": {"kind": "linear", "factor": 0.1}},
}


def learners(**agent: Any) -> list[Learner]:
    system = system_of(ring(COUNT, agent=agent, channel={"norm": "batch"}))
    return [agent.learner for agent in system.agents.values()]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(learner: Learner) -> dict[str, Any]:
    return kept(learner.state_dict())


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for place, value in one.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            close(value, other[place])
        else:
            assert value == other[place], place


# --- views -----------------------------------------------------------------------------------------------


def test_members_parameters_are_views_of_the_stack() -> None:
    own = learners(**BATCH_NORM)
    before = [numbers(learner) for learner in own]
    stack = StackedLearner(own)
    for n, learner in enumerate(own):
        assert_close(numbers(learner), before[n])
        for (name, stacked), p in zip(stack.parameters.items(), learner.parameters.values(), strict=True):
            assert torch.equal(stacked[n], p), name
            with torch.no_grad():
                stacked[n].add_(1.0 + n)
                assert torch.equal(stacked[n], p)
                p.mul_(2.0)
            assert torch.equal(stacked[n], p)
            assert p.requires_grad


def test_views_survive_a_loaded_state() -> None:
    own = learners(**BATCH_NORM)
    stack = StackedLearner(own)
    stack.step([drawn(*p.shape, seed=i) for i, p in enumerate(stack.trainable)], 0, None)
    stack.write_members()
    stack.step([drawn(*p.shape, seed=i) for i, p in enumerate(stack.trainable)], 1, None)  # not yet written
    other = learners(**BATCH_NORM)[3]
    for now in range(4):
        other.step([drawn(*p.shape, seed=i) for i, p in enumerate(other.trainable)], now)
    other.buffers = {name: value + 2 for name, value in other.buffers.items()}
    own[3].load_state_dict(other.state_dict())
    stack.read_members()
    for i, p in enumerate(other.parameters.values()):
        assert torch.equal(stack.trainable[i][3], p)
    for stacked, value in zip(stack.buffers.values(), other.buffers.values(), strict=True):
        assert torch.equal(stacked[3], value)
    # and it goes on from there
    gradients = [drawn(COUNT, *p.shape, seed=7 + i) for i, p in enumerate(other.trainable)]
    stack.step(gradients, 5, None)
    stack.write_members()
    other.step([g[3] for g in gradients], 5)
    assert_close(numbers(own[3]), numbers(other))


def test_a_simulation_s_agents_are_views_for_as_long_as_it_lives() -> None:
    simulation = made(ring(COUNT, agent=BATCH_NORM), "cohort")
    (cohort,) = stacks(engine_of(simulation).stacked)
    early = checkpoint.copy_tree(simulation._state_dict())
    for _ in range(2):
        simulation.run(3)
        for n, name in enumerate(cohort.names):
            learner = simulation._system.agents[name].learner
            for stacked, p in zip(
                cohort.learner.parameters.values(), learner.parameters.values(), strict=True
            ):
                assert p.data_ptr() == stacked[n].data_ptr()
            for tensors in learner.optimiser.state.values():
                assert all(t.untyped_storage().size() > t.nbytes for t in tensors)
        simulation._load_state_dict(early)


def test_what_is_written_into_an_agent_is_what_the_stack_computes_with() -> None:
    reference, cohort = twins(ring())
    for simulation in (reference, cohort):
        simulation.run(4)
        for p in simulation._system.agents["n2"].learner.parameters.values():
            p.data.mul_(0.5)
    side_by_side(reference, cohort, 6)


# --- steps -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMISERS)
def test_members_step_as_their_own_optimisers_would(name: str) -> None:
    """All, some and none by turns; counts of steps and clipping are each one's own."""
    alone = learners(optimiser=OPTIMISERS[name])
    own = learners(optimiser=OPTIMISERS[name])
    stack = StackedLearner(own)
    turns = [None, [1, 0, 1, 1, 0], [0, 0, 0, 0, 1], None, [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    for now, turn in enumerate(turns):
        gradients = [3 * drawn(*p.shape, seed=10 * now + i) for i, p in enumerate(stack.trainable)]
        members = None if turn is None else torch.tensor(turn) > 0
        for n, learner in enumerate(alone):
            if turn is None or turn[n]:
                learner.step([g[n] for g in gradients], now)
            else:
                for g in gradients:
                    g[n] = torch.nan  # of whom nothing may be read
        stack.step(gradients, now, members)
    assert stack.taken.tolist() == [learner.updates for learner in alone]
    assert [learner.updates for learner in own] == [0] * COUNT
    stack.write_members()
    assert stack.taken.tolist() == [0] * COUNT
    for one, other in zip(own, alone, strict=True):
        assert_close(numbers(one), numbers(other))


def test_a_frozen_stack_has_nothing_to_move() -> None:
    own = learners(learn=False)
    stack = StackedLearner(own)
    assert stack.frozen
    assert stack.trainable == []
    assert not any(p.requires_grad for p in stack.parameters.values())
    stack.step([], 0, None)
    side_by_side(*twins(ring(agent={"learn": False, **BATCH_NORM})))


# --- rows and running statistics -------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_rows_are_evaluated_with_each_member_s_numbers(training: bool) -> None:
    own = learners(**BATCH_NORM)
    alone = copy.deepcopy([(learner.parameters, learner.buffers) for learner in own])
    stack = StackedLearner(own)
    x = drawn(COUNT * BATCH, *own[0].network.input_shape).requires_grad_()
    ports, after = stack.network(stack.parameters, stack.buffers, x, training=training)
    for n, (parameters, buffers) in enumerate(alone):
        network = own[n].network
        rows = slice(n * BATCH, (n + 1) * BATCH)
        said, moved = network(parameters, buffers, x[rows], training=training)
        for port, own_port in zip(own[0].network.heads, network.heads, strict=True):
            close(ports[port][rows], said[own_port])
        for stacked, value in zip(after.values(), moved.values(), strict=True):
            close(stacked[n], value)


def test_running_statistics_go_to_members_and_back() -> None:
    own = learners(**BATCH_NORM)
    stack = StackedLearner(own)
    before = dict(stack.buffers)
    stack.buffers = {name: value + 1 for name, value in before.items()}
    who = torch.tensor([True, False, False, True, False])
    stack.restore_buffers(who, before)
    stack.write_members()
    for n, learner in enumerate(own):
        for (name, value), was in zip(learner.buffers.items(), before.values(), strict=True):
            assert torch.equal(value, was[n] + (0 if who[n] else 1)), name
    own[2].buffers = {name: value * 3 for name, value in own[2].buffers.items()}
    stack.read_members()
    for stacked, value in zip(stack.buffers.values(), own[2].buffers.values(), strict=True):
        assert torch.equal(stacked[2], value)


# --- against single agents -------------------------------------------------------------------------------

SCENES: dict[str, Document] = {
    "ring": ring(COUNT, channel=gradient(kind="mlp", hidden=[4], norm="layer")),
    "scale and discount": ring(COUNT, channel=gradient(scale=0.3, discount=0.7)),
    "nothing put": ring(COUNT, channel=gradient(scale=0.0)),
    "draws": ring(COUNT, agent={"p_update": 0.4, "clock": {"unroll": 2}}),
    "statistics": ring(COUNT, agent=BATCH_NORM, env=ENDS),
    "frozen": ring(COUNT, agent={"learn": False}),
    "senders": levels(count=COUNT, wide=True, channel={"port": "p"}),
    "critics": levels(count=COUNT, channel=gradient(kind="critic", hidden=[4], norm="layer")),
    "mixed": levels(count=COUNT, channel=gradient(trace=0.5, propagate=0.3)),
    "quarantine": ring(COUNT, on_divergence="quarantine", bound=1.0),
}


@pytest.mark.parametrize("name", SCENES)
def test_the_numbers_are_those_of_single_agents(name: str) -> None:
    reference, cohort = twins(SCENES[name])
    assert any(len(agent.members) == COUNT for agent in stacks(engine_of(cohort).stacked))
    side_by_side(reference, cohort, 10)


def to_themselves() -> Document:
    """Agents that are locked to their own later ticks."""
    clock: Document = {"clock": {"unroll": 3}}
    agents = {f"n{i}": {**OWN, **clock, "objective": LABEL} for i in range(COUNT)}
    how: Document = {"size": 4, "coupling": "locked", "link": {"delay": 1}}
    return document(agents, [{"from": name, "to": name, **how} for name in agents])


@pytest.mark.parametrize(
    "scene",
    [
        levels(count=COUNT, channel={"coupling": "locked"}),
        ring(COUNT, agent={**LSTM, "clock": {"unroll": 2}}),
        to_themselves(),
    ],
)
def test_joined_within_a_window_they_are_those_of_single_agents(scene: Document) -> None:
    reference, cohort = twins(scene)
    assert all(len(agent.members) == COUNT for agent in stacks(engine_of(cohort).stacked))
    side_by_side(reference, cohort, 8)


def test_gradients_of_members_are_reported_where_telemetry_watches() -> None:
    found = []
    for simulation in twins(ring(COUNT)):
        simulation.run(3)
        simulation._advance(watch=True)
        updates = simulation.learned.updates
        found.append({name: own for update in updates for name, own in update.gradients.items()})
    assert found[0].keys() == found[1].keys()
    for name, gradients in found[0].items():
        for one, other in zip(gradients, found[1][name], strict=True):
            assert one is not None
            assert other is not None
            torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("early", [2, 5])
def test_forks_go_on_to_the_same_bits(early: int) -> None:
    scene = ring(COUNT, agent={**BATCH_NORM, "clock": {"unroll": 3}}, env=ENDS)
    run = made(scene, "cohort")
    run.run(early)
    twin, other = run.fork(), run.fork(stacked=False)
    for simulation in (run, twin, other):
        simulation.run(7)
    ours, theirs = (kept(s._state_dict()["system"]["learners"]) for s in (run, twin))
    assert all(
        torch.equal(v, theirs[k]) if isinstance(v, Tensor) else v == theirs[k] for k, v in ours.items()
    )
    agree(other, run)


def two_rings() -> Document:
    agents = {f"n{i}": {**OWN, "objective": LABEL} for i in range(4)}
    layer = {"kind": "mlp", "hidden": [5], "norm": "layer"}
    agents |= {f"z{i}": {**OWN, "network": layer, "objective": LABEL} for i in range(4)}
    return document(
        agents,
        [
            {"from": f"{k}{i}", "to": f"{k}{(i + 1) % 4}", "size": 4, "link": {"delay": 1}, **gradient()}
            for k in "nz"
            for i in range(4)
        ],
    )


def poison(simulation: Simulation, agent: str) -> None:
    for p in simulation._system.agents[agent].learner.parameters.values():
        p.data.fill_(torch.nan)


@pytest.mark.parametrize("sick", ["n0", "n3", "z0", "z3"])
def test_where_one_diverges_no_parameter_has_moved(sick: str) -> None:
    simulation = made(two_rings(), "cohort")
    simulation.run(5)
    poison(simulation, sick)
    before = kept({n: a.learner.state_dict() for n, a in simulation._system.agents.items()})
    with pytest.raises(DivergenceError, match=f"agent '{sick}'"):
        simulation.step()
    after = kept({n: a.learner.state_dict() for n, a in simulation._system.agents.items()})
    for place, value in before.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(after[place], value, rtol=0, atol=0, equal_nan=True, msg=place)
        else:
            assert after[place] == value, place


@pytest.mark.parametrize("sick", ["n0", "n3", "z3"])
def test_a_member_in_quarantine_leaves_the_others_as_they_are(sick: str) -> None:
    scene = two_rings()
    scene["training"] = {**scene["training"], "on_divergence": "quarantine"}
    reference, cohort = twins(scene)
    for simulation in (reference, cohort):
        simulation.run(5)
        poison(simulation, sick)
    for _ in range(4):
        reference.step()
        cohort.step()
    assert reference.events == cohort.events
    for name in scene["agents"]:
        if name != sick:
            agents = (reference._system.agents[name], cohort._system.agents[name])
            assert_close(*(kept(agent.learner.state_dict()) for agent in agents))
