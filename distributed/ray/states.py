"""States of parts on their way between the driver and a part: over a connection of their own, tensor by tensor.

The driver gives a state, or none; then the part gives none, or where it got none the one that it has ready. So neither holds a state
as bytes beside its tensors, and no memory is shared.
"""

from __future__ import annotations

import socket
from typing import IO, Any

from antiphon.base.memory import OWN_PAGES, zero_pages
from antiphon.distributed.ray.sockets import DRIVER, Address, connected, fill
from antiphon.engine.state.wire import read, to_bytes


def received(connection: socket.socket) -> dict[str, Any] | None:
    """Return a state that comes on a connection, its tensors on the CPU; None: there is none. OSError where it breaks."""

    def take(size: int) -> Any:
        memory = zero_pages(size) if size >= OWN_PAGES else bytearray(size)
        fill(connection, memoryview(memory))
        return memory

    state: dict[str, Any] | None = read(take)
    return state


def exchanged(
    address: Address, index: int, secret: bytes, state_file: IO[bytes] | None
) -> dict[str, Any] | None:
    """Return what a part answers to a state that it is given, as a file of a `stream`; None: to none. OSError: it is not reached."""
    with connected(address, DRIVER, index, 0, secret) as connection:
        if state_file is None:
            connection.sendall(to_bytes(None))
        else:
            connection.sendfile(state_file)
        return received(connection)
