"""Parts that do not wait: what a late, lost, old or overtaking message does at a part."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from antiphon import Scenario
from antiphon.distributed.parts.cut import Exchange
from antiphon.distributed.parts.part import Part
from tests.distributed.parts.stages import stages


def free_parts(scenario: Scenario) -> list[Part]:
    placement = {name: i for i, name in enumerate(scenario.agents)}
    return [Part(scenario, placement, i, stacked=False, free=True) for i in placement.values()]


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of two messages, and three steps until a message is given up."""
    monkeypatch.setattr("antiphon.distributed.parts.free_boundary._QUEUE", 2)
    monkeypatch.setattr("antiphon.distributed.parts.free_boundary._STALENESS", 3)


def totals(part: Part) -> Counter[str]:
    assert part.free is not None
    return part.free.totals


def stepped(part: Part, steps: int) -> Part:
    for _ in range(steps):
        part.step()
    return part


def sent(part: Part, steps: int, to: int) -> list[Exchange]:
    """What a part has for a neighbour after each of some steps."""
    return [stepped(part, 1).collect(to) for _ in range(steps)]


def returned(part: Part, to: int) -> list[int]:
    """Stamps of the messages whose gradients a part has for a neighbour."""
    return [one.stamp for one in part.collect(to).returns]


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
    assert returned(second, 0) == [0, 1, 2, 3]
    assert not totals(second)


def test_a_full_queue_drops_the_oldest_messages(bounds: None) -> None:
    first, second, _ = free_parts(stages())
    second.step()
    second.deliver(stepped(first, 5).collect(1))
    second.step()
    assert returned(second, 0) == [3]


def test_without_alignment_the_newest_message_is_read_and_an_older_one_is_never_taken_for_it() -> None:
    first, second, _ = free_parts(HELD)
    some = sent(first, 3, to=1)
    second.step()
    second.deliver(some[2])
    second.deliver(some[0])
    second.step()
    assert returned(second, 0) == [2]
    second.deliver(some[1])
    second.step()  # nothing newer has come
    assert returned(second, 0) == []


def test_a_receiver_that_misses_a_message_reads_the_one_before_which_counts_no_more() -> None:
    first, second, _ = free_parts(HELD)
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    inbox = second.backend.system.channels["s0->s1"].wire.inbox
    second.step()
    (arrived,) = inbox.read(1)
    second.step()
    (held,) = inbox.read(2)
    assert held.value is not None
    assert arrived.value is not None
    assert torch.equal(held.value, arrived.value)
    assert not held.may_count.anywhere
    assert held.available.everywhere


@pytest.mark.parametrize("period", [1, 8])
def test_what_does_not_come_back_is_given_up_and_what_comes_later_is_ignored(
    bounds: None, period: int
) -> None:
    """A sender that ticks every 8 steps still holds the message that it has given up."""
    document = stages(2, aligned=False).model_dump(exclude_unset=True)
    document["agents"]["s0"]["clock"] = {"period": period}
    first, second = free_parts(Scenario.model_validate(document))
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    late = stepped(second, 8).collect(0)
    assert [one.stamp for one in late.returns] == [0]
    stepped(first, 4)
    assert totals(first)["given_up"] == 1
    before = predictor(first)
    first.deliver(late)
    assert totals(first)["returned"] == 0
    assert not moved(before, stepped(first, 1))


def test_what_comes_back_in_time_is_learned_from_at_once_and_its_age_counted() -> None:
    first, second = free_parts(stages(2))
    second.step()
    second.deliver(stepped(first, 1).collect(1))
    second.step()
    before = predictor(stepped(first, 9))
    first.deliver(second.collect(0))
    assert moved(before, stepped(first, 1))
    assert totals(first) == {"returned": 1, "staleness": 10}


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
