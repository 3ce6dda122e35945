"""Parts that do not wait: what a late, lost, old or overtaking message does at a part (distributed/parts/free_boundary.py)."""

from __future__ import annotations

from typing import Any

import torch
import yaml

from antiphon import Scenario, Simulation
from antiphon.distributed.parts.exchange import Exchange
from antiphon.distributed.parts.free_boundary import ArrivalTotals
from antiphon.distributed.parts.free_settings import FreeSettings
from antiphon.distributed.parts.part import Part
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.engine.state.wire import bytes_of
from tests.distributed.parts.stages import stages


def free_parts(scenario: Scenario, **settings: Any) -> list[Part]:
    placement = {name: i for i, name in enumerate(scenario.agents)}
    bounds = FreeSettings(**settings)
    return [Part(scenario, placement, i, stacked=False, free=bounds) for i in placement.values()]


def totals(part: Part) -> ArrivalTotals:
    assert part.free is not None
    return part.free.totals


def stepped(part: Part, steps: int) -> Part:
    for _ in range(steps):
        part.step()
    return part


def sent(part: Part, steps: int, to: int) -> list[Exchange]:
    """What a part has for a neighbour after each of some steps."""
    return [stepped(part, 1).collect(to) for _ in range(steps)]


def returned(part: Part, to: int) -> list[tuple[int, int]]:
    """Stamp and incarnation of the messages whose gradients a part has for a neighbour."""
    return [(one.stamp, one.incarnation) for one in part.collect(to).returns]


def predictor(part: Part) -> list[torch.Tensor]:
    """Copies of the parameters of a part's synthetic gradients."""
    channels = part.backend.per_agent().channels.values()
    models = [p for channel in channels if (p := channel.synthetic_gradient.model) is not None]
    return [p.detach().clone() for model in models for p in model.parameters.values()]


def moved(before: list[torch.Tensor], part: Part) -> bool:
    return any(not torch.equal(a, b) for a, b in zip(before, predictor(part), strict=True))


HELD = stages(aligned=False, env={"hold": 50})


def test_an_aligned_part_waits_for_its_message_and_no_other_part_does() -> None:
    first, second, third = free_parts(stages())
    for part in (first, second, third):
        assert part.waits_for() == ()  # at step 0 nothing is due
        part.step()
    assert (first.waits_for(), second.waits_for(), third.waits_for()) == ((), (0,), (1,))
    first.step()
    second.deliver(first.collect(1))
    assert second.waits_for() == ()
    assert third.waits_for() == (1,)


def test_messages_are_read_one_after_the_other_by_an_aligned_agent_however_they_arrive() -> None:
    first, second, _ = free_parts(stages())
    second.step()
    some = sent(first, 4, to=1)
    for number in (1, 3, 0, 2):
        second.deliver(some[number])
    stepped(second, 4)
    assert returned(second, 0) == [(0, 0), (1, 0), (2, 0), (3, 0)]
    assert totals(second) == ArrivalTotals()


def test_a_full_queue_drops_the_oldest_messages() -> None:
    first, second, _ = free_parts(stages(), queue=2)
    second.step()
    second.deliver(stepped(first, 5).collect(1))
    second.step()
    assert returned(second, 0) == [(3, 0)]
    assert totals(second).dropped == 3


def test_without_alignment_the_newest_message_is_read_and_an_older_one_is_never_taken_for_it() -> None:
    first, second, _ = free_parts(HELD)
    some = sent(first, 3, to=1)
    second.step()
    second.deliver(some[2])
    second.deliver(some[0])
    second.step()
    assert returned(second, 0) == [(2, 0)]
    assert totals(second).dropped == 1
    second.deliver(some[1])
    second.step()  # nothing newer has come
    assert returned(second, 0) == []
    assert (totals(second).missed, totals(second).dropped) == (1, 2)


def test_a_receiver_that_misses_a_message_reads_the_one_before_which_counts_no_more() -> None:
    first, second, _ = free_parts(HELD)
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    ledger = second.backend.system.channels["s0->s1"].ledger
    second.step()
    (arrived,) = ledger.receive(1)
    second.step()
    (held,) = ledger.receive(2)
    assert held.value is not None
    assert arrived.value is not None
    assert torch.equal(held.value, arrived.value)
    assert not held.may_count.anywhere
    assert held.available.everywhere


def test_what_does_not_come_back_is_given_up_and_what_comes_later_is_ignored() -> None:
    first, second = free_parts(stages(2), staleness=3)
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    late = stepped(second, 1).collect(0)
    stepped(first, 4)
    assert totals(first).given_up == 1
    before = predictor(first)
    first.deliver(late)
    assert totals(first).returned == 0
    assert not moved(before, stepped(first, 1))


def test_what_comes_back_in_time_is_learned_from_at_once_and_its_age_counted() -> None:
    first, second = free_parts(stages(2), staleness=50)
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    second.step()
    before = predictor(stepped(first, 9))
    first.deliver(second.collect(0))
    assert moved(before, stepped(first, 1))
    assert (totals(first).returned, totals(first).staleness) == (1, 10)


def test_what_was_under_way_at_the_division_may_come_back_late_too() -> None:
    scenario = stages(2)
    with Simulation(scenario, stacked=False) as whole:
        for _ in range(5):
            whole.step()
        state = whole.running.state_dict()
    first, second = free_parts(scenario, staleness=50)
    for part in (first, second):
        part.load_state_dict(state)
    stepped(first, 20)
    before = predictor(first)
    first.deliver(stepped(second, 1).collect(0))
    assert moved(before, stepped(first, 1))
    assert (totals(first).given_up, totals(first).returned) == (0, 1)


def test_a_part_that_is_restarted_is_not_handed_what_came_back_for_messages_it_has_forgotten() -> None:
    first, second = free_parts(stages(2))
    second.step()
    saved = copy_tree(first.own_state())
    second.deliver(stepped(first, 1).collect(1))
    second.step()
    first.restart(1, saved)
    first.step()  # it sends step 0 again
    first.deliver(second.collect(0))
    assert totals(first).returned == 0
    second.deliver(first.collect(1))
    second.step()  # a message of a later start is newer than one of the same step
    first.deliver(second.collect(0))
    assert totals(first).returned == 1


def test_messages_of_a_part_that_is_restarted_are_read_after_those_it_sent_before() -> None:
    first, second, _ = free_parts(stages())
    second.step()
    saved = copy_tree(first.own_state())
    second.deliver(stepped(first, 3).collect(1))
    first.restart(1, saved)
    second.deliver(stepped(first, 1).collect(1))  # it sends step 0 again
    stepped(second, 4)
    assert returned(second, 0) == [(0, 0), (1, 0), (2, 0), (0, 1)]


def test_signals_travel_only_where_an_agent_is_aligned_and_only_those_it_and_its_own_receivers_need() -> None:
    document = yaml.safe_load(stages(3).to_yaml())
    for channel in document["channels"]:  # nothing of the second needs the label, which its own receiver does
        channel["gradient"] = {"kind": "linear"}
    bare = Scenario.model_validate(document)
    for scenario, signals in ((stages(4), ["label"]), (bare, ["label"]), (HELD, [])):
        exchange = stepped(free_parts(scenario)[0], 1).collect(1)
        (message,) = exchange.messages
        travelling = message.signals or {}
        assert list(travelling) == signals
        bytes_of_signals = sum(bytes_of(value) for value in travelling.values())
        assert exchange.nbytes == message.content.nbytes + bytes_of_signals


def test_what_the_gradient_of_a_state_is_conditioned_on_travels_too() -> None:
    document = yaml.safe_load(stages(3).to_yaml())
    for channel in document["channels"]:
        channel["gradient"] = {"kind": "linear"}
    document["agents"]["s1"] |= {"network": {"kind": "lstm", "size": 4}, "clock": {"unroll": 2}}
    document["agents"]["s2"] |= {"align": False}
    gradient = {"kind": "linear", "context": ["label"]}
    document["channels"].append({"from": "s1", "to": "s1", "key": "state", "gradient": gradient})
    first, *_ = free_parts(Scenario.model_validate(document))
    (message,) = stepped(first, 1).collect(1).messages
    assert message.signals is not None
    assert list(message.signals) == ["label"]


def test_an_agent_that_reads_two_cut_channels_gets_messages_of_one_example() -> None:
    document = stages(3).to_yaml()
    skip = "- {from: s0, to: s2, gradient: {kind: sobolev, context: [label]}, link: {delay: 2}}"
    scenario = Scenario.from_yaml(document.replace("channels:\n", f"channels:\n{skip}\n", 1), "two")
    first, second, third = free_parts(scenario)
    for part in (first, second, third, third):
        part.step()  # at its second step nothing is due over the longer way
    stepped(first, 3)
    second.deliver(first.collect(1))
    third.deliver(first.collect(2))
    assert third.waits_for() == (1,)
    third.deliver(stepped(second, 2).collect(2))
    third.step()
    both = [(one.channel, one.stamp) for n in (0, 1) for one in third.collect(n).returns]
    assert both == [("s0->s2", 0), ("s1->s2", 1)]  # both of the example of step 0
    assert totals(third).dropped == 1  # what the second sent before it had read anything
