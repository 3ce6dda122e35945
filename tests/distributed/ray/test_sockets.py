"""Parts in processes: exchanges as bytes, connections, and a part's worker without Ray has the bits of one process."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from multiprocessing.connection import Connection, Listener
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.distributed.parts.cut import CutMessage, Exchange, Return
from antiphon.distributed.parts.part import Part
from antiphon.distributed.parts.share import Share, merge_states
from antiphon.distributed.ray import sockets
from antiphon.distributed.ray.sockets import Broken, Sockets
from antiphon.distributed.ray.worker import PartWorker
from antiphon.engine.metrics.newest import LogSteps
from antiphon.engine.state.packing import from_bytes, to_bytes
from antiphon.scenarios import Scenario
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.distributed.ray.conftest import PATIENCE
from tests.kit.tiers import sampled

DTYPES = (torch.bool, torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64)
BIG = torch.arange(200_000, dtype=torch.float32)


def exchange(*contents: Any, end: int = 1, **more: Any) -> Exchange:
    """Messages of these contents, of the step before `end`."""
    return Exchange(0, end - 1, end, [CutMessage("a->b", end - 1, one, -1) for one in contents], **more)


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
        Return("a->b", 3, 4, counted, gradient, loss)
        for counted, gradient, loss in (
            (True, None, None),
            (torch.tensor([True, False]), contents[0], contents[5]),
        )
    ]
    sent = exchange(*contents, returns=returns)
    sent.messages.append(
        CutMessage("ä", 2, contents[0], 1, {"x": contents[3], "_x": contents[0]}, contents[5])
    )
    for one in (sent, exchange()):
        assert equal(Exchange.decoded(to_bytes(one.tree)), one)
    assert len(to_bytes(exchange(BIG[:25_000]).tree)) < 1.01 * 100_000


def test_a_state_crosses_with_its_bits() -> None:
    tensors = [
        torch.randn(shape).to(dtype)
        for dtype in (torch.bfloat16, torch.float64, torch.bool, torch.int64)
        for shape in ((), (0, 3), (60, 70))
    ]
    state = {"now": 3, "rows": [None, math.inf, "ä"], "tensors": [*tensors, tensors[2].mT, tensors[2][5]]}
    back = from_bytes(to_bytes(state))
    assert repr(back) == repr(state)  # types and shapes
    assert all(map(torch.equal, back["tensors"], state["tensors"]))


# --- connections -------------------------------------------------------------------------------------------


def taken(end: Sockets) -> list[Any]:
    """All that has come, so far."""
    return [end.inbox.get() for _ in range(end.inbox.qsize())]


@contextmanager
def ends() -> Iterator[list[Sockets]]:
    """Two parts that are connected both ways; in the end no thread is left."""
    before = threading.active_count()
    both = [Sockets(index, b"secret", "127.0.0.1", 1) for index in range(2)]
    try:
        for one, other in ((0, 1), (1, 0)):
            both[one].connect({other: both[other].address})
        yield both
    finally:
        for end in both:
            end.close()
    wait_for(lambda: threading.active_count() <= before)


def test_exchanges_come_in_order_and_their_bytes_are_counted() -> None:
    with ends() as (first, second):
        some = [exchange(*[BIG] * (step % 2), end=step + 1) for step in range(6)]
        for one in some:
            first.lines[1].put(one)
        second.lines[0].put(some[0])
        wait_for(lambda: second.inbox.qsize() == 6 and first.inbox.qsize() == 1)
        assert equal(taken(second), some)
        wait_for(lambda: first.written == second.read > 0)
        wait_for(lambda: second.written == first.read > 0)
        assert 3 * BIG.nbytes < first.written < 3.01 * BIG.nbytes
        assert second.written < 128
        for size in (0, BIG.nbytes):
            echoes = first.lines[1].echoes(size, 3, PATIENCE)
            assert len(echoes) == 3
            for one, next_one in pairwise(echoes):
                assert one.received_at < next_one.received_at
                assert one.seconds < next_one.seconds


def test_a_part_without_the_secret_is_let_in_nowhere() -> None:
    with ends() as (_, third):
        second = Sockets(1, b"secret", "127.0.0.1", 1)
        stranger = Sockets(0, b"other", "127.0.0.1", 1)
        for one, other in ((stranger, second), (second, stranger)):
            with pytest.raises(Broken, match=r"^part \d at 127\.0\.0\.1:\d+ cannot be reached \("):
                one.connect({other.index: other.address})
        for one in (stranger, second):
            one.close()
        assert taken(second) == taken(third) == []


def test_who_sends_does_not_wait_for_who_does_not_read() -> None:
    end, admitted = Sockets(0, b"secret", "127.0.0.1", 1), list[Connection]()
    with Listener(("127.0.0.1", 0), authkey=b"secret") as server:
        thread = threading.Thread(target=lambda: admitted.append(server.accept()))
        thread.start()
        end.connect({1: server.address})
        thread.join()
        for step in range(100):
            end.lines[1].put(exchange(BIG, end=step + 1))
        with pytest.raises(Broken, match=r"^part 1 does not answer part 0$"):
            end.lines[1].echoes(10, 1, 0.01)
        end.close()
        admitted[0].close()


# --- the worker ------------------------------------------------------------------------------------------


THIRDS = {"a": 0, "b": 1, "c": 2, "d": 2}
HALVES = {"a": 0, "b": 0, "c": 1, "d": 1}


class Line:
    """Workers of all parts of a scenario in this process, and what they exchange over sockets."""

    def __init__(self, scenario: Scenario, placement: Mapping[str, int]) -> None:
        self.make = partial(Part, scenario, placement)
        self.count = max(placement.values()) + 1
        with Simulation(scenario) as whole:
            system = whole.running.system
            self.shares = [Share.of(system, placement, index) for index in range(self.count)]
        self.workers = [PartWorker(index, b"secret", "127.0.0.1") for index in range(self.count)]
        self.all("connect", dict(enumerate(self.all("listen", self.make))))

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a state of the whole."""
        shares = [to_bytes(share.state(state)) for share in self.shares]
        with ThreadPoolExecutor(self.count) as pool:
            list(pool.map(lambda worker, own: worker.call("load", own), self.workers, shares))

    def all(self, method: str, *arguments: Any) -> list[Any]:
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(lambda worker: worker.call(method, *arguments), self.workers))

    def gather(self) -> dict[str, Any]:
        return merge_states([from_bytes(state) for state in self.all("gather")], self.shares)


@contextmanager
def line_of(scenario: Scenario, placement: Mapping[str, int]) -> Iterator[Line]:
    line = Line(scenario, placement)
    try:
        yield line
    finally:
        for worker in line.workers:
            worker._sockets.close()


def assert_whole(state: dict[str, Any], scenario: Scenario, steps: int, rows: LogSteps | None = None) -> None:
    """Check that a gathered state is that of the uncut simulation."""
    with Simulation(scenario) as whole, Simulation(scenario) as joined:
        for step in range(steps):
            whole.step()
            if rows is not None and rows.due(step):
                whole.running.train_means.end_row()
        joined.running.load_state_dict(state)
        assert not list(differences(facts(whole), facts(joined), tolerance=0.0))
        assert whole.running.train_means.state_dict() == joined.running.train_means.state_dict()


@pytest.mark.long
@pytest.mark.parametrize("link", sampled([{}, {"bits": 4}, {"bits": 8}, {"bits": 16}], 4, "nightly"))
def test_parts_have_the_bits_of_the_uncut_run_and_go_back_to_any_state(link: dict[str, Any]) -> None:
    scenario, rows = ring(delay=3, **link), LogSteps(period=7, until=0)
    with line_of(scenario, THIRDS) as line:
        newest = [row for _, row in line.all("advance", 7, rows)]
        assert {metric.name for row in newest for metric in row.row.metrics if metric.kind == "agent"} == {
            *THIRDS
        }
        line.all("advance", 10, rows)
        assert_whole(first := line.gather(), scenario, 10, rows)
        line.all("advance", 13, rows)
        line.load(first)
        line.all("advance", 17, rows)
        assert_whole(line.gather(), scenario, 17, rows)


@pytest.mark.long
def test_where_a_connection_breaks_the_call_ends_with_a_line() -> None:
    scenario = ring(delay=2)
    with line_of(scenario, HALVES) as line:
        line.all("advance", 4, None)
        for (measured,) in line.all("measure"):
            assert min(measured.latency, measured.seconds) > 0
            assert max(measured.latency, measured.seconds) < PATIENCE
        first, second = line.workers
        for connection in first._sockets._incoming:
            sockets._shut(connection)
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(worker.call, "advance", 40, None) for worker in line.workers]
            with pytest.raises(Broken, match=r"^the connection from part 1 to part 0 has broken \("):
                answers[0].result()
            assert first._part.now < 40
            second.halt()
