"""Boxes of exchanges: order, gaps, doubles, senders that begin anew, and what is kept for those that restart."""

from __future__ import annotations

from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.ray.exchanges import Inbox, Outbox


def exchange(first: int, end: int, incarnation: int = 0) -> Exchange:
    return Exchange(1, incarnation, first, end)


def steps(found: list[Exchange]) -> list[tuple[int, int]]:
    return [(one.first, one.end) for one in found]


def test_exchanges_are_taken_in_order_whatever_order_they_come_in() -> None:
    inbox = Inbox(4)
    assert inbox.add(exchange(8, 12))
    assert (inbox.reached, inbox.has_gap) == (4, True)
    assert steps(list(inbox.take(99))) == []
    assert inbox.add(exchange(4, 8))
    assert (inbox.reached, inbox.has_gap) == (12, False)
    assert steps(list(inbox.take(8))) == [(4, 8)]
    assert steps(list(inbox.take(9))) == [(8, 12)]
    assert (inbox.delivered, inbox.reached) == (12, 12)


def test_an_exchange_counts_once() -> None:
    inbox = Inbox(0)
    assert inbox.add(exchange(0, 4))
    assert not inbox.add(exchange(0, 4))
    assert len(list(inbox.take(99))) == 1
    assert not inbox.add(exchange(0, 4))
    assert list(inbox.take(99)) == []


def test_a_sender_under_a_new_number_begins_anew() -> None:
    inbox = Inbox(0)
    for first in (0, 4, 12):
        inbox.add(exchange(first, first + 4))
    list(inbox.take(4))
    assert inbox.add(exchange(2, 4, incarnation=1))
    assert not inbox.add(exchange(4, 8))
    assert (inbox.incarnation, inbox.reached) == (1, 4)
    assert steps(list(inbox.take(99))) == [(2, 4)]


def test_what_is_lost_can_be_skipped() -> None:
    inbox = Inbox(0)
    inbox.add(exchange(2, 4))
    inbox.add(exchange(4, 8))
    inbox.skip(4)
    assert steps(list(inbox.take(99))) == [(4, 8)]
    inbox.skip(2)
    assert inbox.delivered == 8


def test_an_outbox_keeps_what_its_receiver_may_need() -> None:
    outbox = Outbox(3)
    for first in (3, 6, 9):
        outbox.add(exchange(first, first + 3))
    outbox.release(6)
    assert outbox.first == 6
    assert steps(outbox.since(0)) == [(6, 9), (9, 12)]
    assert steps(outbox.since(9)) == [(9, 12)]
    outbox.release(4)  # an old word, late
    assert outbox.first == 6
