"""Unions: the systems of several seeds as one, whose agents share all numbers with those they stand for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from antiphon.engine.build.join_replicas import Union, bare, named, sequential_reason_of
from antiphon.engine.build.stacking import reasons_alone, stack
from antiphon.engine.core.records import ReplicaSignals, StepSignals, joined
from antiphon.engine.core.system import System
from antiphon.engine.state.state_dict import snapshot
from tests.contracts.builders import GOAL, Document, Play, levels, ring
from tests.engine.numbers import assert_same_state, kept
from tests.engine.scenes import BATCH, ENDS, LSTM, gradient
from tests.engine.stacks import channel_stacks, single_agents, stacks, system_of

REPLICAS = 3


SCENES: dict[str, Document] = {
    "ring": ring(3, channel={"input": {"kind": "linear", "context": ["held"]}}),
    "levels": levels(channel={"coupling": "locked"}, wide=True, count=2),
    "aligned": levels(high={"align": True, "observes": ["x"]}, count=2),
    "recurrent": ring(
        2, agent=LSTM, channel=gradient(context=["from.state"]), env=ENDS, state=gradient(trace=0.5, span=2)
    ),
    "windows": ring(3, agent={"clock": {"unroll": 4}}, channel={"link": {"delay": 1, "drop": 0.5}}),
}


def united(scene: Document, steps: int = 0, **training: Any) -> tuple[Union, list[System]]:
    scene = {**scene, "training": {**scene["training"], **training}}
    systems = []
    for seed in range(REPLICAS):
        simulation = single_agents(scene, seed=seed)
        simulation.run(steps)
        systems.append(simulation._system)
    return Union(systems), systems


def test_names() -> None:
    assert named("a->b:k", 12) == "a->b:k@12"
    assert bare(named("a->b:k", 12)) == "a->b:k"


@pytest.mark.parametrize("name", SCENES)
def test_agents_stand_for_those_of_each_replica(name: str) -> None:
    union, systems = united(SCENES[name])
    assert union.system.replicas == REPLICAS
    assert len(union.system.agents) == REPLICAS * len(systems[0].agents)
    for replica, system in enumerate(systems):
        for own, agent in system.agents.items():
            twin = union.system.agents[named(own, replica)]
            assert twin.name == named(own, replica)
            assert twin.learner is agent.learner
            assert twin.participation_seed == agent.participation_seed
            assert union.system.replica_of[twin.name] == replica
            assert [channel.name for channel in twin.incoming] == [
                named(c.name, replica) for c in agent.incoming
            ]
            assert [channel.name for channel in twin.outgoing] == [
                named(c.name, replica) for c in agent.outgoing
            ]
            assert (twin.memory is None) is (agent.memory is None)
            assert twin.align == (None if agent.align is None else named(agent.align, replica))
            assert agent.name == own  # which are left as they were
        for own, channel in system.channels.items():
            other = union.system.channels[named(own, replica)]
            assert (other.sender, other.receiver) == (
                named(channel.sender, replica),
                named(channel.receiver, replica),
            )
            assert other.ledger is channel.ledger
            assert other.predictor is channel.predictor
            assert other.input is channel.input
            assert channel.name == own


@pytest.mark.parametrize("name", SCENES)
def test_they_tick_and_learn_when_they_would_alone(name: str) -> None:
    union, systems = united(SCENES[name])
    for step in range(12):
        calls = list(union.system.schedule.calls(step))
        for replica, system in enumerate(systems):
            own = [tuple(named(n, replica) for n in call) for call in system.schedule.calls(step)]
            assert [call for call in calls if call[0].endswith(f"@{replica}")] == own
        ending = {(unit.members, unit.windows.ending(step)) for unit in union.system.groups}
        assert ending == {
            (tuple(named(n, replica) for n in unit.members), unit.windows.ending(step))
            for replica, system in enumerate(systems)
            for unit in system.groups
        }


def test_all_alike_of_all_replicas_are_alike() -> None:
    """Even where none has a second in a replica of its own."""

    union, _ = united(levels(count=1, high={"network": {"kind": "gru", "size": 4}}))
    found = stack(union.system)
    assert [one.names for one in stacks(found)] == [("a0@0", "a0@1", "a0@2"), ("b0@0", "b0@1", "b0@2")]
    assert [one.replicas.index.tolist() for one in channel_stacks(found)] == [
        [0, 1, 2],
        [0, 1, 2],
    ]  # one carries the states
    assert found.alone == {}


@pytest.mark.parametrize("name", SCENES)
def test_joined_and_parted_again_systems_are_what_they_were(name: str) -> None:
    union, systems = united(SCENES[name], steps=6)
    before = [kept(snapshot(system)) for system in systems]
    union.join()
    for system in systems:
        for unit in system.groups:
            unit.tape, unit.past = copy.copy(unit.tape), []
            unit.tape.ticks, unit.tape.sent, unit.tape.start = [], [], {}
    union.part()
    for system, was in zip(systems, before, strict=True):
        assert_same_state(kept(snapshot(system)), was)


def test_what_is_disabled_goes_both_ways() -> None:
    union, systems = united(levels(count=2))
    twin, channel = union.system.agents["a1@2"], union.system.channels["a1->b1@2"]
    twin.agent_disabled = True
    channel.disable_predictors([0])
    channel.disable_input_models([0])
    union.part()
    own = systems[2].channels["a1->b1"]
    assert (systems[2].agents["a1"].agent_disabled, own.predictor_disabled, own.input_model_disabled) == (
        True,
        True,
        True,
    )
    assert not any(system.agents["a1"].agent_disabled for system in systems[:2])
    assert not any(system.channels["a1->b1"].predictor_disabled for system in systems[:2])
    systems[2].agents["a1"].agent_disabled = False
    own.predictors_disabled = own.input_models_disabled = None
    systems[0].agents["b0"].agent_disabled = True
    systems[0].channels["a0->b0"].disable_predictors([0])
    union.join()
    assert (twin.agent_disabled, channel.predictor_disabled, channel.input_model_disabled) == (
        False,
        False,
        False,
    )
    assert union.system.agents["b0@0"].agent_disabled is True
    assert union.system.channels["a0->b0@0"].predictor_disabled


# --- moments ---------------------------------------------------------------------------------------------


def moments() -> list[StepSignals]:
    """Of three replicas, in one of which a target is absent, and in another of which there is a mask."""
    found = [
        StepSignals(4, {"x": torch.full((BATCH, 2), float(w)), "label": torch.full((BATCH,), w)})
        for w in range(3)
    ]
    found[1].signals["_label"] = torch.tensor([True, False] * (BATCH // 2))
    return found


def test_moments_of_replicas_are_one_after_the_other() -> None:
    each = moments()
    found = joined(each)
    assert isinstance(found, ReplicaSignals)
    assert found.step == 4
    assert found.signals["x"][:, 0].tolist() == [0.0] * BATCH + [1.0] * BATCH + [2.0] * BATCH
    assert found.signals["_label"].tolist() == [True] * BATCH + [True, False] * (BATCH // 2) + [True] * BATCH
    each[0].signals["goal"] = each[1].signals["goal"] = torch.ones(BATCH)  # in the last replica there is none
    assert "goal" not in found.signals
    found.complete()
    assert found.signals["goal"].tolist() == [1.0] * (2 * BATCH) + [0.0] * BATCH
    assert [own is one for own, one in zip(found.each, each, strict=True)] == [True] * 3


# --- why not ---------------------------------------------------------------------------------------------


APART: dict[str, tuple[Document, str]] = {
    "lengths": (
        ring(
            agent={"network": {"kind": "gru", "size": 4}, "clock": {"unroll": "episode"}},
            env=Play(lengths=(4, 5)),
        ),
        "how long",
    ),
    "aligned, ends": (levels(high={"align": True}, env=ENDS), "episodes end"),
    "alone": (ring(agent={"share": "g"}, channel={"port": "p"}), "tied"),
    "acting": (ring(agent=[{"objective": GOAL, "acts": True}, *[{"objective": GOAL}] * 3]), "acts"),
}


@pytest.mark.parametrize("name", APART)
def test_why_seeds_are_not_run_at_once(name: str) -> None:
    scene, why = APART[name]
    system = system_of(scene)
    reason = sequential_reason_of(system, list(reasons_alone(system).values()))
    assert reason is not None
    assert why in reason


@pytest.mark.parametrize("name", SCENES)
def test_else_there_is_no_reason(name: str) -> None:
    system = system_of(SCENES[name])
    assert sequential_reason_of(system, list(reasons_alone(system).values())) is None
