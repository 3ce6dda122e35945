"""A line between two processes of this machine, whose bandwidth changes while it is used."""

from __future__ import annotations

import math
import socket
import threading
import time
from contextlib import suppress
from typing import Self

_AT_ONCE = 256
"""Bytes passed on at a time."""


class Relay:
    """Passes on to an address what comes in at its own, and back what is answered; a context manager.

    Args:
        target: Host and port.
        rate: Bytes a second on the way there.

    Attributes:
        address: Host and port at which it listens.
        rate: As given; it can be changed at any time.
    """

    def __init__(self, target: tuple[str, int], rate: float = math.inf) -> None:
        self.rate = rate
        self._target, self._server = target, socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()
        self._open: list[socket.socket] = [self._server]
        self._start(self._accept)

    def _start(self, *call: object) -> None:
        target, *arguments = call
        threading.Thread(target=target, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                self._start(self._pass_on, near, far, True)
                self._start(self._pass_on, far, near, False)

    def _pass_on(self, source: socket.socket, sink: socket.socket, limited: bool) -> None:
        with suppress(OSError):
            while content := source.recv(_AT_ONCE if limited else 2**16):
                if limited:
                    time.sleep(len(content) / self.rate)
                sink.sendall(content)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
