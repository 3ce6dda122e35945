"""States of parts on their way between the driver and a part: over a connection of their own, tensor by tensor.

The driver gives a state, or none; then the part gives none, or where it got none the one that it has ready. So neither holds a state
as bytes beside its tensors, and no memory is shared.
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Iterator
from typing import IO, Any

import torch
from torch import Tensor

from antiphon.base.memory import OWN_PAGES, zero_pages
from antiphon.distributed.ray.sockets import DRIVER, Address, connected, fill
from antiphon.engine.state.checkpoint import pack, unpack

_SIZE = struct.Struct("!Q")
"""Of the JSON before the tensors; 0: there is no state."""


def buffers(state: dict[str, Any] | None) -> Iterator[bytes | memoryview]:
    """Yield what crosses of a state (`checkpoint.write`): its tree and shapes as JSON, then one tensor after the other."""
    if state is None:
        yield _SIZE.pack(0)
        return
    tensors: dict[str, Tensor] = {}
    tree = pack(state, tensors)
    shapes = {key: [str(t.dtype).removeprefix("torch."), *t.shape] for key, t in tensors.items()}
    facts = json.dumps([tree, shapes]).encode()
    yield _SIZE.pack(len(facts))
    yield facts
    for tensor in tensors.values():
        yield tensor.cpu().reshape(-1).view(torch.uint8).numpy().data


def received(connection: socket.socket) -> dict[str, Any] | None:
    """Return a state that comes on a connection, its tensors on the CPU; None: there is none. OSError where it breaks."""
    (size,) = _SIZE.unpack(_filled(connection, bytearray(_SIZE.size)))
    if not size:
        return None
    tree, shapes = json.loads(_filled(connection, bytearray(size)))
    tensors: dict[str, Tensor] = {}
    for key, (name, *shape) in shapes.items():
        dtype = getattr(torch, name)
        size = math.prod(shape) * dtype.itemsize
        memory = zero_pages(size) if size >= OWN_PAGES else bytearray(size)
        content = _filled(connection, memory)
        tensors[key] = (
            torch.frombuffer(content, dtype=dtype).view(shape) if size else torch.empty(shape, dtype=dtype)
        )
    found: dict[str, Any] = unpack(tree, tensors)
    return found


def _filled(connection: socket.socket, memory: Any) -> Any:
    """Memory, once it is full of what comes."""
    fill(connection, memoryview(memory))
    return memory


def exchanged(address: Address, index: int, token: bytes, given: IO[bytes] | None) -> dict[str, Any] | None:
    """Return what a part answers to a state that it is given, as a file of `buffers`; None: to none. OSError: it is not reached."""
    with connected(address, DRIVER, index, 0, token) as connection:
        if given is None:
            connection.sendall(_SIZE.pack(0))
        else:
            connection.sendfile(given)
        return received(connection)
