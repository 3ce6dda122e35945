"""One part of a scenario in a process of its own: it is stepped, exchanges with its neighbours, and goes on after a restart."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from antiphon.engine.cluster.exchanges import Exchange, Inbox, Outbox, as_tree, from_tree
from antiphon.engine.state.checkpoint import from_bytes, to_bytes
from antiphon.errors import RunError

__all__ = ["Neighbour", "PartWorker", "Progress", "Session", "StateLost"]

_RETRY = 1.0
"""Seconds after which a part that waits has its neighbours send once more what they keep for it."""


class StateLost(RunError):
    """A part has restarted where its checkpoint is not: all parts have to go back to a state of the whole."""


class Neighbour(Protocol):
    """Another part as a worker reaches it: calls that do not wait, and may be lost."""

    def put(self, sender: int, epoch: int, exchange: Exchange, durable: int) -> None:
        """Hand over an exchange; `durable`: the sender restarts without the receiver's exchanges before this step."""

    def replay(self, requester: int, epoch: int, first: int) -> None:
        """Have all that is kept for the requester put once more, from a step on."""

    def lose(self, sender: int, epoch: int, first: int) -> None:
        """Say that the sender keeps nothing from before a step."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a worker is told with each call: after a restart it needs nothing else.

    A part that has restarted takes steps again, and must send the same exchanges and end the same rows.
    """

    epoch: int
    """Number of states that all parts have taken over together (`PartWorker.scatter`); 0: they began by themselves."""
    every: int
    """Steps between the exchanges of two parts: a step that it divides ends one."""
    neighbours: Mapping[int, Neighbour]
    """By number of the part."""
    boundaries: Collection[int] = ()
    """Further steps at which exchanges end, where states were gathered."""
    rows: Collection[int] = ()
    """Steps after which sums of losses begin anew."""


@dataclass(kw_only=True)
class Progress:
    """What a worker has done since its process began."""

    now: int = 0
    """Steps taken since step 0 of the run."""
    durable: int = 0
    """The step of its newest checkpoint."""
    lookahead: int = 0
    """Steps that it may be ahead of its neighbours."""
    machine: str = ""
    process: int = 0
    """Its process's number there."""
    computing: float = 0.0
    """Seconds in steps."""
    waiting: dict[int, float] = field(default_factory=dict)
    """Seconds for exchanges, by the part whose exchange was missing."""
    waits_for: tuple[int, ...] = ()
    """Parts whose exchange is missing now."""
    bytes_sent: int = 0
    bytes_received: int = 0
    calls: int = 0
    """Exchanges sent."""
    behind: int = 0
    """Steps by which the oldest of what its neighbours have sent is behind its own."""


class PartWorker:
    """A part and its exchanges. Calls of the driver come one at a time; calls of neighbours, `halt` and `report` at any time.

    A call of the driver can be repeated: a worker whose process has died before its end takes up its checkpoint, asks its
    neighbours for what they sent since, and comes to the same bits.

    Args:
        make: Builds the part, at step 0.
        index: Its number.
        directory: For its checkpoint, on a disk of the machine it restarts on.
        checkpoint_every: Steps between checkpoints, at the ends of exchanges.
    """

    def __init__(
        self, make: Callable[[], Any], index: int, directory: Path, checkpoint_every: int
    ) -> None:
        self._make, self._index, self._checkpoint_every = make, index, checkpoint_every
        self._file = directory / f"part-{index}.state"
        self._part: Any = None
        self._neighbours: Mapping[int, Neighbour] = {}
        self._epoch = -1
        self._changed = threading.Condition()
        self._inboxes: dict[int, Inbox] = {}
        self._outboxes: dict[int, Outbox] = {}
        self._durable: dict[int, int] = {}
        """By neighbour, the step up to which its exchanges are in the checkpoint."""
        self._collected = 0
        """The step up to which exchanges have been sent."""
        self._halted = -1
        """The newest call that is to end early."""
        self._lost: dict[int, int] = {}
        """By neighbour, the step before which it keeps nothing, where it has said so."""
        self._progress = Progress(machine=socket.gethostname(), process=os.getpid())

    # --- calls of the driver -----------------------------------------------------------------------------

    def open(self, session: Session) -> Progress:
        """Build the part, or take up its checkpoint, unless it is there; all other calls begin like this.

        Raises:
            StateLost: It has restarted, and there is no checkpoint here.
        """
        self._neighbours = session.neighbours
        if self._part is None:
            self._part = self._make()
        if self._epoch != session.epoch and not self._restore(session.epoch):
            if session.epoch:
                raise StateLost(f"part {self._index} has restarted without its checkpoint")
            self._begin_anew(session.epoch)
        self._progress.lookahead = self._part.lookahead
        self._progress.now = self._part.now
        return self._progress

    def advance(self, session: Session, call: int, until: int) -> Progress:
        """Take steps up to one, or fewer where the call is halted.

        Args:
            session: As of now.
            call: A number that grows from call to call, for `halt`.
            until: Steps taken in the end.

        Raises:
            StateLost: As of `open`, or it needs what no neighbour has any more.
            DivergenceError: As of `BaseSimulation.advance`.
        """
        self.open(session)
        part, progress = self._part, self._progress
        while part.now < until and self._receive(part.needs, call):
            start = time.perf_counter()
            part.step()
            progress.computing += time.perf_counter() - start
            progress.now = part.now
            if part.now - 1 in session.rows:
                part.end_row()
            if part.now % session.every == 0 or part.now in session.boundaries:
                self._send()
                if part.now // self._checkpoint_every > progress.durable // self._checkpoint_every:
                    self._save()
        return progress

    def gather(self, session: Session, call: int, step: int) -> tuple[Progress, bytes | None]:
        """Return the part's state at a step (`checkpoint.to_bytes`), with all exchanges before it; None: it was halted.

        `step` is one of the session's boundaries. Raises as `advance`.
        """
        self.advance(session, call, step)
        if self._part.now == step:
            self._send()
            if self._receive(step, call):
                return self._progress, to_bytes(self._part.state_dict())
        return self._progress, None

    def scatter(self, session: Session, whole: bytes | None) -> Progress:
        """Take over the state of a whole simulation, or that of step 0, and go on in the session's epoch."""
        if whole is None or self._part is None:
            self._part = self._make()
        if whole is not None:
            self._part.load_state_dict(from_bytes(whole))
        self._neighbours = session.neighbours
        self._begin_anew(session.epoch)
        self._save()
        self._progress.now, self._progress.lookahead = self._part.now, self._part.lookahead
        return self._progress

    def close(self) -> None:
        """Drop the part and its checkpoint."""
        if self._part is not None:
            self._part.close()
            self._part = None
        shutil.rmtree(self._file.parent, ignore_errors=True)

    # --- calls of neighbours, and of the driver at any time ---------------------------------------------------

    def put(self, sender: int, epoch: int, exchange: Exchange, durable: int) -> None:
        """As of `Neighbour`."""
        with self._changed:
            if epoch == self._epoch:
                self._outboxes[sender].release(durable)
                self._inboxes[sender].add(exchange)
                self._progress.bytes_received += exchange.nbytes
                self._changed.notify_all()

    def replay(self, requester: int, epoch: int, first: int) -> None:
        """As of `Neighbour`."""
        with self._changed:
            if epoch != self._epoch:
                return
            outbox, durable = self._outboxes[requester], self._durable[requester]
            kept, oldest = outbox.since(first), outbox.first
        if first < oldest:
            self._neighbours[requester].lose(self._index, epoch, oldest)
        for exchange in kept:
            self._neighbours[requester].put(self._index, epoch, exchange, durable)

    def lose(self, sender: int, epoch: int, first: int) -> None:
        """As of `Neighbour`."""
        with self._changed:
            if epoch == self._epoch:
                self._lost[sender] = first
                self._changed.notify_all()

    def halt(self, call: int) -> None:
        """End a call early, and all before it."""
        with self._changed:
            self._halted = max(self._halted, call)
            self._changed.notify_all()

    def report(self) -> Progress:
        """Return what it has done so far."""
        reached = [inbox.reached for inbox in self._inboxes.values()]
        self._progress.behind = max(0, self._progress.now - min(reached, default=self._progress.now))
        return self._progress

    # --- exchanges ---------------------------------------------------------------------------------------

    def _begin(self, epoch: int, delivered: dict[int, int], outboxes: dict[int, Outbox]) -> None:
        """Exchange in an epoch from the part's present state on, which holds what has been delivered before these steps."""
        with self._changed:
            self._inboxes = {one: Inbox(step) for one, step in delivered.items()}
            self._outboxes, self._durable, self._epoch, self._lost = outboxes, delivered, epoch, {}
        self._collected = self._progress.durable = self._part.now

    def _begin_anew(self, epoch: int) -> None:
        """Exchange in an epoch from a state that holds all exchanges before its step."""
        now, neighbours = self._part.now, self._part.neighbours
        self._begin(epoch, dict.fromkeys(neighbours, now), {one: Outbox(now) for one in neighbours})

    def _send(self) -> None:
        """Hand every neighbour what it has to get up to the present step, if it has not."""
        now = self._part.now
        if self._collected == now:
            return
        for one in self._part.neighbours:
            exchange = self._part.collect(one)
            with self._changed:
                self._outboxes[one].add(exchange)
            self._neighbours[one].put(self._index, self._epoch, exchange, self._durable[one])
            self._progress.bytes_sent += exchange.nbytes
            self._progress.calls += 1
        self._collected = now

    def _receive(self, needs: int, call: int) -> bool:
        """Deliver the neighbours' exchanges of all steps before `needs`, and wait for them; False: the call was halted."""
        if not self._wait(needs, call):
            return False
        with self._changed:
            found = [exchange for one in sorted(self._inboxes) for exchange in self._inboxes[one].take(needs)]
        for exchange in found:
            self._part.deliver(exchange)
        return True

    def _wait(self, needs: int, call: int) -> bool:
        """Wait for the exchanges of all steps before `needs`; False: the call was halted."""
        asked = time.monotonic()
        try:
            while True:
                with self._changed:
                    missing = {one: box.reached for one, box in self._inboxes.items() if box.reached < needs}
                    if any(reached < self._lost.get(one, 0) for one, reached in missing.items()):
                        raise StateLost(f"part {self._index} needs exchanges that its neighbours have dropped")
                    if call <= self._halted:
                        return False
                    if not missing:
                        return True
                    self._progress.waits_for = tuple(missing)
                    start = time.monotonic()
                    self._changed.wait(max(0.0, asked + _RETRY - start))
                end = time.monotonic()
                for one in missing:
                    waited = self._progress.waiting.get(one, 0.0)
                    self._progress.waiting[one] = waited + (end - start) / len(missing)
                if end >= asked + _RETRY:
                    for one, reached in missing.items():
                        self._neighbours[one].replay(self._index, self._epoch, reached)
                    asked = end
        finally:
            self._progress.waits_for = ()

    # --- its checkpoint ------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the part's state and what neighbours may yet ask of it, whole or not at all."""
        with self._changed:
            outboxes = {
                str(one): {"first": box.first, "kept": [as_tree(e) for e in box.since(box.first)]}
                for one, box in self._outboxes.items()
            }
            delivered = {str(one): box.delivered for one, box in self._inboxes.items()}
        state = {
            "epoch": self._epoch,
            "delivered": delivered,
            "outboxes": outboxes,
            "part": self._part.state_dict(),
        }
        temporary = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(to_bytes(state))
            os.replace(temporary, self._file)
        except OSError as error:
            raise RunError(
                f"{self._file}: part {self._index} cannot write its checkpoint ({error.strerror or error})"
            ) from None
        with self._changed:
            self._durable = {int(one): step for one, step in delivered.items()}
        self._progress.durable = self._part.now

    def _restore(self, epoch: int) -> bool:
        """Take up the checkpoint of an epoch; False: there is none."""
        try:
            state = from_bytes(self._file.read_bytes())
        except (OSError, ValueError):
            return False
        if state["epoch"] != epoch:
            return False
        self._part.load_state_dict(state["part"])
        delivered = {int(one): step for one, step in state["delivered"].items()}
        outboxes = {int(one): Outbox(box["first"]) for one, box in state["outboxes"].items()}
        for one, outbox in outboxes.items():
            for tree in state["outboxes"][str(one)]["kept"]:
                outbox.add(from_tree(tree))
        self._begin(epoch, delivered, outboxes)
        return True
