"""Stacks of channels: rows by sender and receiver, examples, and what is disabled, as of each channel alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from antiphon.engine.core.channel import Channel
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.records import Record
from tests.contracts.builders import GOAL, LABEL, OWN, document, ring
from tests.engine.numbers import normal
from tests.engine.scenes import BATCH, gradient
from tests.engine.stacks import by_rows, mask, only_channel_stack, stacked_system


def crossed() -> Channel:
    """a2 and a0 send to b0, a0 to b2, a1 to b1: in another order than their receivers."""
    agents = {f"a{i}": dict(OWN) for i in range(3)} | {
        f"b{i}": {**OWN, "objective": LABEL, "fan_in": "sum"} for i in range(3)
    }
    told = [("a2", "b0"), ("a0", "b0"), ("a0", "b2"), ("a1", "b1")]
    channels = [{"from": a, "to": b, "size": 4, "port": "p", **gradient()} for a, b in told]
    return only_channel_stack(stacked_system(document(agents, channels)))


def one_to_one() -> Channel:
    return only_channel_stack(stacked_system(ring(4)))


def broadcast() -> Channel:
    """A lone agent sends to three."""
    agents = {"s": dict(OWN)} | {f"b{i}": {**OWN, "objective": LABEL, "observes": ["y"]} for i in range(3)}
    return only_channel_stack(
        stacked_system(
            document(agents, [{"from": "s", "to": f"b{i}", "size": 4, "port": "p"} for i in range(3)])
        )
    )


STACKS = {"crossed": crossed, "one to one": one_to_one, "broadcast": broadcast}
PLACES: dict[str, tuple[list[int], list[int], int, int]] = {  # senders, receivers, how many of each there are
    "crossed": ([0, 0, 1, 2], [0, 2, 1, 0], 3, 3),
    "one to one": ([0, 1, 2, 3], [1, 2, 3, 0], 4, 4),
    "broadcast": ([0, 0, 0], [0, 1, 2], 1, 3),
}


@pytest.mark.parametrize("name", STACKS)
def test_rows_go_by_sender_and_receiver(name: str) -> None:
    stack = STACKS[name]()
    takes, gives, senders, receivers = PLACES[name]
    count = len(takes)
    ends = [(int(c.sender[1:] or 0), int(c.receiver[1:])) for c in stack.members]
    assert ends == list(zip(takes, gives, strict=True))
    port, read = normal(senders * BATCH, 4), normal(receivers * BATCH)
    assert torch.equal(stack.message_of(port), torch.cat([torch.split(port, BATCH)[a] for a in takes]))
    assert torch.equal(stack.of_receiver(read), torch.cat([torch.split(read, BATCH)[b] for b in gives]))
    rows = normal(senders * BATCH) > 0
    found = stack.of_sender(rows)
    assert isinstance(found, Tensor)
    assert torch.equal(found, torch.cat([torch.split(rows, BATCH)[a] for a in takes]))
    assert (stack.of_sender(True), stack.of_sender(False)) == (True, False)
    back = normal(count * BATCH, 4)
    to_sender = stack.to_sender(back)
    assert to_sender.shape == (senders * BATCH, 4)
    one, other = (
        (stack.message_of(port) * back).sum(),
        (port * to_sender).sum(),
    )  # each the other's transpose
    torch.testing.assert_close(one, other)
    assert stack.every_sender_sends is (name == "one to one")
    assert stack.rows == count * BATCH


def test_of_one_channel_a_sender_s_rows_are_all_or_none() -> None:
    agents = {f"a{i}": {**OWN, "objective": LABEL} for i in range(3)} | {"b": {**OWN, "objective": GOAL}}
    found = stacked_system(document(agents, [{"from": "a1", "to": "b"}]))
    stack = only_channel_stack(found)
    assert (stack.sender, stack.receiver) == (found.place["a1"][0], "b")
    assert stack.of_sender(mask(0, 1, 0).repeat_interleave(BATCH)) is True
    assert stack.of_sender(mask(1, 0, 1).repeat_interleave(BATCH)) is False


def test_a_record_is_an_example_for_channels_with_a_row_in_the_mask() -> None:
    stack = one_to_one()
    rows = torch.zeros(4, BATCH, dtype=torch.bool)
    rows[1, 2] = rows[3] = True
    members = stack.examples_for(rows.flatten())
    assert members is not None
    assert members.tolist() == [False, True, False, True]
    assert stack.examples_for(True) is None
    assert stack.examples_for(torch.ones(4 * BATCH, dtype=torch.bool)) is None
    stack.disable_predictors([3])
    for some, expected in ((rows.flatten(), mask(0, 1, 0, 0)), (True, mask(1, 1, 1, 0))):
        found = stack.examples_for(some)
        assert found is not None
        assert torch.equal(found, expected)


def test_disabled_predictors_predict_nothing_and_stand_in_for_nothing() -> None:
    stack = one_to_one()
    rows = normal(4 * BATCH, 4)
    assert stack.enabled_predictions(rows) is rows
    assert stack.stand_in_allowed is True
    stack.disable_predictors([1])
    stack.disable_predictors([2])
    stack.disable_input_models([1])
    stack.disable_input_models([2])
    assert (stack.predictor_disabled, stack.input_model_disabled) == (False, False)
    rows[BATCH] = torch.nan
    found = stack.enabled_predictions(rows)
    assert torch.equal(found[:BATCH], rows[:BATCH])
    assert torch.equal(found[3 * BATCH :], rows[3 * BATCH :])
    assert not bool(found[BATCH : 3 * BATCH].any())
    assert isinstance(stack.stand_in_allowed, Tensor)
    assert stack.stand_in_allowed.tolist() == by_rows([1, 0, 0, 1])
    stack.disable_predictors([0, 3])
    stack.disable_input_models([3, 0])
    assert (stack.predictor_disabled, stack.input_model_disabled) == (True, True)


def test_an_injection_is_of_enabled_predictors_whose_sender_participates() -> None:
    stack = one_to_one()
    assert stack.injecting(True) is None
    rows = mask(1, 1, 0, 1).repeat_interleave(BATCH)
    for participates, expected in ((rows, [1, 1, 0, 1]), (False, [0, 0, 0, 0])):
        found = stack.injecting(participates)
        assert found is not None
        assert found.tolist() == [bool(one) for one in expected]
    stack.disable_predictors([0])
    for participates, expected in ((True, [0, 1, 1, 1]), (rows, [0, 1, 0, 1]), (False, [0, 0, 0, 0])):
        found = stack.injecting(participates)
        assert found is not None
        assert found.tolist() == [bool(one) for one in expected]


def test_a_message_is_not_finite_for_all_of_a_member_or_nothing() -> None:
    stack = one_to_one()
    message = normal(4 * BATCH, 4)
    assert stack.not_finite(message) is False
    message[2 * BATCH + 1, 3] = torch.inf
    rows = stack.not_finite(message)
    assert isinstance(rows, Tensor)
    assert rows.tolist() == by_rows([0, 0, 1, 0])


@pytest.mark.parametrize("void", [False, torch.tensor([True] * BATCH + [True] + [False] * (3 * BATCH - 1))])
def test_a_void_message_is_no_example_of_its_member(void: EnvMask) -> None:
    stack = one_to_one()
    message = normal(4 * BATCH, 4)
    record = Record(0, message, message + 1, None, 1, set(), 0, void=void)  # type: ignore[arg-type]
    arrived = normal(4 * BATCH) > 0
    stack.add_input_example(message, record, arrived)
    ((context, received, where),) = stack.input_examples
    assert context is message
    assert received is record.received
    assert where is arrived
    (members,) = stack.input_example_members
    if void is False:
        assert members is None
    else:
        assert members is not None
        assert members.tolist() == [False, True, True, True]


def test_a_disabled_input_model_gets_no_more_examples() -> None:
    stack = one_to_one()
    message = normal(4 * BATCH, 4)
    stack.input_models_disabled = mask(0, 1, 0, 0)
    for void, expected in ((False, [1, 0, 1, 1]), (by_rows([1, 0, 0, 0]), [0, 0, 1, 1])):
        rows: EnvMask = torch.tensor(void) if isinstance(void, list) else void
        stack.add_input_example(None, Record(0, message, message, None, 1, set(), 0, void=rows), None)  # type: ignore[arg-type]
        members = stack.input_example_members[-1]
        assert members is not None
        assert members.tolist() == [bool(one) for one in expected]
