"""Parts that do not wait: lockstep's bits where nothing is late, and what a late, lost, old or overtaking message does."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.build.builder import build_to_look
from antiphon.engine.parts.aligned import travelling_signals
from antiphon.engine.parts.free_boundary import (
    FreeBoundary,
    FreeFigures,
    FreeSettings,
    packed,
    unpacked,
)
from antiphon.engine.parts.part import LEARNED, Part, merge_states
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.envs.registry import describe
from antiphon.scenarios import Scenario
from tests.engine.parts.lockstep import equal
from tests.engine.parts.stages import different, exchange, of_parts, of_simulation, stages


def free_parts(scenario: Scenario, **settings: Any) -> list[Part]:
    placement = {name: i for i, name in enumerate(scenario.agents)}
    bounds = FreeSettings(**settings)
    return [Part(scenario, placement, i, stacked=False, free=bounds) for i in placement.values()]


def boundary(part: Part) -> FreeBoundary:
    assert isinstance(part.boundary, FreeBoundary)
    return part.boundary


def figures(part: Part) -> FreeFigures:
    return boundary(part).figures


@pytest.mark.parametrize(
    "scenario",
    [
        stages(),
        stages(4, "critic"),
        stages(2, "linear"),
        stages(2, "local"),
        stages(aligned=False, env={"hold": 4}),
        stages(channel={"link": {"delay": 1, "drop": 0.3, "noise": 0.1}}),
        stages(
            channel={"coupling": "unlocked", "input": {"kind": "linear", "context": ["image"]}},
            aligned=False,
            env={"hold": 4},
        ),
        stages(channel={"coupling": "delayed"}),
        stages(
            channel={"link": {"delay": 1, "drop": 0.3}, "input": {"kind": "linear", "context": ["image"]}}
        ),
    ],
    ids=["sobolev", "critic", "linear", "local", "unaligned", "lossy", "unlocked", "delayed", "inputs"],
)
def test_where_nothing_is_late_all_is_learned_to_the_bits_of_delay_1(scenario: Scenario) -> None:
    parts, whole = free_parts(scenario), Simulation(scenario, stacked=False)
    for _ in range(25):
        for part in parts:
            assert part.ready
            part.step()
        exchange(parts)
        whole.step()
    assert not different(of_parts(parts), of_simulation(whole))


def test_parts_of_stacked_agents_learn_the_bits_of_the_stacked_simulation() -> None:
    scenario = stages(6, "sobolev")
    placement = {name: i // 2 for i, name in enumerate(scenario.agents)}
    parts = [Part(scenario, placement, i, free=FreeSettings()) for i in range(3)]
    whole = Simulation(scenario)
    for _ in range(15):
        for part in parts:
            part.step()
        exchange(parts)
        whole.step()
    assert not different(of_parts(parts), of_simulation(whole))


def test_an_aligned_part_waits_for_its_message_and_no_other_part_does() -> None:
    first, second, third = free_parts(stages())
    for part in (first, second, third):
        assert part.waits_for() == ()  # at step 0 nothing is due
        part.step()
    assert (first.waits_for(), second.waits_for(), third.waits_for()) == ((), (0,), (1,))
    first.step()
    second.deliver(first.collect(1))
    assert second.ready
    assert not third.ready
    assert [message.stamp for message in boundary(second)._queues["s0->s1"]] == [0, 1]


def test_messages_are_read_one_after_the_other_by_an_aligned_agent_however_they_arrive() -> None:
    first, second, _ = free_parts(stages())
    second.step()
    sent = []
    for _ in range(4):
        first.step()
        sent.append(first.collect(1))
    for found in (sent[1], sent[3], sent[0], sent[2]):
        second.deliver(found)
    for _ in range(4):
        second.step()
    returned = [one.stamp for one in second.collect(0).returns]
    assert returned == [0, 1, 2, 3]
    assert figures(second) == FreeFigures()


def test_a_full_queue_drops_the_oldest_messages() -> None:
    first, second, _ = free_parts(stages(), queue=2)
    second.step()
    for _ in range(5):
        first.step()
    second.deliver(first.collect(1))
    second.step()
    assert [one.stamp for one in second.collect(0).returns] == [3]
    assert figures(second).dropped == 3


def test_without_alignment_the_newest_message_is_read_and_an_older_one_is_never_taken_for_it() -> None:
    first, second, _ = free_parts(stages(aligned=False, env={"hold": 50}))
    sent = []
    for _ in range(3):
        first.step()
        sent.append(first.collect(1))
    second.step()
    second.deliver(sent[2])
    second.deliver(sent[0])
    second.step()
    assert [one.stamp for one in second.collect(0).returns] == [2]
    assert figures(second).dropped == 1
    second.deliver(sent[1])
    second.step()  # nothing newer has come
    assert second.collect(0).returns == []
    assert figures(second).missed == 1
    assert figures(second).dropped == 2


def test_a_receiver_that_misses_a_message_reads_the_one_before_and_learns_from_it() -> None:
    first, second, _ = free_parts(stages(aligned=False, env={"hold": 50}))
    second.step()
    first.step()
    second.deliver(first.collect(1))
    second.step()
    channel = second.backend.system.channels["s0->s1"]
    arrived = channel.mailbox.receive(1)
    second.step()
    held = channel.mailbox.receive(2)
    assert held.value is not None
    assert arrived.value is not None
    assert torch.equal(held.value, arrived.value)
    assert held.counted is False or not bool(torch.as_tensor(held.counted).any())
    assert bool(torch.as_tensor(held.available).all())


def test_what_does_not_come_back_is_given_up_and_what_comes_later_is_ignored() -> None:
    first, second = free_parts(stages(2), staleness=3)
    second.step()
    first.step()
    second.deliver(first.collect(1))
    second.step()
    late = second.collect(0)
    for _ in range(4):
        first.step()
    ledger = boundary(first).sending["s0->s1"].ledger
    assert figures(first).given_up == 1
    before = of_parts([first])
    first.deliver(late)
    assert figures(first).returned == 0
    assert not ledger.completed
    first.step()
    predictor = [name for name in before if "->" in name]
    assert not [name for name in different(before, of_parts([first])) if name in predictor]


def test_what_comes_back_in_time_is_learned_from_at_once_and_its_age_counted() -> None:
    first, second = free_parts(stages(2), staleness=50)
    second.step()
    first.step()
    second.deliver(first.collect(1))
    second.step()
    for _ in range(9):
        first.step()
    before = copy_tree(of_parts([first]))
    first.deliver(second.collect(0))
    first.step()
    changed = different(before, of_parts([first]))
    assert any(name.startswith("s0->s1") for name in changed)
    assert (figures(first).returned, figures(first).staleness) == (1, 10)


def test_a_part_that_is_restarted_is_not_handed_what_came_back_for_messages_it_has_forgotten() -> None:
    first, second = free_parts(stages(2))
    second.step()
    saved = copy_tree(first.own_state())
    first.step()
    second.deliver(first.collect(1))
    second.step()
    first.load_own_state(saved)
    first.incarnation = 1
    first.step()  # it sends step 0 again
    first.deliver(second.collect(0))
    assert figures(first).returned == 0
    second.deliver(first.collect(1))
    second.step()  # a message of a later start is newer than one of the same step
    first.deliver(second.collect(0))
    assert figures(first).returned == 1


def test_messages_of_a_part_that_is_restarted_are_read_after_those_it_sent_before() -> None:
    first, second, _ = free_parts(stages())
    second.step()
    saved = copy_tree(first.own_state())
    for _ in range(3):
        first.step()
    second.deliver(first.collect(1))
    first.load_own_state(saved)
    first.incarnation = 1
    first.step()  # it sends step 0 again
    second.deliver(first.collect(1))
    for _ in range(4):
        second.step()
    returned = [(one.stamp, one.incarnation) for one in second.collect(0).returns]
    assert returned == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_a_restored_part_goes_on_to_the_same_bits_with_all_that_was_under_way() -> None:
    scenario = stages(3, "linear")
    parts = free_parts(scenario)
    for part in parts:
        part.step()
    exchange(parts)
    for _ in range(5):  # the first runs ahead of the others
        parts[0].step()
    for to, found in [(n, part.collect(n)) for part in parts for n in part.neighbours]:
        parts[to].deliver(unpacked(copy_tree(packed(found))))
    parts[1].step()
    under_way = [(n, packed(part.collect(n))) for part in parts for n in part.neighbours]
    others = free_parts(scenario)
    for part, other in zip(parts, others, strict=True):
        other.load_own_state(copy_tree(part.own_state()))
    for each in (parts, others):
        for to, state in under_way:
            each[to].deliver(unpacked(copy_tree(state)))
        for _ in range(4):
            for part in each:
                if part.ready:
                    part.step()
            exchange(each)
    assert [part.now for part in parts] == [part.now for part in others]
    assert [figures(part) for part in parts] == [figures(part) for part in others]
    assert not different(of_parts(parts), of_parts(others))


def test_signals_travel_only_where_an_agent_is_aligned_and_only_those_it_and_its_own_receivers_need() -> None:
    scenario = stages(4)
    whole = build_to_look(scenario, describe(scenario.env))
    cut = list(whole.channels)
    assert travelling_signals(whole, cut) == dict.fromkeys(cut, ("label",))
    unaligned = stages(4, aligned=False, env={"hold": 4})
    assert travelling_signals(build_to_look(unaligned, describe(unaligned.env)), cut) == {}
    first = free_parts(scenario)[0]
    first.step()
    (message,) = first.collect(1).messages
    assert list(message.signals) == ["label"]
    assert message.nbytes == message.content.nbytes + message.signals["label"].nbytes


def test_an_agent_that_reads_two_cut_channels_gets_messages_of_one_example() -> None:
    document = stages(3).to_yaml()
    skip = "- {from: s0, to: s2, gradient: {kind: sobolev, context: [label]}, link: {delay: 2}}"
    scenario = Scenario.from_yaml(document.replace("channels:\n", f"channels:\n{skip}\n", 1), "two")
    first, second, third = free_parts(scenario)
    for part in (first, second, third):
        part.step()
    third.step()  # at its second step nothing is due over the longer way
    for _ in range(3):
        first.step()
    second.deliver(first.collect(1))
    third.deliver(first.collect(2))
    assert third.waits_for() == (1,)
    second.step()
    second.step()
    third.deliver(second.collect(2))
    third.step()
    returned = [(one.channel, one.stamp) for n in (0, 1) for one in third.collect(n).returns]
    assert returned == [("s0->s2", 0), ("s1->s2", 1)]  # both of the example of step 0
    assert figures(third).dropped == 1  # what the second sent before it had read anything


@pytest.mark.parametrize("stacked", [False, True])
def test_parts_go_on_from_the_state_of_a_whole_and_hand_over_what_they_have_learned(stacked: bool) -> None:
    scenario = stages(4, "sobolev")
    placement = {name: i // 2 for i, name in enumerate(scenario.agents)}
    whole = Simulation(scenario, stacked=stacked)
    for _ in range(9):
        whole.step()
    parts = [Part(scenario, placement, i, stacked=stacked, free=FreeSettings()) for i in range(2)]
    for part in parts:
        part.load_state_dict(whole._state_dict())
    for _ in range(7):
        for part in parts:
            assert part.ready
            part.step()
        exchange(parts)
        whole.step()
    assert not different(of_simulation(whole), of_parts(parts))
    found = merge_states([part.state_dict() for part in parts])
    assert (found["now"], set(found["system"])) == (16, set(LEARNED))
    for key in LEARNED:
        assert equal(found["system"][key], whole._state_dict()["system"][key])
