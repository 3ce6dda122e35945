"""One part of a scenario in a process of its own: it takes steps, and exchanges with its neighbours. It keeps nothing on disk."""

from __future__ import annotations

import importlib
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from antiphon.base import errors
from antiphon.distributed.parts.cut import Exchange
from antiphon.distributed.parts.part import Part, PartRow
from antiphon.distributed.ray.sockets import Address, Broken, Sockets
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.state.packing import from_bytes, to_bytes
from antiphon.telemetry.metrics import PartMetrics


@dataclass(frozen=True)
class MeasuredLine:
    """The line from a part to a neighbour, over which both sent at once.

    Attributes:
        latency: Seconds that the first byte takes.
        nbytes: Bytes of the largest exchange, as it was.
        seconds: Seconds that the line is taken up by such an exchange, one following another.
        loses: Whether packets had to be sent again.
    """

    sender: int
    receiver: int
    latency: float
    nbytes: int
    seconds: float
    loses: bool = False


_ECHOES = 5
_ECHO_WITHIN = 60.0


class PartWorker:
    """A part and its exchanges. The driver's calls come one at a time, `listen` first, `halt` at any time.

    Args:
        secret: Of the run, which parts prove to one another that they have.
        host: Where it takes exchanges; None: at the address of the Ray node that it is on.
    """

    _part: Part
    _sockets: Sockets

    def __init__(self, index: int, secret: bytes, host: str | None = None, path: Sequence[str] = ()) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        torch.set_num_threads(1)
        self._secret, self._host = secret, host or importlib.import_module("ray").util.get_node_ip_address()
        self._arrived: list[Exchange] = []
        self._metrics = PartMetrics(part=index, machine=socket.gethostname())
        self._halted = False

    def call(self, method: str, *arguments: Any) -> Any:
        """Return what another method does, or raise its error as one that any process can load."""
        try:
            return getattr(self, method)(*arguments)
        except Broken:
            raise
        except (Exception, SystemExit) as error:  # what a user's module may raise
            known = next((kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__), None)
            line = str(error) if known else f"{type(error).__name__}: {error}"
            raise (known or errors.RunError)(line) from error

    def listen(self, make: Callable[[int], Part]) -> Address:
        """Build the part, and return the address at which it takes exchanges; `make`: builds one by its number, at step 0."""
        self._part = part = make(self._metrics.part)
        self._sockets = Sockets(part.index, self._secret, self._host, len(part.neighbours))
        return self._sockets.address

    def connect(self, addresses: Mapping[int, Address]) -> None:
        self._sockets.connect({neighbour: addresses[neighbour] for neighbour in self._part.neighbours})

    def load(self, state: bytes) -> None:
        """Go on from the part's share of a state of the whole (`Part.load_state_dict`); all parts are at one step."""
        self._drain()
        self._part.load_state_dict(from_bytes(state))

    def advance(self, until: int, log_steps: LogSteps | None) -> tuple[PartMetrics, PartRow | None]:
        """Take steps up to one, or fewer where it is halted; return its metrics and what it records of the newest step."""
        part, self._halted = self._part, False
        while part.now < until and self._receive(part.waits_for):
            start = time.perf_counter()
            part.step(log_steps)
            self._metrics.computing += time.perf_counter() - start
            for neighbour in part.neighbours:
                self._sockets.lines[neighbour].put(part.collect(neighbour))
            self._metrics.calls += len(part.neighbours)
        self._metrics.steps_taken = part.now
        self._metrics.bytes_sent, self._metrics.bytes_received = self._sockets.written, self._sockets.read
        return self._metrics, part.row

    def gather(self) -> bytes:
        """Return the part's state (`Part.state_dict`), with all exchanges before it; all parts are at one step."""
        self._drain()
        return to_bytes(self._part.state_dict())

    def measure(self) -> list[MeasuredLine]:
        """Measure the lines to all neighbours: how long a byte takes, and, where they come in, how many follow it in which time."""
        latencies, measured = dict[int, float](), []
        for neighbour, line in self._sockets.lines.items():
            alone = [line.echoes(0, 1, _ECHO_WITHIN)[0] for _ in range(_ECHOES)]
            latencies[neighbour] = median(echo.seconds for echo in alone) / 2
        for neighbour, line in self._sockets.lines.items():
            first, *_, last = line.echoes(line.largest, _ECHOES, _ECHO_WITHIN)
            seconds = (last.received_at - first.received_at) / (_ECHOES - 1)
            found = latencies[neighbour], line.largest, seconds, line.resent > 0
            measured.append(MeasuredLine(self._part.index, neighbour, *found))
        return measured

    def halt(self) -> None:
        self._halted = True
        self._sockets.inbox.put(None)

    def _drain(self) -> None:
        part = self._part
        while not self._receive(lambda: [n for n in part.neighbours if part.boundary.covered[n] < part.now]):
            self._halted = False  # a halt that came late

    def _receive(self, late: Callable[[], Sequence[int]]) -> bool:
        """Deliver what has come, and wait while a neighbour is late; False: it was halted. Broken: a connection is."""
        inbox = self._sockets.inbox
        while True:
            while not inbox.empty():
                self._note(inbox.get())
            part = self._part
            early = [exchange for exchange in self._arrived if exchange.end > part.now]
            for exchange in self._arrived:
                if exchange.end <= part.now:
                    part.deliver(exchange)
            self._arrived = early
            if self._halted or not late():
                return not self._halted
            start = time.monotonic()
            self._note(inbox.get())
            self._metrics.waiting += time.monotonic() - start

    def _note(self, item: Exchange | Broken | None) -> None:
        if isinstance(item, Broken):
            raise item
        if item is not None:
            self._arrived.append(item)
