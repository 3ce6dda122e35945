"""The ledger by hand: one channel's records from sending to their gradient (semantics 4, 5, 17-20)."""

from __future__ import annotations

import pytest
import torch

from antiphon.comms.links import Link
from antiphon.engine.core.clock import Clock, Sends, TickWindows
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.mailbox import Mailbox
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.records import Consumption, StepSignals
from antiphon.errors import EngineError

BATCH, SIZE = 3, 2


def ledger(
    sender: Clock, receiver: Clock, unroll: int = 1, delay: int = 0, drop: float = 0.0
) -> GradientLedger:
    link = Link(name="a->b", delay=delay, drop=drop)
    return GradientLedger(
        "a->b", Sends(sender), receiver, TickWindows(receiver, unroll), link, wants_deltas=True
    )


def send(found: GradientLedger, step: int) -> None:
    found.send(step, torch.full((BATCH, SIZE), float(step), requires_grad=True), StepSignals(step, {}))


def use(found: GradientLedger, step: int) -> Consumption | None:
    return found.use(step, Mailbox(found).receive(step))


def test_a_message_comes_after_its_delay_and_its_delta_takes_as_long_back() -> None:
    found = ledger(Clock(), Clock(), delay=2)
    for step in range(3):
        send(found, step)
        consumed = use(found, step)
        assert (consumed is None) == (step < 2)
        if consumed is not None:
            assert consumed.record.stamp == 0
            assert torch.equal(consumed.leaf, torch.zeros(BATCH, SIZE))
            found.book(consumed, torch.ones(BATCH, SIZE))
        found.close(step, step)
    record = found.records[0]
    assert record.complete
    assert record.finished == 2
    assert found.take(2) == found.take(3) == []
    assert found.take(4) == [record]
    assert found.take(4) == []


def test_deltas_of_all_uses_are_summed() -> None:
    found = ledger(Clock(3), Clock(), unroll=2)
    send(found, 0)
    one, other = use(found, 0), use(found, 1)
    assert one is not None
    assert one is other  # within a window every use of a stamp shares one leaf
    found.book(one, torch.ones(BATCH, SIZE))
    found.close(0, 1)
    assert not found.records[0].complete
    last = use(found, 2)
    assert last is not None
    assert last is not one
    found.book(last, torch.full((BATCH, SIZE), 2.0))
    found.close(1, 3)
    assert found.records[0].complete
    assert torch.equal(found.take(3)[0].delta, torch.full((BATCH, SIZE), 3.0))


def test_a_use_without_a_gradient_counts_as_zero() -> None:
    found = ledger(Clock(), Clock())
    send(found, 0)
    consumed = use(found, 0)
    assert consumed is not None
    found.book(consumed, None)
    found.close(0, 0)
    (record,) = found.take(0)
    assert torch.equal(record.delta, torch.zeros(BATCH, SIZE))  # type: ignore[arg-type]


@pytest.mark.parametrize("ended", [True, torch.tensor([True, False, False])])
def test_what_an_episode_leaves_behind_is_void_where_it_ended(ended: EnvMask) -> None:
    found = ledger(Clock(3), Clock(), delay=1)
    send(found, 0)
    found.cut(0, ended)
    reading = Mailbox(found).receive(1)
    record = found.records[0]
    assert record.no_injection is ended or torch.equal(
        torch.as_tensor(record.no_injection), torch.as_tensor(ended)
    )
    if ended is True:
        assert reading.value is None
        assert use(found, 1) is None
        return
    assert reading.value is not None
    consumed = found.use(1, reading)
    assert consumed is not None
    found.book(consumed, torch.full((BATCH, SIZE), torch.nan).where(torch.as_tensor(ended).unsqueeze(1), 1.0))
    for window in (1, 2, 3):
        found.close(window, window)
    assert record.delta is not None
    assert record.delta[:, 0].tolist() == [0.0, 1.0, 1.0]  # zeros are put, never multiplied
    assert torch.as_tensor(record.counted).tolist() == [False, True, True]


def test_a_consumed_message_keeps_its_delta_when_its_episode_ends() -> None:
    found = ledger(Clock(), Clock())
    send(found, 0)
    consumed = use(found, 0)
    assert consumed is not None
    found.book(consumed, torch.ones(BATCH, SIZE))
    found.close(0, 0)
    found.cut(0, True)
    assert found.records[0].complete
    assert found.records[0].no_injection is False


def test_a_lossy_link_shows_the_newest_that_came() -> None:
    found = ledger(Clock(), Clock(), drop=0.5)
    mailbox = Mailbox(found)
    held = torch.full((BATCH,), -1.0)
    for step in range(20):
        send(found, step)
        lost = found.records[step].lost
        assert lost is not None
        held = torch.where(lost, held, float(step))
        reading = mailbox.receive(step)
        assert reading.value is not None
        assert torch.equal(reading.value[:, 0], held.clamp(min=0))
        assert torch.equal(torch.as_tensor(reading.counted), held == step)
        found.close(step, step)
    assert bool((held >= 0).all())


def test_an_old_open_record_is_the_engines_fault() -> None:
    found = ledger(Clock(), Clock())
    send(found, 0)
    with pytest.raises(EngineError, match="a->b: the record of step 0 is still open at step 1"):
        send(found, 1)


def test_records_are_forgotten() -> None:
    found = ledger(Clock(), Clock(2), unroll=3, delay=2)
    for step in range(60):
        send(found, step)
        consumed = use(found, step) if step % 2 == 0 else None
        if consumed is not None:
            found.book(consumed, None)
        for record in found.records.values():
            record.held_by_sender = False
        window = found.windows.ending(step)
        if window is not None:
            found.close(window, step)
        found.take(step)
        assert len(found.records) <= 12
