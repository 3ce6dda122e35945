"""Parts stepped in one process, each exchange delivered as late as it may be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.parts.part import Part
from antiphon.scenarios import Scenario

__all__ = ["equal", "parts_of", "run"]


def parts_of(scenario: Scenario, placement: Mapping[str, int], **settings: Any) -> list[Part]:
    """Return all parts of a scenario."""
    return [Part(scenario, placement, index, **settings) for index in range(max(placement.values()) + 1)]


def run(parts: list[Part], steps: int, lookahead: int | None = None) -> None:
    """Take steps; what is sent at one is delivered before the one that is `lookahead` steps later; at the end, all."""
    lookahead = lookahead or min(part.lookahead for part in parts)
    on_the_way: list[list[tuple[int, Exchange]]] = []
    for _ in range(steps):
        if len(on_the_way) >= lookahead:
            deliver(parts, on_the_way.pop(0))
        for part in parts:
            assert part.ready
            part.step()
        on_the_way.append([(n, part.collect(n)) for part in parts for n in part.neighbours])
    for exchanges in on_the_way:
        deliver(parts, exchanges)


def deliver(parts: list[Part], exchanges: list[tuple[int, Exchange]]) -> None:
    """Hand exchanges to the parts that they are for."""
    for to, exchange in exchanges:
        parts[to].deliver(exchange)


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same to the bit."""
    if isinstance(a, torch.Tensor) or isinstance(b, torch.Tensor):
        return isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
