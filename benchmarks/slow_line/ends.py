"""One end of `../lossy_line.py`, which starts it with the other end's address, a way, its numbers, and `send` or `receive`."""

from __future__ import annotations

import json
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from itertools import product
from queue import SimpleQueue
from threading import Condition, Thread
from typing import Any

SAMPLES, SLEEP = 16, 0.06
DATAGRAMS = "datagrams"
MTU, CONTENT = 1500, 1400
"""Bytes of a packet, and of a datagram's content."""
PATIENCE = 0.5
"""Seconds for a datagram; for all else 60 times as many."""
_STEP, _PIECE = struct.Struct("!I"), struct.Struct("!IHH")
"""Of a message its step; of a datagram step, sample, and the pieces that the sample has."""
_WORDS, _MESSAGES = 5001, 5002


def connection(host: str, port: int, control: str) -> socket.socket:
    """Return a connection with a congestion control."""
    found = socket.create_connection((host, port))
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, control.encode())
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found


def read(source: socket.socket, size: int) -> bytes:
    """Return so many bytes; none at the end."""
    return source.recv(size, socket.MSG_WAITALL)


def threaded(target: Callable[..., None], *arguments: Any) -> None:
    """Start a thread that ends with the process."""
    Thread(target=target, args=arguments, daemon=True).start()


class Ahead:
    """The newest step of the other end, as a thread notes it."""

    def __init__(self, source: socket.socket) -> None:
        self._source, self._changed, self._newest = source, Condition(), 0
        threaded(self._note)

    def _note(self) -> None:
        while content := read(self._source, _STEP.size):
            with self._changed:
                (self._newest,) = _STEP.unpack(content)
                self._changed.notify()

    def wait(self, step: int) -> None:
        """Wait until the other end has taken a step."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest >= step, 60 * PATIENCE)


def send(host: str, way: str, size: int, delay: int, steps: int) -> None:
    """Take steps, and send a message after each."""
    control, _, count = way.partition("*")
    other = Ahead(connection(host, _WORDS, "cubic"))
    if way == DATAGRAMS:
        datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagrams.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**22)
    else:
        queues = [SimpleQueue[bytes]() for _ in range(int(count or 1))]
        for queue in queues:
            threaded(_written, connection(host, _MESSAGES, control), queue)
    sample = bytes(size // SAMPLES)
    for step in range(1, steps + 1):
        other.wait(step - delay)
        time.sleep(SLEEP)
        if way != DATAGRAMS:
            queues[step % len(queues)].put(_STEP.pack(step) + SAMPLES * sample)
            continue
        pieces = [sample[at : at + CONTENT] for at in range(0, len(sample), CONTENT)]
        for number, piece in product(range(SAMPLES), pieces):
            datagrams.sendto(_PIECE.pack(step, number, len(pieces)) + piece, (host, _MESSAGES))
    other.wait(steps)


def _written(sink: socket.socket, queue: SimpleQueue[bytes]) -> None:
    while True:
        sink.sendall(queue.get())


class Received:
    """What has come of each step, as threads note it.

    Args:
        host: Where it comes.
        way: See above.
        size: Bytes of a message.
    """

    def __init__(self, host: str, way: str, size: int) -> None:
        self._changed, self._newest = Condition(), 0
        self._samples: dict[int, int] = defaultdict(int)
        """By step: how many are whole."""
        self._loses, self._size = way == DATAGRAMS, _STEP.size + size // SAMPLES * SAMPLES
        if self._loses:
            source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            source.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**22)
            source.bind((host, _MESSAGES))
            threaded(self._take_datagrams, source)
        else:
            threaded(self._accept, socket.create_server((host, _MESSAGES)))

    def _accept(self, server: socket.socket) -> None:
        while True:
            threaded(self._take_messages, server.accept()[0])

    def _take_messages(self, source: socket.socket) -> None:
        while content := read(source, self._size):
            self._note(_STEP.unpack(content[: _STEP.size])[0], SAMPLES)

    def _take_datagrams(self, source: socket.socket) -> None:
        pieces: dict[tuple[int, int], int] = defaultdict(int)
        while True:
            step, sample, count = _PIECE.unpack(source.recv(2 * MTU)[: _PIECE.size])
            pieces[step, sample] += 1
            self._note(step, int(pieces[step, sample] == count))

    def _note(self, step: int, samples: int) -> None:
        with self._changed:
            self._samples[step] += samples
            self._newest = max(self._newest, step)
            self._changed.notify()

    def wait(self, step: int) -> int:
        """Wait for the message of a step, and return how many of its samples are lost."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._samples[step] == SAMPLES or (self._loses and self._newest > step),
                PATIENCE if self._loses else 60 * PATIENCE,
            )
            return SAMPLES - self._samples[step]


def receive(host: str, way: str, size: int, delay: int, steps: int) -> None:
    """Take steps, read a message in each, and print what came of them."""
    received, words = Received(host, way, size), socket.create_server((host, _WORDS))
    print("listens", flush=True)
    sink, lost, waited, began = words.accept()[0], 0, 0.0, time.monotonic()
    for step in range(1, steps + 1):
        start = time.monotonic()
        if step > delay:
            lost += received.wait(step - delay)
        waited += time.monotonic() - start
        time.sleep(SLEEP)
        sink.sendall(_STEP.pack(step))
    each = 1e3 / steps
    found = {
        "ms": (time.monotonic() - began) * each,
        "waits": waited * each,
        "lost": lost / SAMPLES / (steps - delay),
    }
    print(json.dumps({key: round(value, 4) for key, value in found.items()}), flush=True)
    sys.stdin.read()  # until the bytes of the line are read


def main() -> None:
    """Take the steps of an end."""
    host, way, *numbers, end = sys.argv[1:]
    (send if end == "send" else receive)(host, way, *map(int, numbers))


if __name__ == "__main__":
    main()
