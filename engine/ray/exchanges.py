"""What one part has received of its neighbours and not delivered, and what it has sent and keeps for those that restart.

Exchanges between two parts follow one another without a gap: each begins at the step where the one before ended.
"""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.engine.parts.boundary import Exchange

__all__ = ["Inbox", "Outbox"]


class Inbox:
    """Exchanges of one sender, in the order of their steps, however they arrive: late, twice or with gaps.

    A sender that has been started again under a new number (`Exchange.incarnation`) begins anew; what it had sent before is
    forgotten.

    Args:
        delivered: The step from which on they are wanted.
        incarnation: Of the sender.

    Attributes:
        delivered: The step up to which they have been taken.
        incarnation: The newest of the sender.
    """

    def __init__(self, delivered: int, incarnation: int = 0) -> None:
        self.delivered, self.incarnation = delivered, incarnation
        self._arrived: dict[int, Exchange] = {}

    def add(self, exchange: Exchange) -> bool:
        """Keep an exchange and return True, unless it is there, or has been taken, or is of a former incarnation."""
        if exchange.incarnation > self.incarnation:
            self.delivered, self.incarnation = exchange.first, exchange.incarnation
            self._arrived.clear()
        known = exchange.first < self.delivered or exchange.first in self._arrived
        if known or exchange.incarnation < self.incarnation:
            return False
        self._arrived[exchange.first] = exchange
        return True

    @property
    def reached(self) -> int:
        """The step up to which there is no gap."""
        step = self.delivered
        while step in self._arrived:
            step = self._arrived[step].end
        return step

    @property
    def has_gap(self) -> bool:
        """Whether something has arrived, and not what comes before it."""
        return bool(self._arrived) and self.delivered not in self._arrived

    def take(self, before: float) -> Iterator[Exchange]:
        """Yield those that begin before a step, in order and up to a gap; they are gone afterwards."""
        while self.delivered < before and self.delivered in self._arrived:
            exchange = self._arrived.pop(self.delivered)
            self.delivered = exchange.end
            yield exchange

    def skip(self, step: int) -> None:
        """Give up what has not arrived from before a step."""
        self.delivered = max(self.delivered, step)
        self._arrived = {first: one for first, one in self._arrived.items() if first >= self.delivered}


class Outbox:
    """Exchanges sent to one neighbour, until it can restart without them.

    Args:
        first: The step of the first one.

    Attributes:
        first: The step from which on they are kept.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self._kept: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange, which follows the one before."""
        self._kept.append(exchange)

    def release(self, step: int) -> None:
        """Drop those that end at a step or before."""
        self._kept = [exchange for exchange in self._kept if exchange.end > step]
        self.first = max(self.first, step)

    def since(self, step: int) -> list[Exchange]:
        """Return those that end after a step, in order."""
        return [exchange for exchange in self._kept if exchange.end > step]
