"""Connections between the parts of a run, each in a process of its own: exchanges go from part to part over TCP.

Each part listens on its machine's address, and opens a connection to each neighbour, on which it alone sends. Both ends of one
prove first that they have the run's secret, which never crosses. What crosses after that is not encrypted.
"""

from __future__ import annotations

import hmac
import secrets
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any

from antiphon.base.errors import RunError
from antiphon.distributed.parts.exchange import Exchange
from antiphon.engine.state.wire import encode

Address = tuple[int, str, int]
"""Incarnation of a part, and the host and port at which it listens: the newest one counts."""


@dataclass(frozen=True)
class Broken:
    """A connection that has broken: which, and why, in one line."""

    line: str


@dataclass(frozen=True)
class Echo:
    """An answer to bytes that were sent.

    Attributes:
        seconds: Until it was here.
        received_at: When the bytes were at the neighbour, by its clock, in seconds.
    """

    seconds: float
    received_at: float


Take = Callable[[int, Exchange | Broken], None]
"""Takes what has come in an epoch: an exchange; or, in lockstep, that a connection has broken."""

BBR = "bbr"
"""The congestion control of connections where the kernel has it: it does not take a lost packet for a full line."""
DRIVER = 2**32 - 1
"""The sender that is no part."""
_FRAME = struct.Struct("!BIQ")
"""A frame's header: its kind, and the bytes of its two parts."""
_EXCHANGE, _PING, _PONG = range(3)
_CLOCK = struct.Struct("!d")
"""The time at which a question for an echo came, by the clock of the part that answers."""
_LONGEST = 2**32
"""Bytes of a part of a frame, at most."""
_HELLO = struct.Struct("!IIQ32s")
"""Sender, receiver, epoch, and a challenge."""
_PROVEN_WITHIN = 30.0
"""Seconds for the proofs at the beginning of a connection."""
_UNPROVEN = 64
"""Connections without a proof at a time; beyond that the oldest is closed."""
_REACHED_WITHIN = 60.0
"""Seconds in which a neighbour in lockstep must be reached."""
_AGAIN = 0.2
"""Seconds between two attempts."""
_SILENT = 120
"""Seconds without an answer of the other machine after which a connection counts as broken."""
_RESENT = 100
"""The place of `tcpi_total_retrans`, four bytes, in what Linux knows of a connection (`struct tcp_info`)."""
_LONGEST_NAME = 16
"""Bytes of the name of a congestion control, at most."""
_WAITING = 16
"""Exchanges that wait for the line in free mode; of more the oldest are dropped."""


class Sockets:
    """The listener of a part, and its connections.

    Args:
        secret: Of the run.
        host: Where it listens, at a port that the system chooses.
        take: For all that comes; it is called by threads of its own.
        serve: For a connection of the driver (`states`).

    Attributes:
        written: Bytes of exchanges that were written, in all.
        read: Bytes of exchanges that were read, in all.
    """

    def __init__(
        self, index: int, secret: bytes, host: str, take: Take, serve: Callable[[socket.socket], None]
    ) -> None:
        self.index, self.secret, self.take, self.serve = index, secret, take, serve
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._server = socket.create_server((host, 0), family=family, backlog=_UNPROVEN)
        self.host, self.port = self._server.getsockname()[:2]
        self.written = self.read = 0
        self.lock = threading.Lock()
        self._closed = False
        self._unproven: dict[socket.socket, None] = {}
        """Connections without a proof, the oldest first."""
        self._lines: dict[int, NeighbourConnection] = {}
        self._incoming: set[socket.socket] = set()
        self._addresses: dict[int, Address] = {}
        self._pongs: dict[int, SimpleQueue[tuple[bytes, float]]] = {}
        self._threads: list[threading.Thread] = []
        self.start(self._accept)

    def start(self, target: Callable[..., None], *arguments: Any) -> None:
        """Start a thread that ends with the sockets."""
        thread = threading.Thread(target=target, args=arguments, name="antiphon sockets", daemon=True)
        with self.lock:
            self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
            thread.start()

    # --- sending -------------------------------------------------------------------------------------------

    def connect(self, epoch: int, addresses: Mapping[int, Address], *, free: bool) -> None:
        """Open new connections, in place of those of former epochs; nothing waits for them.

        Args:
            epoch: Of what is sent on them.
            free: Whether a connection that breaks is opened again, and what waits for it is bounded; else it is given up.
        """
        for line in self._lines.values():
            line.close()
        for neighbour, address in addresses.items():
            self._pongs[neighbour] = SimpleQueue()
            self.meet(neighbour, address)
        self._lines = {
            neighbour: NeighbourConnection(self, neighbour, epoch, self._addresses[neighbour], free)
            for neighbour in addresses
        }

    def meet(self, neighbour: int, address: Address) -> None:
        """Take note of the address of a neighbour, which may have been started again; an older one changes nothing."""
        with self.lock:
            newest = self._addresses[neighbour] = max(address, self._addresses.get(neighbour, address))
        if neighbour in self._lines:
            self._lines[neighbour].move(newest)

    def send(self, neighbour: int, exchange: Exchange) -> None:
        """Send an exchange, in order, without waiting for the line."""
        self._lines[neighbour].put(exchange)

    def line(self, neighbour: int) -> NeighbourConnection:
        return self._lines[neighbour]

    def echoes(self, neighbour: int, nbytes: int, count: int, within: float) -> list[Echo] | None:
        """Send so many bytes to a neighbour several times at once, and return its short answers; None: they took too long."""
        number, start = secrets.token_bytes(8), time.perf_counter()
        frame = _frame(_PING, number, [bytes(nbytes)])
        for _ in range(count):
            self._lines[neighbour].put(frame)
        echoes: list[Echo] = []
        with suppress(Empty):
            while len(echoes) < count:
                remaining = max(0.0, start + within - time.perf_counter())
                answered, received_at = self._pongs[neighbour].get(timeout=remaining)
                if answered == number:
                    echoes.append(Echo(time.perf_counter() - start, received_at))
        return echoes if len(echoes) == count else None

    # --- receiving -----------------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._server.accept()
            except OSError:  # closed, or no files are left for a while
                time.sleep(0.0 if self._closed else _AGAIN)
                continue
            with self.lock:
                self._unproven[connection] = None
                oldest = next(iter(self._unproven))
                if full := len(self._unproven) > _UNPROVEN:
                    del self._unproven[oldest]
            if full:
                _shut(oldest)
            self.start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        """Read what a neighbour sends, once it has proven that it is one."""
        with self.lock:
            self._incoming.add(connection)
        try:
            with connection:
                try:
                    sender, epoch = _admit(connection, self.index, self.secret)
                except OSError:
                    return
                finally:
                    with self.lock:
                        self._unproven.pop(connection, None)
                if sender == DRIVER:
                    with suppress(OSError):
                        self.serve(connection)
                    return
                reason = self._read_frames(connection, sender, epoch)
        finally:
            with self.lock:
                self._incoming.discard(connection)
        if not self._closed:
            self.take(epoch, _broken(sender, self.index, reason))

    def _read_frames(self, connection: socket.socket, sender: int, epoch: int) -> object:
        """Take all that comes on a connection; return why no more does."""
        try:
            while not self._closed:
                self._take_frame(sender, epoch, *_read_frame(connection))
        except (OSError, RunError) as error:
            return error
        return "closed"

    def _take_frame(self, sender: int, epoch: int, kind: int, facts: memoryview, content: memoryview) -> None:
        """Take a frame in: an exchange, a question for an echo, or the answer to one."""
        if kind == _PING and sender in self._lines:
            self._lines[sender].put(_frame(_PONG, facts, [_CLOCK.pack(time.perf_counter())]))
        elif kind == _PONG and sender in self._pongs and len(content) == _CLOCK.size:
            self._pongs[sender].put((bytes(facts), *_CLOCK.unpack(content)))
        elif kind == _EXCHANGE:
            self.count(read=_FRAME.size + len(facts) + len(content))
            self.take(epoch, Exchange.decoded(facts, content))

    # --- all -----------------------------------------------------------------------------------------------

    def count(self, written: int = 0, read: int = 0) -> None:
        with self.lock:
            self.written += written
            self.read += read

    def close(self) -> None:
        """End all connections and threads."""
        self._closed = True
        for line in self._lines.values():
            line.close()
        with self.lock:
            threads, incoming = self._threads, [*self._incoming]
        for connection in (self._server, *incoming):
            _shut(connection)
        self._server.close()
        for thread in threads:
            thread.join(_PROVEN_WITHIN)


class NeighbourConnection:
    """A connection to a neighbour, and the thread that opens it and writes on it."""

    def __init__(self, sockets: Sockets, receiver: int, epoch: int, address: Address, free: bool) -> None:
        self.sockets, self.receiver, self.epoch, self.free = sockets, receiver, epoch, free
        self.address = address
        self.largest = 0
        """Bytes of the largest exchange that was written."""
        self._queue: deque[Exchange | bytes] = deque(maxlen=_WAITING if free else None)
        self._changed = threading.Condition()
        self._closed = False
        self._connection: socket.socket | None = None
        self._watermark: Exchange | None = None
        """The newest exchange that was written, without its contents."""
        sockets.start(self._run)

    @property
    def resent(self) -> int:
        """Packets that were sent again on the present connection; 0 where the system does not count them."""
        with self._changed:
            if self._connection is None or not sys.platform.startswith("linux"):
                return 0
            try:
                facts = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RESENT + 4)
            except OSError:  # it has just been closed
                return 0
        return int.from_bytes(facts[_RESENT:], sys.byteorder)

    @property
    def congestion_control(self) -> str:
        """The name of the present connection's; empty where the system has one for all."""
        with self._changed:
            if self._connection is None or not hasattr(socket, "TCP_CONGESTION"):
                return ""
            try:
                name = self._connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _LONGEST_NAME)
            except OSError:  # it has just been closed
                return ""
        return name.rstrip(b"\0").decode()

    def put(self, item: Exchange | bytes) -> None:
        """Write an exchange, or a frame, after all before it."""
        with self._changed:
            self._queue.append(item)
            self._changed.notify()

    def move(self, address: Address) -> None:
        with self._changed:
            if address != self.address:
                self.address = address
                self._leave()

    def close(self) -> None:
        """End the thread; what has not been written is dropped."""
        with self._changed:
            self._closed = True
            self._leave()

    def _leave(self) -> None:
        if self._connection is not None:
            _shut(self._connection)
        self._connection = None
        self._changed.notify()

    def _run(self) -> None:
        """Connect and write, again and again; in lockstep until a connection breaks, or there is none for too long."""
        given_up = time.monotonic() + _REACHED_WITHIN
        reason = ""
        while not self._closed:
            try:
                with self._connect() as connection:
                    given_up = 0.0
                    if self._watermark is not None:  # what was written with it may be lost
                        self._write(connection, self._watermark)
                    while (item := self._next()) is not None:
                        self._write(connection, item)
            except OSError as error:
                reason = "{1}:{2}: {error}".format(*self.address, error=error)
            self._connection = None
            if not self.free and not self._closed and time.monotonic() > given_up:
                self.sockets.take(self.epoch, _broken(self.sockets.index, self.receiver, reason))
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, _AGAIN)

    def _connect(self) -> socket.socket:
        """Return a new connection, which is now the one to write on."""
        address, sockets = self.address, self.sockets
        connection = connected(address, sockets.index, self.receiver, self.epoch, sockets.secret)
        with self._changed:
            if address == self.address and not self._closed:
                self._connection = connection
        return connection

    def _next(self) -> Exchange | bytes | None:
        """Return what is to be written next, once there is something; None: the connection is to be left."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._connection is None)
            return None if self._connection is None else self._queue.popleft()

    def _write(self, connection: socket.socket, item: Exchange | bytes) -> None:
        if isinstance(item, bytes):
            connection.sendall(item)
            return
        self._watermark = replace(item, first=item.end, messages=[], returns=[])
        facts, contents = encode(item.tree)
        frame = _frame(_EXCHANGE, facts, [*contents])
        connection.sendall(frame)
        self.largest = max(self.largest, len(frame))
        self.sockets.count(written=len(frame))


# --- the beginning of a connection -------------------------------------------------------------------------


def connected(address: Address, sender: int, receiver: int, epoch: int, secret: bytes) -> socket.socket:
    """Return a connection on which both ends have proven that they belong to the run; OSError: there is none."""
    connection = socket.create_connection(address[1:], _PROVEN_WITHIN / 2)
    try:
        _prove(connection, sender, receiver, epoch, secret)
    except OSError:
        connection.close()
        raise
    return connection


def _admit(connection: socket.socket, index: int, secret: bytes) -> tuple[int, int]:
    """Return the sender that has connected to a part, and its epoch; OSError where it does not prove that it has the secret."""
    until = time.monotonic() + _PROVEN_WITHIN
    challenge = secrets.token_bytes(32)
    connection.sendall(challenge)
    hello, proof = _read(connection, _HELLO.size, until), _read(connection, 32, until)
    sender, receiver, epoch, _ = _HELLO.unpack(hello)
    if not hmac.compare_digest(proof, _proof(secret, b"sender", challenge + hello)) or receiver != index:
        raise ConnectionError("it is no part of the run")
    connection.sendall(_proof(secret, b"receiver", challenge + hello))
    _settle(connection)
    return sender, epoch


def _prove(connection: socket.socket, sender: int, receiver: int, epoch: int, secret: bytes) -> None:
    """Introduce a sender to the part that it has connected to; OSError where that does not prove that it has the secret."""
    until = time.monotonic() + _PROVEN_WITHIN
    hello = _HELLO.pack(sender, receiver, epoch, secrets.token_bytes(32))
    transcript = _read(connection, 32, until) + hello
    connection.sendall(hello + _proof(secret, b"sender", transcript))
    if not hmac.compare_digest(_read(connection, 32, until), _proof(secret, b"receiver", transcript)):
        raise ConnectionError("it is no part of the run")
    _settle(connection)


def _proof(secret: bytes, end: bytes, transcript: bytes) -> bytes:
    return hmac.digest(secret, end + transcript, "sha256")


def _read(connection: socket.socket, count: int, until: float) -> bytes:
    """Read so many bytes, before a time; OSError where they do not come."""
    received = b""
    while len(received) < count:
        connection.settimeout(max(0.001, until - time.monotonic()))
        more = connection.recv(count - len(received))
        if not more:
            raise ConnectionError("it was closed")
        received += more
    return received


def _settle(connection: socket.socket) -> None:
    """Wait as long as it takes from now on, unless the other machine is silent.

    The sizes of its buffers stay as they are: the system lets them grow with what is on the way, unless they are set.
    """
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": _SILENT // 4,
        "TCP_KEEPINTVL": _SILENT // 4,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 1000 * _SILENT,
    }
    for name, value in options.items():
        if hasattr(socket, name):  # not all systems have all
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_CONGESTION"):
        with suppress(OSError):  # the kernel lacks it, or does not allow it
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, BBR.encode())


# --- frames ------------------------------------------------------------------------------------------------


def _frame(kind: int, facts: bytes | memoryview, arrays: Sequence[Any] = ()) -> bytes:
    size = sum(len(array) for array in arrays)
    return b"".join((_FRAME.pack(kind, len(facts), size), facts, *arrays))


def _read_frame(connection: socket.socket) -> tuple[int, memoryview, memoryview]:
    """Return the kind and the two parts of the next frame; OSError at the end, RunError where there is no frame."""
    kind, first, second = _FRAME.unpack(_read_exactly(connection, _FRAME.size))
    if kind > _PONG or max(first, second) > _LONGEST:
        raise RunError("the data received are not a frame")
    return kind, _read_exactly(connection, first), _read_exactly(connection, second)


def _read_exactly(connection: socket.socket, size: int) -> memoryview:
    content = memoryview(bytearray(size))
    fill(connection, content)
    return content


def fill(connection: socket.socket, memory: memoryview) -> None:
    """Read as many bytes as fit into memory."""
    at = 0
    while at < len(memory):
        count = connection.recv_into(memory[at:], 0, socket.MSG_WAITALL)
        if not count:
            raise ConnectionError("it was closed")
        at += count


# --- both --------------------------------------------------------------------------------------------------


def _shut(connection: socket.socket) -> None:
    """End a connection, or a listener, whose thread then closes it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _broken(sender: int, receiver: int, reason: object) -> Broken:
    return Broken(f"the connection from part {sender} to part {receiver} has broken ({reason})")
