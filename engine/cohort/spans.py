"""Spans: how many members of a cohort are computed at once, and learning span by span.

What an evaluation leaves in the caches is used while it is there: a span is differentiated and takes its step before
the next one is touched, so that there are never gradients of more than a span at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.engine.cohort.learner import Pieces, Span
from antiphon.engine.core.tape import Tape

__all__ = ["Pulls", "objectives", "width_of"]

_SHARE = 2
"""What part of the last cache a span may fill."""
_FEWEST = 32
"""Members of a span: below, calling costs more than the caches save."""


def width_of(count: int, numbers: int, cache: int) -> int:
    """Return how many of `count` members are computed at once: as many as fit, in spans of about equal width.

    Args:
        count: N.
        numbers: Bytes that one member needs for a step.
        cache: Bytes of the cache.
    """
    fit = max(_FEWEST, cache // _SHARE // max(numbers, 1))
    spans = -(-count // fit)
    return -(-count // spans)


@dataclass
class Pulls:
    """What one closed window of a cohort asks of the backward passes of its spans.

    Attributes:
        pieces: Per tick, the evaluation.
        told: Per tick, what is put on each port, per sample and over B, [N * B, …]: what parameters follow.
        returned: The same for what goes back, where that differs.
    """

    pieces: list[Pieces]
    told: list[dict[str, Tensor]]
    returned: list[dict[str, Tensor]] | None

    def every(self) -> list[Tensor]:
        """All that is put on anything."""
        return [t for put in (*self.told, *(self.returned or ())) for t in put.values()]

    def of(self, span: Span, place: int, batch: int) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """Return the gradients of a span's parameters, and per tick that of its input, [members, B, …].

        Args:
            span: Which.
            place: Its number.
            batch: B.
        """
        inputs = [pieces.each[place].x for pieces in self.pieces]
        read = [x for x in inputs if x.requires_grad]
        if self.returned is None:
            found = self._grad(self.told, span, place, batch, [*span.trainable, *read], retain=False)
            own, back = found[: len(span.trainable)], found[len(span.trainable) :]
        else:
            own = self._grad(self.told, span, place, batch, span.trainable, retain=bool(read))
            back = self._grad(self.returned, span, place, batch, read, retain=False)
        rest = iter(back)
        return own, [next(rest) if x.requires_grad else None for x in inputs]

    def _grad(
        self,
        told: Sequence[dict[str, Tensor]],
        span: Span,
        place: int,
        batch: int,
        wanted: Sequence[Tensor],
        *,
        retain: bool,
    ) -> list[Tensor | None]:
        ends: list[Tensor] = []
        weights: list[Tensor] = []
        for pieces, put in zip(self.pieces, told, strict=True):
            for port, rows in put.items():
                end = pieces.each[place].ports[port]
                if end.requires_grad:
                    ends.append(end)
                    weights.append(rows[span.first * batch : span.last * batch].view_as(end))
        if not ends or not wanted:
            return [None] * len(wanted)
        found = torch.autograd.grad(ends, list(wanted), weights, retain_graph=retain, allow_unused=True)
        return list(found)


def objectives(tape: Tape, total: Tensor | None) -> list[dict[str, Tensor]]:
    """Return per tick what the objectives put on the port they read; nothing where they say nothing."""
    ports = [tick.parts[0].ports.get(OBJECTIVE) for tick in tape.ticks]
    ends = [port for port in ports if port is not None]
    found: list[Tensor | None] = [None] * len(ends)
    if total is not None and ends:
        found = list(torch.autograd.grad(total, ends, allow_unused=True))
    rest = iter(found)
    put: list[dict[str, Tensor]] = []
    for port in ports:
        gradient = None if port is None else next(rest)
        put.append({} if gradient is None else {OBJECTIVE: gradient})
    return put


def add(put: dict[str, Tensor], port: str, rows: Tensor) -> None:
    """Add what is put on a port to what is there."""
    put[port] = rows if port not in put else put[port] + rows


def full(trainable: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """Return gradients with zeros where nothing came."""
    return [torch.zeros_like(p) if g is None else g for p, g in zip(trainable, gradients, strict=True)]


def together(spans: Sequence[Span], kept: dict[int, list[Tensor | None]]) -> list[Tensor | None]:
    """Return the gradients of spans, by number, as those of the cohort; zeros for spans that were not kept."""
    found: list[Tensor | None] = []
    for i, _ in enumerate(spans[0].trainable):
        pieces = [
            torch.zeros_like(span.trainable[i]) if (g := kept.get(place, [None] * (i + 1))[i]) is None else g
            for place, span in enumerate(spans)
        ]
        found.append(torch.cat(pieces))
    return found
