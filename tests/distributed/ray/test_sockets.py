"""Exchanges as bytes, and connections between parts: who is let in, what breaks, and that nobody waits for the line."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch

from antiphon.distributed.parts.exchange import CutMessage, Exchange, Return
from antiphon.distributed.ray import sockets
from antiphon.distributed.ray.sockets import Broken, Sockets
from antiphon.distributed.ray.states import received
from antiphon.engine.state.wire import encode, stream
from antiphon.errors import RunError
from tests.distributed.ray.conftest import PATIENCE

DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
)
BIG = torch.arange(200_000, dtype=torch.float32)


def exchange(*contents: Any, end: int = 1, **more: Any) -> Exchange:
    """Messages of these contents, of the step before `end`."""
    return Exchange(0, 0, end - 1, end, [CutMessage("a->b", end - 1, one, -1) for one in contents], **more)


def equal(one: Any, other: Any) -> bool:
    """Whether two trees have the same types, shapes and bits."""
    if isinstance(one, torch.Tensor):
        bits = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (one, other)]
        return one.dtype == other.dtype and one.shape == other.shape and torch.equal(*bits)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and equal(vars(one), vars(other))
    return type(one) is type(other) and bool(one == other)


def wait_for(holds: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)


# --- bytes -------------------------------------------------------------------------------------------------


def test_what_is_decoded_has_the_bits_of_what_was_encoded() -> None:
    shapes = ((2, 3), (0, 5), (1, 1), (7,), ())
    contents = [
        torch.arange(math.prod(shape)).reshape(shape).to(dtype) for shape in shapes for dtype in DTYPES
    ]
    contents += [torch.tensor([[math.nan, -0.0, math.inf]]), torch.arange(12.0).reshape(3, 4).mT]
    returns = [
        Return("a->b", 3, 4, counted, gradient, loss, 2)
        for counted, gradient, loss in (
            (True, None, None),
            (torch.tensor([True, False]), contents[0], contents[5]),
        )
    ]
    sent = exchange(*contents, returns=returns)
    sent.messages.append(
        CutMessage("ä", 2, contents[0], 1, {"x": contents[3], "_x": contents[0]}, contents[6])
    )
    for one in (sent, exchange()):
        facts, arrays = encode(one.tree)
        assert equal(Exchange.decoded(facts, memoryview(bytearray().join(arrays))), one)
    assert len(facts) < 30
    facts, arrays = encode(exchange(BIG[:25_000]).tree)
    assert len(facts) + sum(map(len, arrays)) < 1.01 * 100_000


@pytest.mark.parametrize(
    ("least", "most", "size"), [(0, 255, 1), (-128, 127, 1), (-1, 255, 2), (0, 2**15, 4), (0, 2**40, 8)]
)
def test_integers_cross_in_as_many_bytes_as_the_largest_needs(least: int, most: int, size: int) -> None:
    sent = exchange(torch.tensor([least, most] * 16))
    facts, arrays = encode(sent.tree)
    contents = bytearray().join(arrays)
    assert len(contents) == sent.nbytes == 32 * size
    assert equal(Exchange.decoded(facts, memoryview(contents)), sent)


@pytest.mark.parametrize(
    "facts",
    [
        b"",
        b"[]",
        b"\xff",
        b"[0,0,0,1,[],[]]",
        b"[0,0,0,1,[],[],7]",
        b'[{"\\u0000":["float32",3]}]',
        b'[{"\\u0000":["load",1]}]',
        b'[{"\\u0000":["float32",-1]}]',
        b'[{"\\u0000":["float32",1e9]}]',
        b'[{"\\u0000":7}]',
        b'[0,0,0,1,[["a",0,{"\\u0000":["int64",1]}]],[]]',
        b'[0,0,0,1,[[{"\\u0000":["int64",1]}]],[]]',
        b'[{"\\u0000":["int64",1]},0,0,1,["a"],0]',
        b"[" * 100_000,
    ],
)
def test_bytes_that_are_no_exchange_are_one_line(facts: bytes) -> None:
    with pytest.raises(RunError, match=r"^parts: the data received are not an exchange \(.*\)$"):
        Exchange.decoded(facts, memoryview(bytearray(b"12345678")))


# --- connections -------------------------------------------------------------------------------------------


class End:
    """Sockets of a part in this process, and what they took."""

    def __init__(self, index: int, secret: bytes = b"secret") -> None:
        self.taken: list[tuple[int, Any]] = []
        self.sockets = Sockets(
            index, secret, "127.0.0.1", lambda *item: self.taken.append(item), socket.socket.close
        )

    def address(self, incarnation: int = 0) -> sockets.Address:
        return incarnation, self.sockets.host, self.sockets.port

    @property
    def ends(self) -> list[int]:
        return [one.end for _, one in self.taken if isinstance(one, Exchange)]

    @property
    def breaks(self) -> list[str]:
        return [one.line for _, one in self.taken if isinstance(one, Broken)]


@contextmanager
def ends(*secrets: bytes, free: bool = False) -> Iterator[list[End]]:
    """Two parts that are connected both ways; in the end no thread is left."""
    before = threading.active_count()
    both = [End(index, *secrets[index : index + 1]) for index in range(2)]
    try:
        for one, other in ((0, 1), (1, 0)):
            both[one].sockets.connect(5, {other: both[other].address()}, free=free)
        yield both
    finally:
        for end in both:
            end.sockets.close()
    wait_for(lambda: threading.active_count() <= before)


def test_exchanges_come_in_order_with_their_epoch_and_their_bytes_are_counted() -> None:
    with ends() as (first, second):
        some = [exchange(*[BIG] * (step % 2), end=step + 1) for step in range(6)]
        for one in some:
            first.sockets.send(1, one)
        second.sockets.send(0, some[0])
        wait_for(lambda: len(second.taken) == 6 and len(first.taken) == 1)
        assert equal([one for _, one in second.taken], some)
        assert {epoch for epoch, _ in second.taken} == {5}
        if hasattr(socket, "TCP_CONGESTION"):
            assert first.sockets.line(1).congestion_control == allowed_congestion_control()
        wait_for(lambda: first.sockets.written == second.sockets.read > 0)
        wait_for(lambda: second.sockets.written == first.sockets.read > 0)
        assert 3 * BIG.nbytes < first.sockets.written < 3.01 * BIG.nbytes
        assert second.sockets.written < 64
        for size in (0, BIG.nbytes):
            echoes = first.sockets.echoes(1, size, 3, PATIENCE)
            assert echoes is not None
            assert len(echoes) == 3
            for one, next_one in pairwise(echoes):
                assert one.received_at < next_one.received_at
                assert one.seconds < next_one.seconds


def test_a_part_without_the_secret_is_let_in_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_REACHED_WITHIN", 0.1)
    with ends(b"secret", b"other") as (first, second):
        for end in (first, second):
            end.sockets.send(end is first, exchange(BIG))
        wait_for(lambda: first.breaks and second.breaks)
        line = f"the connection from part 0 to part 1 has broken (127.0.0.1:{second.sockets.port}: it was closed)"
        assert first.breaks == [line]
        assert first.ends == second.ends == []


def test_connections_that_hang_or_talk_otherwise_keep_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_UNPROVEN", 3)
    with ends() as (first, second):
        strangers = [socket.create_connection(second.address()[1:]) for _ in range(6)]
        for number, stranger in enumerate(strangers):
            with suppress(OSError):
                stranger.sendall(b"GET / HTTP/1.1\r\n" * 10 * (number % 2))
        first.sockets.connect(6, {1: second.address()}, free=True)
        first.sockets.send(1, exchange(BIG))
        wait_for(lambda: second.ends == [1])  # they are there all the time: the oldest are closed
        for stranger in strangers:
            stranger.close()
        assert not [line for epoch, line in second.taken if epoch != 5 and isinstance(line, Broken)]


def test_a_state_crosses_with_its_bits() -> None:
    tensors = [
        torch.randn(shape).to(dtype)
        for dtype in (torch.bfloat16, torch.float64, torch.bool, torch.int64)
        for shape in ((), (0, 3), (600, 700))
    ]
    state = {"now": 3, "rows": [None, math.inf, "ä"], "tensors": [*tensors, tensors[2].mT, tensors[2][5]]}
    first, second = socket.socketpair()
    with first, second, ThreadPoolExecutor(1) as pool:
        for given in (state, None):
            found = pool.submit(received, second)
            for buffer in stream(given):
                first.sendall(buffer)
            back = found.result()
            assert repr(back) == repr(given)  # types and shapes
            assert back is None or all(map(torch.equal, back["tensors"], state["tensors"]))
        found = pool.submit(received, second)
        first.sendall(next(stream(state)))
        first.close()
        with pytest.raises(ConnectionError, match=r"^it was closed$"):
            found.result()


def connected(end: End, sender: int, secret: bytes = b"secret") -> socket.socket:
    """A connection to a part, with its proof."""
    connection = socket.create_connection(end.address()[1:])
    sockets._prove(connection, sender, end.sockets.index, 5, secret)
    return connection


def allowed_congestion_control() -> str:
    """BBR where the kernel allows it, else its default."""
    with socket.socket() as plain:
        with suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"bbr")
        used: bytes = plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return used.rstrip(b"\0").decode()


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="the system has one congestion control")
def test_connections_use_bbr_where_the_kernel_allows_it() -> None:
    end = End(1)
    with connected(end, 3) as connection:
        used = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    end.sockets.close()
    assert used.rstrip(b"\0").decode() == allowed_congestion_control()


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (b"\x07" * 13, "the data received are not a frame"),
        (sockets._FRAME.pack(0, 2**32 - 1, 2**63), "the data received are not a frame"),
        (sockets._frame(0, b"[1]"), "the data received are not an exchange"),
        (sockets._frame(0, b"[0,0,0,1,[],[]]")[:-1], "it was closed"),
        (b"", "it was closed"),
    ],
)
def test_what_is_no_frame_ends_the_connection_with_one_line(frame: bytes, why: str) -> None:
    end = End(1)
    with connected(end, 3) as connection:
        connection.sendall(frame)
        connection.shutdown(socket.SHUT_WR)
        wait_for(lambda: end.taken)
    end.sockets.close()
    ((epoch, _),), (line,) = end.taken, end.breaks
    assert epoch == 5
    assert line.startswith("the connection from part 3 to part 1 has broken (")
    assert why in line


@contextmanager
def silent() -> Iterator[socket.socket]:
    """A listener of part 1 that lets one connection in and does not read."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        yield server


@pytest.mark.parametrize("free", [False, True])
def test_who_sends_does_not_wait_for_who_does_not_read(free: bool) -> None:
    end = End(0)
    with silent() as server:
        end.sockets.connect(5, {1: (0, *server.getsockname()[:2])}, free=free)
        connection, _ = server.accept()
        sockets._admit(connection, 1, b"secret")
        for step in range(100):
            end.sockets.send(1, exchange(BIG, end=step + 1))
        waiting = len(end.sockets._lines[1]._queue)
        assert (
            waiting <= 16 if free else waiting > 16
        )  # in lockstep a part is not further ahead than its lookahead
        assert end.sockets.echoes(1, 10, 1, 0.01) is None
        end.sockets.close()
        connection.close()
    assert end.taken == []


def test_a_connection_that_breaks_is_given_up_in_lockstep_and_both_ends_have_a_line() -> None:
    with ends() as (first, second):
        first.sockets.send(1, exchange())
        wait_for(lambda: second.ends == [1])
        second.sockets.close()
        wait_for(lambda: first.breaks)
        assert first.breaks[0] == "the connection from part 1 to part 0 has broken (it was closed)"


def test_parts_that_do_not_wait_meet_again_and_have_how_far_the_other_is() -> None:
    with ends(free=True) as (first, second):
        first.sockets.send(1, exchange(BIG, end=3))
        wait_for(lambda: second.ends == [3])
        second.sockets.close()
        for step in (4, 5):
            first.sockets.send(1, exchange(BIG, end=step))
        again = End(1)
        first.sockets.meet(1, again.address(1))
        first.sockets.meet(1, second.address(0))  # older
        wait_for(lambda: again.taken)
        first.sockets.send(1, exchange(BIG, end=6))
        wait_for(lambda: again.ends[-1] == 6)
        _, lost = again.taken[0]
        assert lost == replace(lost, first=lost.end, messages=[], returns=[])
        again.sockets.close()
