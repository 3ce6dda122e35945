"""One part of a scenario in a process of its own: it takes steps, and exchanges with its neighbours.

A worker keeps nothing on disk. One whose process has died and was started again has no part, and answers None until it has begun
from a state that is handed to it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import torch

from antiphon import errors
from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.parts.part import Part
from antiphon.engine.state.checkpoint import from_bytes, to_bytes
from antiphon.telemetry.parts.part_figures import PartFigures

__all__ = ["Answer", "Neighbour", "PartWorker"]

Answer = tuple[PartFigures, bytes | None]
"""The figures of a part, and a state where one was asked for or is due; its seconds since the run began are not known to it."""


Neighbour = Callable[[int, Exchange], None]
"""Hands an exchange of an epoch to another part without waiting: in order, and not at all where its process is gone."""


class PartWorker:
    """A part and its exchanges. The driver's calls come one at a time, `put` and `halt` at any time.

    Args:
        index: The part's number.
        every: Steps between its exchanges.
        keep_every: Seconds after which a part that does not wait hands over its own state, at the end of a call.
    """

    def __init__(self, index: int, every: int, keep_every: float) -> None:
        self._every, self._keep_every = every, keep_every
        self._built: Part | None = None
        self._neighbours: Mapping[int, Neighbour] = {}
        self._epoch = -1
        self._inbox: SimpleQueue[tuple[int, Exchange] | None] = SimpleQueue()
        """Exchanges with their epochs, and None to wake the one who waits for them."""
        self._arrived: list[tuple[int, Exchange]] = []
        """Taken from the inbox and not delivered."""
        self._figures = PartFigures(part=index)
        self._sent_at = 0
        """The step up to which exchanges have been sent."""
        self._due_at = 0.0
        """When the part hands over its own state next."""
        self._halted = -1
        """The newest call that is to end early."""

    # --- calls of the driver -----------------------------------------------------------------------------

    def call(self, method: str, *arguments: Any) -> Answer | None:
        """Return what another method does, or raise its error as one that any process can load; None: it has not begun."""
        if self._built is None and method != "begin":
            return None
        try:
            answer: Answer | None = getattr(self, method)(*arguments)
            return answer
        except Exception as error:  # anything that a user's module may raise
            known = next((kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__), None)
            line = str(error) if known else f"{type(error).__name__}: {error}"
            raise (known or errors.RunError)(line) from error

    def begin(
        self,
        make: Callable[[int], Part],
        epoch: int,
        neighbours: Mapping[int, Neighbour],
        figures: PartFigures,
        state: bytes | None,
    ) -> Answer:
        """Begin an epoch from a state; exchanges of former ones are dropped.

        Args:
            make: Builds a part by its number, at step 0.
            epoch: Grows whenever all parts begin from one state together.
            neighbours: By number of the part.
            figures: Totals of former processes of the part, and its incarnation.
            state: Of the whole or its share of it (`Part.load_state_dict`), or its own (`Part.load_own_state`); None: that of step 0.
        """
        if not self._figures.machine:
            torch.set_num_threads(1)
            self._figures = replace(figures, machine=socket.gethostname(), alive=True)
        if self._built is not None and state is None:
            self._built.close()
            self._built = None
        if self._built is None:
            self._built = make(figures.part)
        part = self._built
        if state is not None:
            found = from_bytes(state)
            (part.load_own_state if "boundary" in found else part.load_state_dict)(found)
        part.incarnation = figures.incarnation
        self._figures = replace(self._figures, incarnation=figures.incarnation, steps_taken=part.now)
        self._epoch, self._neighbours, self._sent_at = epoch, neighbours, part.now
        self._due_at = time.monotonic() + self._keep_every
        return self._figures, None

    def advance(self, call: int, until: int, row_at: int | None) -> Answer:
        """Take steps up to one, or fewer where the call is halted; with its own state, where that is due in free mode.

        Args:
            call: A number that grows from call to call, for `halt`.
            until: Steps taken in the end.
            row_at: The step after which sums of losses begin anew.

        Raises:
            DivergenceError: As of `Part.step`.
        """
        part = self._part
        while part.now < until and self._receive(call, lambda: self._late(until)):
            start = time.perf_counter()
            part.step()
            self._count(computing=self._figures.computing + time.perf_counter() - start)
            if part.now - 1 == row_at:
                part.train_means.end_row()
            if part.now % self._every == 0:
                self._send()
        self._send()
        if not part.free or part.now < until or time.monotonic() < self._due_at:
            return self._figures, None
        self._due_at = time.monotonic() + self._keep_every
        return self._figures, to_bytes(part.own_state())

    def gather(self, call: int, step: int, row_at: int | None) -> Answer:
        """Return the part's state at a step (`Part.state_dict`), with all exchanges before it; None: it was halted."""
        answer, part = self.advance(call, step, row_at), self._part
        expected = () if part.free else part.neighbours
        late = lambda: [one for one in expected if part.covered[one] < step]
        if part.now < step or not self._receive(call, late):
            return answer
        return self._figures, to_bytes(part.state_dict())

    # --- calls of neighbours, and of the driver at any time ---------------------------------------------------

    def put(self, epoch: int, exchange: Exchange) -> None:
        """Take an exchange (`Neighbour`)."""
        self._inbox.put((epoch, exchange))

    def halt(self, call: int) -> None:
        """End a call early, and all before it."""
        self._halted = max(self._halted, call)
        self._inbox.put(None)

    # --- exchanges ---------------------------------------------------------------------------------------

    @property
    def _part(self) -> Part:
        assert self._built is not None
        return self._built

    def _count(self, **totals: Any) -> None:
        """Bring the figures up to date; by the thread that takes steps alone."""
        now, behind = self._part.now, self._part.behind
        self._figures = replace(self._figures, steps_taken=now, staleness=behind, **totals)

    def _late(self, until: int) -> list[int]:
        """Return the neighbours that the coming step waits for.

        In free mode none that has come to the call's end: what it has sent, and is not here, was dropped or lost.
        """
        part = self._part
        return [one for one in part.waits_for() if not part.free or part.covered[one] < until]

    def _send(self) -> None:
        """Hand every neighbour what it has to get up to the present step; in lockstep unless it has it."""
        part, sent = self._part, self._figures.bytes_sent
        if self._sent_at == part.now and not part.free:
            return
        for one in part.neighbours:
            exchange = part.collect(one)
            self._neighbours[one](self._epoch, exchange)
            sent += exchange.nbytes
        self._sent_at = part.now
        self._count(bytes_sent=sent, calls=self._figures.calls + len(part.neighbours))

    def _receive(self, call: int, late: Callable[[], list[int]]) -> bool:
        """Deliver what has come, and wait while someone is late; False: the call was halted."""
        while True:
            self._deliver()
            missing = late()
            if call <= self._halted:
                return False
            if not missing:
                return True
            self._wait(missing)

    def _deliver(self) -> None:
        """Deliver the exchanges of this epoch: in lockstep in order, and none of a step that the part has not taken."""
        part, received = self._part, 0
        while not self._inbox.empty():
            item = self._inbox.get()
            if item is not None:
                self._arrived.append(item)
        arrived, self._arrived = self._arrived, []
        for epoch, exchange in sorted(arrived, key=lambda item: item[1].first):
            next_one = exchange.end <= part.now and exchange.first == part.covered.get(exchange.sender)
            if epoch == self._epoch and (part.free or next_one):
                part.deliver(exchange)
                received += exchange.nbytes
            elif epoch >= self._epoch:
                self._arrived.append((epoch, exchange))
        if received:
            self._count(bytes_received=self._figures.bytes_received + received)

    def _wait(self, missing: Collection[int]) -> None:
        """Wait until something has come."""
        start, before = time.monotonic(), self._figures.waiting
        item = self._inbox.get()
        if item is not None:
            self._arrived.append(item)
        each = (time.monotonic() - start) / len(missing)
        self._count(waiting={**before, **{one: before.get(one, 0.0) + each for one in missing}})
