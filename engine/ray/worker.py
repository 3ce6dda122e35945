"""One part of a scenario in a process of its own: it is stepped, exchanges with its neighbours, and goes on after a restart."""

from __future__ import annotations

import math
import os
import shutil
import socket
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from antiphon.engine.parts.boundary import Exchange
from antiphon.engine.parts.free_boundary import packed, unpacked
from antiphon.engine.parts.part import Part
from antiphon.engine.ray.exchanges import Inbox, Outbox
from antiphon.engine.state.checkpoint import from_bytes, to_bytes
from antiphon.errors import (
    AntiphonError,
    DataError,
    DivergenceError,
    EngineError,
    ResourceError,
    RunError,
    ScenarioError,
)

__all__ = ["Failure", "Neighbour", "PartWorker", "Progress", "Session", "StateLost"]

_RETRY = 1.0
"""Seconds after which a part that waits has its neighbours send once more what they keep for it."""


class StateLost(RunError):
    """A part has restarted where its checkpoint is not: all parts have to go back to a state of the whole."""


_ERRORS = (StateLost, DataError, DivergenceError, EngineError, ResourceError, RunError, ScenarioError)
"""Those that are raised again as they are, but for their subclasses."""


@dataclass(frozen=True)
class Failure:
    """An error of a worker's method."""

    kind: type[AntiphonError]
    line: str
    trace: str
    """Where it was raised there."""

    @property
    def error(self) -> AntiphonError:
        """The error, to be raised here."""
        found = self.kind(self.line)
        found.__cause__ = RuntimeError(self.trace)
        return found


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
    starts: int = 0
    """How often it was started there before."""
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
    neighbours for what they sent since, and in lockstep comes to the same bits.

    Args:
        make: Builds the part, at step 0.
        index: Its number.
        directory: For its checkpoint, on a disk of the machine it restarts on.
        checkpoint_every: Steps between checkpoints, at the ends of exchanges.
    """

    def __init__(self, make: Callable[[], Part], index: int, directory: Path, checkpoint_every: int) -> None:
        self._make, self._index, self._checkpoint_every = make, index, checkpoint_every
        self._directory = directory
        self._built: Part | None = None
        self._neighbours: Mapping[int, Neighbour] = {}
        self._epoch = -1
        self._changed = threading.Condition()
        self._inboxes: dict[int, Inbox] = {}
        self._outboxes: dict[int, Outbox] = {}
        self._durable: dict[int, int] = {}
        """By neighbour, the step up to which its exchanges are in the checkpoint."""
        self._collected = 0
        """The step up to which exchanges have been sent."""
        self._arrivals = 0
        self._asked_at = 0.0
        """When neighbours were last asked for what is missing, or nothing was."""
        self._halted = -1
        """The newest call that is to end early."""
        self._lost: dict[int, int] = {}
        """By neighbour, the step before which it keeps nothing, where it has said so."""
        self._progress = Progress(
            machine=socket.gethostname(), process=os.getpid(), starts=self._count_starts()
        )

    # --- calls of the driver -----------------------------------------------------------------------------

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what another method does, or what it raises as a `Failure`: not every error can travel."""
        try:
            return getattr(self, method)(*arguments)
        except Exception as error:  # noqa: BLE001  (anything a user's module may raise)
            kind = next((one for one in _ERRORS if isinstance(error, one)), None)
            line = str(error) if kind else f"part {self._index}: {type(error).__name__}: {error}"
            return Failure(kind or RunError, line, traceback.format_exc())

    def open(self, session: Session) -> Progress:
        """Build the part, or take up its checkpoint, unless it is there; all other calls begin like this.

        Raises:
            StateLost: It has restarted, and there is no checkpoint here.
        """
        self._neighbours = session.neighbours
        part = self._part
        if self._epoch != session.epoch and not self._restore(session.epoch):
            if session.epoch:
                raise StateLost(f"part {self._index} has restarted without its checkpoint")
            self._begin_anew(session.epoch)
        self._progress.now, self._progress.lookahead = part.now, part.lookahead
        return self.report()

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
        while part.now < until and self._receive(call, until):
            start = time.perf_counter()
            part.step()
            progress.computing += time.perf_counter() - start
            progress.now = part.now
            if part.now - 1 in session.rows:
                part.end_row()
            if part.now % session.every == 0 or part.now in session.boundaries:
                self._send()
                due = part.now // self._checkpoint_every > progress.durable // self._checkpoint_every
                if due and (part.free or self._receive_before(part.now, call)):
                    self._save()
        return self.report()

    def gather(self, session: Session, call: int, step: int) -> tuple[Progress, bytes | None]:
        """Return the part's state at a step (`checkpoint.to_bytes`), with all exchanges before it; None: it was halted.

        `step` is one of the session's boundaries. Raises as `advance`.
        """
        self.advance(session, call, step)
        if self._part.now == step:
            self._send()
            if self._receive_before(step, call):
                return self.report(), to_bytes(self._part.state_dict())
        return self.report(), None

    def scatter(self, session: Session, whole: bytes | None) -> Progress:
        """Take over the state of a whole simulation, or that of step 0, and go on in the session's epoch."""
        if whole is None:
            self._drop_part()
        else:
            self._part.load_state_dict(from_bytes(whole))
        self._neighbours = session.neighbours
        self._begin_anew(session.epoch)
        self._save()
        self._progress.now, self._progress.lookahead = self._part.now, self._part.lookahead
        return self.report()

    def close(self) -> None:
        """Drop the part and its checkpoint."""
        self._drop_part()
        shutil.rmtree(self._directory, ignore_errors=True)

    # --- calls of neighbours, and of the driver at any time ---------------------------------------------------

    def put(self, sender: int, epoch: int, exchange: Exchange, durable: int) -> None:
        """As of `Neighbour`."""
        with self._changed:
            if epoch == self._epoch:
                self._outboxes[sender].release(durable)
                if self._inboxes[sender].add(exchange):
                    self._progress.bytes_received += exchange.nbytes
                self._notify()

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
                self._notify()

    def halt(self, call: int) -> None:
        """End a call early, and all before it."""
        with self._changed:
            self._halted = max(self._halted, call)
            self._notify()

    def report(self) -> Progress:
        """Return what it has done so far."""
        with self._changed:
            reached = [inbox.reached for inbox in self._inboxes.values()]
            behind = self._progress.now - min(reached, default=self._progress.now)
            return replace(self._progress, behind=max(0, behind), waiting=dict(self._progress.waiting))

    # --- exchanges ---------------------------------------------------------------------------------------

    def _notify(self) -> None:
        self._arrivals += 1
        self._changed.notify_all()

    def _begin(self, epoch: int, inboxes: dict[int, Inbox], outboxes: dict[int, Outbox]) -> None:
        """Exchange in an epoch from the part's present state on, which holds what has been taken out of these boxes."""
        with self._changed:
            self._inboxes, self._outboxes = inboxes, outboxes
            self._durable = {one: inbox.delivered for one, inbox in inboxes.items()}
            self._epoch, self._lost = epoch, {}
        self._collected = self._progress.durable = self._part.now
        self._asked_at = time.monotonic()

    def _begin_anew(self, epoch: int) -> None:
        """Exchange in an epoch from a state that holds all exchanges before its step."""
        now, neighbours = self._part.now, self._part.neighbours
        self._begin(epoch, {one: Inbox(now) for one in neighbours}, {one: Outbox(now) for one in neighbours})

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

    def _receive(self, call: int, until: int) -> bool:
        """Deliver what the coming step reads, and wait for it; False: the call was halted.

        In free mode for nobody who has come to the call's end: what has been dropped of it does not come any more.
        """
        part = self._part
        if not part.free:
            return self._receive_before(part.now - part.lookahead + 1, call)
        while True:
            arrivals = self._arrivals
            self._deliver(math.inf)
            self._ask(self._gaps())
            with self._changed:
                missing = tuple(one for one in part.waits_for() if self._inboxes[one].reached < until)
            if call <= self._halted:
                return False
            if not missing:
                return True
            self._wait(missing, arrivals)

    def _receive_before(self, step: int, call: int) -> bool:
        """Deliver the neighbours' exchanges of all steps before one, and wait for them; False: the call was halted."""
        while True:
            with self._changed:
                arrivals = self._arrivals
                missing = tuple(one for one, inbox in self._inboxes.items() if inbox.reached < step)
            if call <= self._halted:
                return False
            if not missing:
                self._asked_at = time.monotonic()
                self._deliver(step)
                return True
            self._wait(missing, arrivals)

    def _deliver(self, before: float) -> None:
        with self._changed:
            found = [
                exchange for one in sorted(self._inboxes) for exchange in self._inboxes[one].take(before)
            ]
        for exchange in found:
            self._part.deliver(exchange)

    def _wait(self, missing: Collection[int], arrivals: int) -> None:
        """Wait until something has arrived after so many arrivals, and ask neighbours for what does not come."""
        progress, start = self._progress, time.monotonic()
        with self._changed:
            progress.waits_for = tuple(missing)
            if self._arrivals == arrivals:
                self._changed.wait(max(0.0, self._asked_at + _RETRY - start))
            progress.waits_for = ()
        waited = time.monotonic() - start
        for one in missing:
            progress.waiting[one] = progress.waiting.get(one, 0.0) + waited / len(missing)
        self._ask(missing)

    def _gaps(self) -> list[int]:
        """Return the neighbours of whose exchanges a later one has arrived before an earlier one."""
        with self._changed:
            return [one for one, inbox in self._inboxes.items() if inbox.has_gap]

    def _ask(self, missing: Collection[int]) -> None:
        """Have neighbours send once more what is missing, now and then, and go on without what they have dropped.

        Raises:
            StateLost: In lockstep, where nothing may be left out.
        """
        if not missing or time.monotonic() < self._asked_at + _RETRY:
            return
        self._asked_at = time.monotonic()
        for one in missing:
            with self._changed:
                inbox, first = self._inboxes[one], self._lost.get(one, 0)
                if inbox.reached < first:
                    if not self._part.free:
                        raise StateLost(f"part {self._index} needs exchanges that part {one} has dropped")
                    inbox.skip(first)
                reached = inbox.reached
            self._neighbours[one].replay(self._index, self._epoch, reached)

    # --- the part and its checkpoint ------------------------------------------------------------------------

    @property
    def _part(self) -> Part:
        """The part, which is built when it is first needed."""
        if self._built is None:
            torch.set_num_threads(1)
            self._built = self._make()
            if self._built.free:
                self._built.incarnation = self._progress.starts
        return self._built

    def _drop_part(self) -> None:
        if self._built is not None:
            self._built.close()
            self._built = None

    def _count_starts(self) -> int:
        """Return how often the part was started here before, and note this start."""
        file = self._directory / "starts"
        starts = int(file.read_text()) if file.exists() else 0
        self._write(file, str(starts + 1).encode())
        return starts

    def _write(self, file: Path, data: bytes) -> None:
        """Write a file, whole or not at all."""
        temporary = file.with_suffix(".new")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, file)
        except OSError as error:
            raise RunError(
                f"{file}: part {self._index} cannot write its checkpoint ({error.strerror or error})"
            ) from None

    def _save(self) -> None:
        """Write the part's state, and what neighbours may yet ask of it."""
        with self._changed:
            inboxes = {str(one): [inbox.delivered, inbox.incarnation] for one, inbox in self._inboxes.items()}
            outboxes = {
                str(one): [outbox.first, [packed(exchange) for exchange in outbox.since(outbox.first)]]
                for one, outbox in self._outboxes.items()
            }
        state = {
            "epoch": self._epoch,
            "inboxes": inboxes,
            "outboxes": outboxes,
            "part": self._part.own_state(),
        }
        self._write(self._directory / "checkpoint", to_bytes(state))
        with self._changed:
            self._durable = {int(one): delivered for one, (delivered, _) in inboxes.items()}
        self._progress.durable = self._part.now

    def _restore(self, epoch: int) -> bool:
        """Take up the checkpoint of an epoch; False: there is none."""
        try:
            state = from_bytes((self._directory / "checkpoint").read_bytes())
        except (OSError, ValueError):
            return False
        if state["epoch"] != epoch:
            return False
        self._part.load_own_state(state["part"])
        outboxes = {int(one): Outbox(first) for one, (first, _) in state["outboxes"].items()}
        for one, outbox in outboxes.items():
            for exchange in state["outboxes"][str(one)][1]:
                outbox.add(unpacked(exchange))
        self._begin(epoch, {int(one): Inbox(*own) for one, own in state["inboxes"].items()}, outboxes)
        return True
