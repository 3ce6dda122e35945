"""An exchange as bytes: JSON of what is no array, then the numbers of the arrays as they are in memory. Nothing is pickled."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from antiphon.base.errors import RunError
from antiphon.distributed.parts.boundary import Array, CutMessage, Exchange, Return

_ALIGNED = 8
"""Bytes of which every array begins at a multiple."""
_KINDS = "biuf"
"""Of the elements of an array: bool, integers and floats."""


def encode(exchange: Exchange) -> tuple[bytes, list[Array]]:
    """Return the JSON of an exchange, and its arrays as bytes, padded, in their order there."""
    arrays: list[Array] = []

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            content = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
            arrays.extend((content, np.zeros(-content.size % _ALIGNED, np.uint8)))
            return [value.dtype.str, *value.shape]
        if isinstance(value, dict):
            return {name: plain(one) for name, one in value.items()}
        return value

    contents = [
        [[plain(value) for value in vars(one).values()] for one in some]
        for some in (exchange.messages, exchange.returns)
    ]
    facts = [exchange.sender, exchange.incarnation, exchange.first, exchange.end, *contents]
    return json.dumps(facts, separators=(",", ":")).encode(), arrays


def decode(facts: bytes | memoryview, content: memoryview) -> Exchange:
    """Return the exchange of its JSON and the bytes of its arrays, which are not copied.

    Raises:
        RunError: They are no exchange.
    """
    at = 0

    def whole(value: Any) -> Any:
        nonlocal at
        if isinstance(value, dict):
            return {name: whole(one) for name, one in value.items()}
        if not isinstance(value, list):
            return value
        dtype, shape = np.dtype(value[0]), value[1:]
        if dtype.kind not in _KINDS or not all(type(size) is int and size >= 0 for size in shape):
            raise ValueError(f"{value} is not an array")
        found: Array = np.ndarray(shape, dtype, buffer=content, offset=at)
        at += found.nbytes + -found.nbytes % _ALIGNED
        return found

    try:
        *steps, messages, returns = json.loads(bytes(facts))
        sender, incarnation, first, end = map(int, steps)
        crossing = [CutMessage(*map(whole, one)) for one in messages]
        back = [Return(*map(whole, one)) for one in returns]
        if at != len(content):
            raise ValueError(f"{len(content)} bytes, of which arrays fill {at}")
    except (ValueError, TypeError, OverflowError, RecursionError, IndexError) as error:
        raise RunError(f"parts: the data received are not an exchange ({error})") from None
    return Exchange(sender, incarnation, first, end, crossing, back)
