"""Connections between the parts of a run, each in a process of its own: exchanges go from part to part over TCP.

Each part listens on its machine's address, and opens a connection to each neighbour, on which it alone sends. Both ends of one
prove first that they have the run's secret, which never crosses. What crosses after that is not encrypted.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from antiphon.base.errors import RunError
from antiphon.distributed.parts.cut import Exchange
from antiphon.engine.state.packing import to_bytes

Address = tuple[str, int]


class Broken(RunError):
    """A connection between two parts has broken: the line says which, and why."""


class Echo(NamedTuple):
    """An answer to bytes that were sent."""

    seconds: float
    """Until it was here."""
    received_at: float
    """When the bytes were at the neighbour, by its clock, in seconds."""


_BBR = b"bbr"
"""The congestion control of connections where the kernel has it: it does not take a lost packet for a full line."""
_RESENT = 100
"""The place of `tcpi_total_retrans`, four bytes, in what Linux knows of a connection (`struct tcp_info`)."""
_EXCHANGE, _PING, _PONG = b"x", b"?", b"!"
"""What a message begins with: an exchange, a question for an echo, or the answer to one."""
_TIME = struct.Struct("!d")
"""The time at which a question for an echo came, by the clock of the part that answers."""


class Sockets:
    """The listener of a part, at a port that the system chooses, and its connections, one each way with every neighbour."""

    def __init__(self, index: int, secret: bytes, host: str, neighbours: int) -> None:
        self.index, self.secret = index, secret
        self.inbox: SimpleQueue[Exchange | Broken | None] = SimpleQueue()
        self._listener = Listener((host, 0), backlog=max(1, neighbours), authkey=secret)
        self.address: Address = self._listener.address
        self._closed = False
        self.lines: dict[int, Line] = {}
        self._incoming: list[Connection] = []
        self._read_from: dict[int, int] = {}
        _start(self._accept, neighbours)

    @property
    def written(self) -> int:
        return sum(line.written for line in self.lines.values())

    @property
    def read(self) -> int:
        return sum(self._read_from.values())

    def connect(self, addresses: Mapping[int, Address]) -> None:
        """Open a connection to each neighbour; Broken: one cannot be reached."""
        for neighbour, address in addresses.items():
            try:
                connection = Client(address, authkey=self.secret)
            except (OSError, EOFError, AuthenticationError) as error:
                raise Broken(
                    f"part {neighbour} at {address[0]}:{address[1]} cannot be reached ({error})"
                ) from None
            _settle(connection)
            connection.send_bytes(str(self.index).encode())
            self.lines[neighbour] = Line(self, connection, neighbour)

    def _accept(self, neighbours: int) -> None:
        while len(self._incoming) < neighbours and not self._closed:
            with suppress(OSError, EOFError, AuthenticationError):  # else it is no part of the run
                connection = self._listener.accept()
                _settle(connection)
                self._incoming.append(connection)
                _start(self._serve, connection)
        self._listener.close()

    def _serve(self, connection: Connection) -> None:
        with connection:
            sender = int(connection.recv_bytes())
            self._read_from[sender] = 0
            try:
                while not self._closed:
                    self._take(sender, connection.recv_bytes())
            except (OSError, EOFError, ValueError, TypeError) as error:
                self.broken(sender, self.index, str(error) or "it was closed")

    def _take(self, sender: int, message: bytes) -> None:
        kind, content = message[:1], message[1:]
        if kind == _EXCHANGE:
            self._read_from[sender] += len(content)
            self.inbox.put(Exchange.decoded(content))
        elif kind == _PING:
            self.lines[sender].put(_PONG + _TIME.pack(time.perf_counter()))
        else:
            self.lines[sender].pongs.put(*_TIME.unpack(content))

    def broken(self, sender: int, receiver: int, reason: object) -> None:
        if not self._closed:
            self.inbox.put(
                Broken(f"the connection from part {sender} to part {receiver} has broken ({reason})")
            )

    def close(self) -> None:
        self._closed = True
        for line in self.lines.values():
            line.close()
        for connection in self._incoming:
            _shut(connection)
        with suppress(OSError):  # a last one, which ends the wait for others
            socket.create_connection(self.address).close()


class Line:
    """A connection to a neighbour, and the thread that writes on it: bytes `written` in exchanges, and those of the largest one."""

    def __init__(self, sockets: Sockets, connection: Connection, receiver: int) -> None:
        self.written = self.largest = 0
        self.pongs: SimpleQueue[float] = SimpleQueue()
        self._sockets, self._connection, self._receiver = sockets, connection, receiver
        self._queue: SimpleQueue[Exchange | bytes | None] = SimpleQueue()
        _start(self._run)

    @property
    def resent(self) -> int:
        with _socket_of(self._connection) as end:
            facts = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RESENT + 4)
        return int.from_bytes(facts[_RESENT:], sys.byteorder)

    def put(self, item: Exchange | bytes) -> None:
        """Write an exchange, or another message, after all before it, without waiting for the line."""
        self._queue.put(item)

    def echoes(self, nbytes: int, count: int, within: float) -> list[Echo]:
        """Send so many bytes several times at once, and return the neighbour's short answers, each `within` so many seconds."""
        start, echoes = time.perf_counter(), list[Echo]()
        for _ in range(count):
            self.put(_PING + bytes(nbytes))
        for _ in range(count):
            try:
                received_at = self.pongs.get(timeout=within)
            except Empty:
                index = self._sockets.index
                raise Broken(f"part {self._receiver} does not answer part {index}") from None
            echoes.append(Echo(time.perf_counter() - start, received_at))
        return echoes

    def close(self) -> None:
        """End the thread; what has not been written is dropped."""
        self._queue.put(None)
        _shut(self._connection)

    def _run(self) -> None:
        try:
            with self._connection as connection:
                while (item := self._queue.get()) is not None:
                    if isinstance(item, bytes):
                        connection.send_bytes(item)
                        continue
                    content = to_bytes(item.tree)
                    connection.send_bytes(_EXCHANGE + content)
                    self.largest = max(self.largest, len(content))
                    self.written += len(content)
        except OSError as error:
            self._sockets.broken(self._sockets.index, self._receiver, error)


def _settle(connection: Connection) -> None:
    """Send each message at once, and take no lost packet for a full line.

    The sizes of its buffers stay as they are: the system lets them grow with what is on the way, unless they are set.
    """
    with _socket_of(connection) as end:
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # the kernel lacks it, or does not allow it
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _BBR)


def _shut(connection: Connection) -> None:
    with suppress(OSError), _socket_of(connection) as end:
        end.shutdown(socket.SHUT_RDWR)


def _socket_of(connection: Connection) -> socket.socket:
    return socket.socket(fileno=os.dup(connection.fileno()))


def _start(target: Any, *arguments: Any) -> None:
    threading.Thread(target=target, args=arguments, name="antiphon sockets", daemon=True).start()
