"""Stacking: from single agents and channels to stacks of them, each in its place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from torch import Tensor

from antiphon.comms.stacked import StackedModels
from antiphon.engine.build.stacking import stack, stacks_of
from antiphon.engine.core.channel import Channel
from antiphon.engine.core.system import Stacked
from antiphon.errors import ScenarioError
from tests.contracts.builders import GOAL, LABEL, OWN, Document, document, levels, ring
from tests.contracts.drawn_scenes import scenes
from tests.contracts.twins import side_by_side, twins
from tests.engine.scenes import BATCH, LSTM, QUARANTINE, gradient
from tests.engine.stacks import (
    channel_stacks,
    layout_of,
    only_channel_stack,
    only_stack,
    stack_of,
    stacked_system,
    stacks,
    system_of,
)

LOCKED: Document = {"coupling": "locked"}


def pairs(*told: tuple[str, str], own: Document | None = None, **how: Any) -> Document:
    """Agents a…, without an objective, send to agents b…, that have one."""
    names = sorted({name for pair in told for name in pair})
    agents = {
        n: {**OWN, **({"objective": LABEL} if n[0] == "b" else {}), **(own or {}).get(n, {})} for n in names
    }
    return document(agents, [{"from": a, "to": b, "size": 4, **gradient(), **how} for a, b in told])


def places(index: Tensor | None) -> list[int] | None:
    return None if index is None else index.tolist()


# --- who is where ----------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(scenes())
def test_every_agent_and_channel_has_its_place(scene: Document) -> None:
    try:
        found = stacked_system(scene)
    except ScenarioError:
        assume(False)
        return
    seen: list[str] = []
    for name, agent in found.system.agents.items():
        assert agent.name == name
        names = agent.names
        seen += names
        assert [found.place[own] for own in names] == [(name, n) for n in range(len(names))]
        assert (names[0] in found.alone) is not agent.stacked
    assert sorted(seen) == sorted(found.base.agents)
    held: list[str] = []
    for name, channel in found.system.channels.items():
        assert channel.name == name
        held += channel.names
        _check_ends(found, channel)
    assert sorted(held) == sorted(found.base.channels)
    _check_groups(found)


def _check_ends(found: Stacked, channel: Channel) -> None:
    """Each row of a stack of channels belongs to the ends of its channel."""
    members = channel.members
    sender, receiver = found.system.agents[channel.sender], found.system.agents[channel.receiver]
    if channel.state:
        assert sender.memory is channel
    else:
        assert channel in sender.outgoing
        assert channel in receiver.incoming
    assert (sender.stacked or receiver.stacked) is (channel in channel_stacks(found))
    assert channel.names == tuple(own.name for own in members)
    assert channel.rows == len(members) * found.base.batch
    for end, index, agent in (
        ("sender", channel.sender_index, sender),
        ("receiver", channel.receiver_index, receiver),
    ):
        at = range(len(members)) if index is None else index.tolist()
        assert [agent.names[n] for n in at] == [getattr(own, end) for own in members]
    assert list(members) == sorted(members, key=lambda own: found.place[own.sender][1])


def _check_groups(found: Stacked) -> None:
    """What learns together by itself does so here, with windows that end at the same steps."""
    for unit in found.base.groups:
        (own,) = {id(found.system.group_of[found.place[name][0]]) for name in unit.members}
        stacked_group = next(u for u in found.system.groups if id(u) == own)
        assert stacked_group.windows == unit.windows
        assert stacked_group.late == unit.late
    calls = [call for wave in found.system.schedule.waves for call in wave]
    assert sorted({name for call in calls for name in call}) == sorted(found.system.agents)
    assert len(calls) == len(set(calls))


def test_names_and_the_order_of_members_are_canonical() -> None:
    found = stacked_system(levels(count=3))
    assert list(found.system.agents) == ["a0 and 2 more", "b0 and 2 more"]
    assert list(found.system.channels) == ["a0->b0 and 2 more"]
    assert found.place["b2"] == ("b0 and 2 more", 2)
    assert [cohort.names for cohort in stacks(found)] == [("a0", "a1", "a2"), ("b0", "b1", "b2")]
    assert channel_stacks(found) == [only_channel_stack(found)]


def test_members_come_in_another_order_than_channels() -> None:
    one = only_channel_stack(stacked_system(pairs(("a0", "b2"), ("a1", "b0"), ("a2", "b1"))))
    assert [channel.name for channel in one.members] == ["a0->b2", "a1->b0", "a2->b1"]
    assert places(one.sender_index) is None
    assert places(one.receiver_index) == [2, 0, 1]
    box = layout_of(stacked_system(pairs(("a0", "b2"), ("a1", "b0"), ("a2", "b1"))), "b0")
    (segment,) = box.segments
    assert places(segment.index) == [1, 2, 0]


def test_senders_to_several_are_taken_several_times() -> None:
    one = only_channel_stack(stacked_system(levels(wide=True, channel={"port": "p"})))
    assert places(one.sender_index) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert places(one.receiver_index) == [0, 1, 2] * 3
    assert one.senders == 3


def test_parallel_channels_are_side_by_side_in_canonical_order() -> None:
    scene = pairs(("a0", "b0"), ("a1", "b1"), port="p")
    scene["channels"] += [{**channel, "key": "second"} for channel in scene["channels"]]
    found = stacked_system(scene)
    assert [c.name for c in only_channel_stack(found).members] == [
        "a0->b0",
        "a0->b0:second",
        "a1->b1",
        "a1->b1:second",
    ]
    (segment,) = layout_of(found, "b0").segments
    assert (segment.width, places(segment.index)) == (2, None)


def test_messages_of_other_shapes_separate_what_is_side_by_side() -> None:
    scene = pairs(("a0", "b0"), ("a1", "b1"))
    scene["channels"] += [
        {**channel, "key": key, "size": size}
        for channel in scene["channels"]
        for key, size in (("k", 3), ("m", 4))
    ]
    segments = layout_of(stacked_system(scene), "b0").segments
    assert [segment.width for segment in segments] == [1, 1, 1]
    scene = pairs(("a0", "b0"), ("a1", "b1"))
    scene["channels"] += [
        {**channel, "key": key, "size": size}
        for channel in scene["channels"]
        for key, size in (("k", 4), ("m", 3))
    ]
    assert [s.width for s in layout_of(stacked_system(scene), "b0").segments] == [2, 1]


@pytest.mark.parametrize("fan_in", ["sum", "mean"])
def test_where_messages_are_added_in_degrees_may_differ(fan_in: str) -> None:
    own = {f"b{i}": {"fan_in": fan_in} for i in range(3)}
    told = [("a0", "b0"), ("a1", "b0"), ("a2", "b0"), ("a2", "b1"), ("a0", "b2")]
    found = stacked_system(pairs(*told, own=own, port="p"))
    cohort = stack_of(found, "b0")
    assert cohort.names == ("b0", "b1", "b2")
    assert [segment.receivers.tolist() for segment in layout_of(found, "b0").reduced] == [[0, 2, 0, 0, 1]]
    assert layout_of(found, "b0").segments == ()


# --- what stands beside them -----------------------------------------------------------------------------


def test_a_lone_agent_sends_to_a_stack_and_reads_of_it() -> None:
    agents: Document = {f"n{i}": {**OWN, "objective": LABEL} for i in range(3)}
    agents["z"] = {**OWN, "observes": ["y"], "objective": GOAL}
    told = [{"from": "z", "to": f"n{i}", "size": 4, "port": "p", **gradient()} for i in range(3)]
    told.append({"from": "n1", "to": "z", "size": None, "link": {"delay": 1}, **gradient()})
    found = stacked_system(document(agents, told))
    assert found.alone == {"z": "no other is like it"}
    back, to = channel_stacks(found)
    assert (places(to.sender_index), places(to.receiver_index), to.senders) == ([0, 0, 0], None, 1)
    assert (places(back.sender_index), places(back.receiver_index), back.senders) == ([1], None, 3)
    assert back.ledger is not found.base.channels["n1->z"].ledger
    assert back.predictor is found.base.channels["n1->z"].predictor
    assert found.system.agents["z"] is not found.base.agents["z"]
    assert found.base.agents["z"].outgoing == [found.base.channels[f"z->n{i}"] for i in range(3)]


def test_what_stands_alone_at_both_ends_is_itself() -> None:
    found = stacked_system(ring(channel={"coupling": "delayed"}))
    assert stacks(found) == []
    assert found.system is found.base
    assert found.alone.keys() == found.base.agents.keys()


def test_messages_are_stacked_by_kind_even_to_one() -> None:
    agents: Document = {f"a{i}": dict(OWN) for i in range(4)} | {
        "b": {**OWN, "observes": ["y"], "objective": LABEL}
    }
    kinds = [{}, {"link": {"noise": 0.1}}, {}, {"link": {"noise": 0.1}}]
    found = stacked_system(
        document(
            agents, [{"from": f"a{i}", "to": "b", "size": 4, **gradient(), **kinds[i]} for i in range(4)]
        )
    )
    assert [[c.name for c in one.members] for one in channel_stacks(found)] == [
        ["a0->b", "a2->b"],
        ["a1->b", "a3->b"],
    ]
    segments = layout_of(found, "b").segments
    assert [(s.width, s.channels, places(s.index)) for s in segments] == [(4, (0, 1), [0, 2, 1, 3])]


def test_a_port_has_the_name_it_has_with_the_first_member() -> None:
    """a1's port is called after b, to which the first member of its stack does not send."""
    agents: Document = {name: dict(OWN) for name in ("a0", "a1")}
    agents |= {"b": {**OWN, "observes": ["y"], "objective": LABEL}, "c": {**OWN, "objective": GOAL}}
    scene = document(
        agents, [{"from": a, "to": b, "size": 4, **gradient()} for a, b in (("a0", "c"), ("a1", "b"))]
    )
    found = stacked_system(scene)
    assert only_stack(found).names == ("a0", "a1")
    assert {channel.name: channel.port for channel in found.base.channels.values()} == {
        "a0->c": "to_c",
        "a1->b": "to_b",
    }
    assert {one.name: one.port for one in channel_stacks(found)} == {
        "a0->c": "to_c",
        "a1->b": "to_c",
    }
    assert only_stack(found).ports == ("to_c",)
    side_by_side(*twins(scene), 6)


def test_an_aligned_stack_is_aligned_to_a_stack_of_channels() -> None:
    scene = pairs(("a0", "b0"), ("a1", "b1"), own={f"b{i}": {"align": True} for i in range(2)})
    found = stacked_system(scene)
    assert stack_of(found, "b0").align == only_channel_stack(found).name
    scene["channels"] += [{**c, "key": "k", "size": 3} for c in scene["channels"]]
    for i in range(2):
        scene["agents"][f"b{i}"] = {**scene["agents"][f"b{i}"], "align": f"a{i}->b{i}:k"}
    found = stacked_system(scene)
    assert stack_of(found, "b0").align == next(b.name for b in channel_stacks(found) if b.shape == (3,))


# --- what learns together --------------------------------------------------------------------------------


def test_groups_that_share_a_stack_learn_as_one_group() -> None:
    """a0 is locked to c, a1 to z: two groups by themselves."""
    clock = {"clock": {"unroll": 2}}
    agents: Document = {n: {**OWN, **clock} for n in ("a0", "a1")}
    agents |= {
        "c": {**OWN, **clock, "observes": ["y"], "objective": LABEL},
        "z": {**OWN, **clock, "objective": GOAL},
    }
    found = stacked_system(
        document(agents, [{"from": "a0", "to": "c", **LOCKED}, {"from": "a1", "to": "z", **LOCKED}])
    )
    assert [unit.members for unit in found.base.groups] == [("a0", "c"), ("a1", "z")]
    assert [unit.members for unit in found.system.groups] == [("a0 and 1 more", "c", "z")]


def test_groups_of_cohorts_and_those_apart() -> None:
    scene = levels(channel=LOCKED)
    scene["agents"] |= {f"n{i}": {**OWN, "observes": ["y"], "objective": LABEL} for i in range(2)}
    found = stacked_system(scene)
    assert [unit.members for unit in found.system.groups] == [
        ("a0 and 2 more", "b0 and 2 more"),
        ("n0 and 1 more",),
    ]


def test_what_mixes_in_what_comes_back_is_differentiated_after_it() -> None:
    found = stacked_system(levels(channel=gradient(trace=0.5), count=2))
    depth = {unit.members[0]: found.system.depths[id(unit)] for unit in found.system.groups}
    assert depth == {"a0 and 1 more": 1, "b0 and 1 more": 0}


# --- numbers ---------------------------------------------------------------------------------------------


def test_predictors_inputs_links_and_zeros_are_of_all_members() -> None:
    how = {"input": {"kind": "linear", "context": ["x"]}, "link": {"delay": 1, "drop": 0.5}}
    one = only_channel_stack(stacked_system(ring(3, channel=how)))
    assert isinstance(one.predictor, StackedModels)
    assert isinstance(one.input, StackedModels)
    assert one.zeros.shape == (3 * BATCH, 4)
    assert [link.name for link in one.ledger.link.members] == [channel.name for channel in one.members]
    for k, channel in enumerate(one.members):
        assert channel.predictor is not None
        for name, p in channel.predictor.parameters.items():
            assert p.data_ptr() == one.predictor.parameters[name][k].data_ptr()


def test_draws_have_the_seeds_of_their_agents() -> None:
    found = stacked_system(ring(3, agent={"p_update": 0.5}))
    cohort = only_stack(found)
    assert cohort.participation_seeds is not None
    assert cohort.participation_seeds.tolist() == [
        found.base.agents[name].participation_seed for name in cohort.names
    ]
    assert only_stack(stacked_system(ring(3))).participation_seeds is None


def test_stacking_changes_no_number() -> None:
    own = {**LSTM, "network": {"kind": "lstm", "size": 4, "cell_norm": "batch"}}
    system = system_of(ring(agent=own, state=gradient(), **QUARANTINE))
    before = {n: {k: v.clone() for k, v in a.learner.parameters.items()} for n, a in system.agents.items()}
    stack(system)
    for name, own in before.items():
        for key, value in own.items():
            assert torch.equal(system.agents[name].learner.parameters[key], value)
    assert stacks_of(system)[1] == {}
