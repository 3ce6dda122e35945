"""What one part has received of its neighbours and not delivered, and what it has sent and keeps for those that restart.

Exchanges between two parts follow one another without a gap: each begins at the step where the one before ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Exchange", "Inbox", "Outbox", "as_tree", "from_tree"]


@dataclass
class Exchange:
    sender: int
    incarnation: int
    first: int
    end: int
    messages: list[Any]
    returns: list[Any]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for _, array in self.messages + self.returns)


class Inbox:
    """Exchanges of one sender, in the order of their steps, however they arrive: late, twice or with gaps.

    Args:
        first: The step from which on they are wanted.

    Attributes:
        delivered: The step up to which they have been taken.
    """

    def __init__(self, first: int) -> None:
        self.delivered = first
        self._arrived: dict[int, Exchange] = {}

    def add(self, exchange: Exchange) -> None:
        """Keep an exchange, unless it has been taken."""
        if exchange.first >= self.delivered:
            self._arrived[exchange.first] = exchange

    @property
    def reached(self) -> int:
        """The step up to which there is no gap."""
        step = self.delivered
        while step in self._arrived:
            step = self._arrived[step].end
        return step

    def take(self, before: int) -> Iterator[Exchange]:
        """Yield those that begin before a step, in order and up to a gap; they are gone afterwards."""
        while self.delivered < before and self.delivered in self._arrived:
            exchange = self._arrived.pop(self.delivered)
            self.delivered = exchange.end
            yield exchange


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


def as_tree(exchange: Exchange) -> dict[str, Any]:
    """Return an exchange as plain data and tensors, for a checkpoint."""
    return {one.name: _with_tensors(getattr(exchange, one.name)) for one in fields(exchange)}


def from_tree(tree: dict[str, Any]) -> Exchange:
    """Return the exchange that `as_tree` was given."""
    return Exchange(**{name: _with_arrays(value) for name, value in tree.items()})


def _with_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    return [_with_tensors(item) for item in value] if isinstance(value, list | tuple) else value


def _with_arrays(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    return [_with_arrays(item) for item in value] if isinstance(value, list) else value
