"""One part of a scenario in a process of its own: it takes steps, and exchanges with its neighbours.

A worker keeps nothing on disk. One whose process has died and was started again has no part, and answers None until it has begun
from a state that is handed to it.
"""

from __future__ import annotations

import importlib
import socket
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from statistics import median
from typing import Any

import torch

from antiphon.base import errors
from antiphon.base.memory import spare_memory, was_refused
from antiphon.distributed.parts.exchange import Exchange
from antiphon.distributed.parts.part import Part, PartRow
from antiphon.distributed.ray.sockets import Address, Broken, Echo, Sockets
from antiphon.distributed.ray.states import received
from antiphon.engine.features.sweep import SweepOrder
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.wire import stream, to_bytes
from antiphon.nets.isolation.own_context import set_matmul_precision
from antiphon.telemetry.parts.part_metrics import PartMetrics


@dataclass(frozen=True)
class Listening:
    """The address at which a part takes exchanges."""

    address: Address


@dataclass(frozen=True)
class Begun:
    """A part has begun."""


@dataclass(frozen=True)
class StepsTaken:
    """What comes of steps: what is recorded of the newest one, and whether the part's state is to be fetched (`states`)."""

    row: PartRow | None = None
    state: bool = False


@dataclass(frozen=True)
class MeasuredLine:
    """The line from a part to a neighbour, over which both sent at once.

    Attributes:
        latency: Seconds that the first byte takes.
        nbytes: Bytes of the largest exchange, as it was.
        seconds: Seconds that the line is taken up by such an exchange, one following another.
        loses: Whether packets had to be sent again on the present connection.
        congestion_control: The connection's, by its name; empty where the system has one for all.
    """

    sender: int
    receiver: int
    latency: float
    nbytes: int
    seconds: float
    loses: bool = False
    congestion_control: str = ""


@dataclass(frozen=True)
class MeasuredLines:
    """The lines to all neighbours of a part."""

    lines: tuple[MeasuredLine, ...]


Outcome = Listening | Begun | StepsTaken | MeasuredLines | Broken
"""What comes of a call; after a broken connection all parts have to begin a new epoch."""
Answer = tuple[PartMetrics, Outcome]
"""The metrics of a part, which does not know its seconds since the run began, and the outcome of a call."""


_LARGE = 2**25
"""Bytes of parameters from which memory is scarce, and a step long."""
_ECHOES = 5
"""Times that a line is measured."""
_ECHO_WITHIN = 60.0
"""Seconds."""


class PartWorker:
    """A part and its exchanges. The driver's calls come one at a time, `meet` and `halt` at any time.

    Args:
        keep_every: Seconds after which a part that does not wait hands over its own state, at the end of a call.
        secret: Of the run, which parts prove to one another that they have.
        host: Where it takes exchanges; None: at the address of the Ray node that it is on.
        precision: Of matrix products (`matmul_precision`).
        path: Where the driver finds modules (`sys.path`), the user's among them.
    """

    def __init__(
        self,
        index: int,
        keep_every: float,
        secret: bytes,
        host: str | None = None,
        precision: str = "highest",
        path: Sequence[str] = (),
    ) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        self._keep_every, self._secret, self._host = keep_every, secret, host
        self._precision = precision
        self._built: Part | None = None
        self._received_state: dict[str, Any] | None = None
        """The state from which it begins."""
        self._ready: dict[str, Any] | None = None
        """The state that is fetched."""
        self._sockets: Sockets | None = None
        self._epoch = -1
        self._inbox: SimpleQueue[tuple[int, Exchange | Broken] | None] = SimpleQueue()
        """Exchanges, and breaks of connections, with their epochs; and None to wake the one who waits for them."""
        self._arrived: list[tuple[int, Exchange | Broken]] = []
        """Taken from the inbox and not delivered."""
        self._broken: Broken | None = None
        """Which connection of this epoch has broken, in lockstep, where an exchange may be lost."""
        self._metrics = PartMetrics(part=index)
        self._bytes_before = 0, 0
        """Sent and received by former processes of the part."""
        self._due_at = 0.0
        """When the part hands over its own state next."""
        self._halted = -1
        """The newest call that is to end early."""

    # --- calls of the driver -----------------------------------------------------------------------------

    def call(self, method: str, *arguments: Any) -> Answer | None:
        """Return what another method does, or raise its error as one that any process can load; None: it has not begun."""
        if self._built is None and method not in ("listen", "begin"):
            return None
        try:
            answer: Answer | None = getattr(self, method)(*arguments)
            return answer
        except (Exception, SystemExit) as error:  # what a user's module may raise
            error_class = next(
                (kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__), None
            )
            if was_refused(error):
                raise MemoryError(str(error)) from error
            line = str(error) if error_class else f"{type(error).__name__}: {error}"
            raise (error_class or errors.RunError)(line) from error

    def listen(self, metrics: PartMetrics) -> Answer:
        """Return the address at which the part takes exchanges (`Address`).

        Args:
            metrics: Totals of former processes of the part, and its incarnation.
        """
        if self._sockets is None:
            torch.set_num_threads(1)
            set_matmul_precision(self._precision)
            host = self._host or importlib.import_module("ray").util.get_node_ip_address()
            self._sockets = Sockets(metrics.part, self._secret, host, self._take, self._serve_driver)
            self._bytes_before = metrics.bytes_sent, metrics.bytes_received
            unseen = bool(metrics.machine) and metrics.alive  # its process has died between two calls
            number = metrics.incarnation + unseen
            self._metrics = replace(metrics, machine=socket.gethostname(), incarnation=number, alive=True)
        else:
            self._metrics = replace(self._metrics, incarnation=metrics.incarnation)
        address = self._metrics.incarnation, self._sockets.host, self._sockets.port
        return self._metrics, Listening(address)

    def begin(
        self,
        make: Callable[[int], Part],
        epoch: int,
        addresses: Mapping[int, Address],
        has_state: bool,
    ) -> Answer | None:
        """Begin an epoch from a state; exchanges of former ones are dropped. None: its process has not been given it.

        Args:
            make: Builds a part by its number, at step 0.
            epoch: Grows whenever all parts begin from one state together.
            addresses: By number of the part.
            has_state: Whether it has been given the state: its share of that of the whole (`Part.load_state_dict`), or its own
                (`Part.load_own_state`); else it is that of step 0.
        """
        state, self._received_state, self._ready = self._received_state, None, None
        if self._sockets is None or (has_state and state is None):
            return None
        if self._built is not None and not has_state:
            self._built.close()
            self._built = None
        if self._built is None:
            self._built = make(self._metrics.part)
            backend = self._built.backend
            sweep, agents = backend.features.of(SweepOrder), backend.stacked.single_system.agents.values()
            large = sum(p.nbytes for agent in agents for p in agent.learner.parameters.values()) >= _LARGE
            if sweep is not None and large:
                sweep.before = spare_memory
        part = self._built
        part.restart(self._metrics.incarnation, state if has_state else None)
        self._metrics = replace(self._metrics, steps_taken=part.now)
        self._epoch, self._broken = epoch, None
        self._sockets.connect(
            epoch,
            {neighbour: addresses[neighbour] for neighbour in part.neighbours},
            free=part.free is not None,
        )
        self._due_at = time.monotonic() + self._keep_every
        return self._metrics, Begun()

    def advance(self, call: int, until: int, log_steps: LogSteps | None) -> Answer:
        """Take steps up to one, or fewer where the call is halted; with its own state, where that is due in free mode.

        Args:
            call: A number that grows from call to call, for `halt`.
            until: Steps taken in the end.
        """
        part = self._part
        while part.now < until and self._receive(call, lambda: self._late(until)):
            start = time.perf_counter()
            part.step(log_steps)
            self._count(computing=self._metrics.computing + time.perf_counter() - start)
            self._send()
        if part.free is not None:  # one that was started again may lack the step that this part is at
            self._send()
        if part.now < until:
            return self._metrics, self._broken or StepsTaken()
        if part.free is None or time.monotonic() < self._due_at:
            return self._metrics, StepsTaken(part.row)
        self._due_at = time.monotonic() + self._keep_every
        self._ready = part.own_state()
        return self._metrics, StepsTaken(part.row, state=True)

    def gather(self, call: int, step: int, log_steps: LogSteps | None) -> Answer:
        """Have the part's state at a step fetched (`Part.state_dict`), with all exchanges before it, unless the call is halted."""
        answer, part = self.advance(call, step, log_steps), self._part
        expected = () if part.free is not None else part.neighbours
        late = lambda: [neighbour for neighbour in expected if part.covered[neighbour] < step]
        if part.now < step:
            return answer
        if not self._receive(call, late):
            return self._metrics, self._broken or StepsTaken()
        self._ready = part.state_dict()
        return self._metrics, StepsTaken(state=True)

    def measure(self, *_: object) -> Answer:
        """Measure the lines to all neighbours: how long a byte takes, and how many follow it in which time.

        The second is measured where the bytes come in, as those that come back wait for what the neighbour sends.
        """
        sockets, part = self._connections, self._part
        echoes: dict[int, list[list[Echo]]] = {neighbour: [] for neighbour in part.neighbours}
        for neighbour in [*part.neighbours] * _ECHOES + [*part.neighbours]:
            together = len(echoes[neighbour]) == _ECHOES
            size, count = (sockets.line(neighbour).largest, _ECHOES) if together else (0, 1)
            answers = sockets.echoes(neighbour, size, count, _ECHO_WITHIN)
            if answers is None:
                return self._metrics, Broken(f"part {neighbour} does not answer part {part.index}")
            echoes[neighbour].append(answers)
        lines = []
        for neighbour, (*alone, full) in echoes.items():
            latency = median(echo.seconds for (echo,) in alone) / 2
            seconds = (full[-1].received_at - full[0].received_at) / (len(full) - 1)
            line = sockets.line(neighbour)
            measured = latency, line.largest, seconds, line.resent > 0, line.congestion_control
            lines.append(MeasuredLine(part.index, neighbour, *measured))
        return self._metrics, MeasuredLines(tuple(lines))

    # --- calls at any time -----------------------------------------------------------------------------------

    def _take(self, epoch: int, item: Exchange | Broken) -> None:
        """Take what has come from a neighbour (`sockets.Take`)."""
        self._inbox.put((epoch, item))

    def _serve_driver(self, connection: socket.socket) -> None:
        """Take the state that the driver gives; or give it the one that is ready, which no step changes meanwhile."""
        self._received_state = received(connection)
        if self._received_state is not None:
            connection.sendall(to_bytes(None))
            return
        ready, self._ready = self._ready, None
        for buffer in stream(ready):
            connection.sendall(buffer)

    def meet(self, neighbour: int, address: Address) -> None:
        """Take note of the new address of a part that was started again; for parts that do not wait."""
        if self._sockets is not None:
            self._sockets.meet(neighbour, address)

    def halt(self, call: int) -> None:
        """End a call early, and all before it."""
        self._halted = max(self._halted, call)
        self._inbox.put(None)

    # --- exchanges ---------------------------------------------------------------------------------------

    @property
    def _part(self) -> Part:
        assert self._built is not None
        return self._built

    @property
    def _connections(self) -> Sockets:
        assert self._sockets is not None
        return self._sockets

    def _count(self, **totals: Any) -> None:
        """Bring the metrics up to date; by the thread that takes steps alone."""
        now, behind = self._part.now, self._part.behind
        sent, received = self._bytes_before
        totals |= {
            "bytes_sent": sent + self._connections.written,
            "bytes_received": received + self._connections.read,
        }
        self._metrics = replace(self._metrics, steps_taken=now, staleness=behind, **totals)

    def _late(self, until: int) -> list[int]:
        """Return the neighbours that the coming step waits for.

        In free mode none that has come to the call's end: what it has sent, and is not here, was dropped or lost.
        """
        part = self._part
        return [
            neighbour
            for neighbour in part.waits_for()
            if part.free is None or part.covered[neighbour] < until
        ]

    def _send(self) -> None:
        """Send every neighbour what it has to get up to the present step."""
        part = self._part
        for neighbour in part.neighbours:
            self._connections.send(neighbour, part.collect(neighbour))
        self._count(calls=self._metrics.calls + len(part.neighbours))

    def _receive(self, call: int, late: Callable[[], list[int]]) -> bool:
        """Deliver what has come, and wait while someone is late; False: the call was halted, or a connection has broken."""
        while True:
            self._deliver()
            missing = late()
            if call <= self._halted or self._broken is not None:
                return False
            if not missing:
                return True
            self._wait(missing)

    def _deliver(self) -> None:
        """Deliver the exchanges of this epoch: in lockstep none of a step that the part has not taken."""
        part = self._part
        while not self._inbox.empty():
            item = self._inbox.get()
            if item is not None:
                self._arrived.append(item)
        arrived, self._arrived = self._arrived, []
        for epoch, content in arrived:
            early = part.free is None and isinstance(content, Exchange) and content.end > part.now
            if epoch > self._epoch or (epoch == self._epoch and early):
                self._arrived.append((epoch, content))
            elif epoch == self._epoch and isinstance(content, Exchange):
                part.deliver(content)
            elif epoch == self._epoch and isinstance(content, Broken) and part.free is None:
                self._broken = self._broken or content

    def _wait(self, missing: Collection[int]) -> None:
        """Wait until something has come."""
        start, before = time.monotonic(), self._metrics.waiting
        item = self._inbox.get()
        if item is not None:
            self._arrived.append(item)
        share_of_wait = (time.monotonic() - start) / len(missing)
        self._count(
            waiting={
                **before,
                **{neighbour: before.get(neighbour, 0.0) + share_of_wait for neighbour in missing},
            }
        )

    def close(self) -> None:
        """End its connections and threads, and close its environment."""
        if self._sockets is not None:
            self._sockets.close()
        if self._built is not None:
            self._built.close()
