"""A part's worker without Ray: the bits of one process, beginning again, halts, errors."""

from __future__ import annotations

import pickle
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.distributed.parts.part import Part, merge_states
from antiphon.distributed.parts.share import Share
from antiphon.distributed.ray.sockets import Address, Broken
from antiphon.distributed.ray.worker import PartWorker
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.wire import from_bytes, to_bytes
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import DocumentError, Scenario
from antiphon.telemetry import PartMetrics
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.distributed.ray.conftest import PATIENCE
from tests.distributed.ray.relay import Relay

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
        self.workers = [
            PartWorker(PartMetrics(part=index), b"secret", "127.0.0.1") for index in range(self.count)
        ]

    def begin(
        self, state: dict[str, Any] | None = None, reached: Callable[[Address], Address] = lambda one: one
    ) -> None:
        """Begin from a state of the whole; `reached`: where the neighbours reach an address."""
        addresses = dict(enumerate(map(reached, self.all("listen"))))
        states = [None if state is None else to_bytes(share.state(state)) for share in self.shares]
        for worker, own in zip(self.workers, states, strict=True):
            worker.call("begin", self.make, addresses, own)

    def all(self, method: str, *arguments: Any) -> list[Any]:
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(lambda worker: worker.call(method, *arguments), self.workers))

    def gather(self) -> dict[str, Any]:
        return merge_states([from_bytes(state) for state in self.all("gather")])


@contextmanager
def line_of(scenario: Scenario, placement: Mapping[str, int]) -> Iterator[Line]:
    line = Line(scenario, placement)
    try:
        yield line
    finally:
        for worker in line.workers:
            worker._connections.close()


def assert_whole(state: dict[str, Any], scenario: Scenario, steps: int, rows: LogSteps | None = None) -> None:
    """Check that a gathered state is that of the uncut simulation."""
    with Simulation(scenario) as whole, Simulation(scenario) as joined:
        for step in range(steps):
            whole.step()
            if rows is not None and rows.due(step):
                whole.train_means.end_row()
        joined.running.load_state_dict(state)
        assert not list(differences(facts(whole), facts(joined), tolerance=0.0))
        assert whole.train_means.state_dict() == joined.train_means.state_dict()


@pytest.mark.long
@pytest.mark.parametrize("link", [{"bits": 16}, {"bits": 8}, {"bits": 4}, {}])
def test_parts_have_the_bits_of_the_uncut_run_and_go_back_to_any_state(link: dict[str, Any]) -> None:
    scenario, rows = ring(delay=3, **link), LogSteps(period=7, until=0)
    with line_of(scenario, THIRDS) as line:
        line.begin()
        newest = [taken.row for taken in line.all("advance", 7, rows)]
        assert {metric.name for row in newest for metric in row.row.metrics if metric.kind == "agent"} == {
            *THIRDS
        }
        line.all("advance", 10, rows)
        assert_whole(first := line.gather(), scenario, 10, rows)
        line.all("advance", 13, rows)
        line.begin(first)
        line.all("advance", 17, rows)
        assert_whole(line.gather(), scenario, 17, rows)


@pytest.mark.long
def test_where_a_connection_breaks_the_call_ends_with_a_line_and_all_begin_again() -> None:
    scenario = ring(delay=2)
    with line_of(scenario, HALVES) as line:
        line.begin()
        line.all("advance", 4, None)
        state = line.gather()
        for (measured,) in line.all("measure"):
            assert min(measured.latency, measured.seconds) > 0
            assert max(measured.latency, measured.seconds) < PATIENCE
        first, second = line.workers
        for connection in first._connections._incoming:
            connection.shutdown(socket.SHUT_RDWR)
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(worker.call, "advance", 40, None) for worker in line.workers]
            with pytest.raises(Broken, match=r"^the connection from part 1 to part 0 has broken \("):
                answers[0].result()
            assert first._metrics.steps_taken < 40
            second.halt()
        line.begin(state)
        line.all("advance", 9, None)
        assert_whole(line.gather(), scenario, 9)


@pytest.mark.long
def test_a_line_that_gets_slower_and_faster_stops_no_run() -> None:
    """From 256 kB/s, at which a step of the ring takes 2 ms of the line, to 2 kB/s and back."""
    scenario = ring(delay=3, bits=8)
    with line_of(scenario, HALVES) as line, ExitStack() as lines:
        relays: list[Relay] = []

        def reached(target: Address) -> Address:
            relays.append(lines.enter_context(Relay(target, rate=2.56e5)))
            return relays[-1].address

        line.begin(reached=reached)
        line.all("advance", 6, None)
        for rate, until in ((2e3, 12), (2.56e5, 20)):
            for relay in relays:
                relay.rate = rate
            start = time.monotonic()
            line.all("advance", until, None)
            assert rate > 1e4 or time.monotonic() - start > 0.3
        assert_whole(line.gather(), scenario, 20)


@pytest.mark.long
def test_a_halted_call_ends_early_and_the_next_goes_on() -> None:
    scenario = ring(delay=2)
    with line_of(scenario, THIRDS) as line:
        line.begin()
        line.all("advance", 3, None)
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(line.workers[0].call, "advance", 50, None)
            end = time.monotonic() + PATIENCE
            while line.workers[0]._metrics.steps_taken < 5 and time.monotonic() < end:
                time.sleep(0.005)
            time.sleep(0.1)
            line.workers[0].halt()
            found = answer.result().metrics
        assert (found.steps_taken, found.staleness) == (5, 2)
        assert sum(found.waiting.values()) > 0.05
        line.all("advance", 12, None)
        assert_whole(line.gather(), scenario, 12)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (DivergenceError("a is nan"), DivergenceError, "a is nan"),
        (DocumentError(("env",), "is odd"), ScenarioError, "env: is odd"),
        (SystemExit(3), RunError, "SystemExit: 3"),  # Ray would take it for a part that has died
        (RuntimeError("can't allocate memory"), MemoryError, "can't allocate memory"),
        (RuntimeError("shapes differ"), RunError, "RuntimeError: shapes differ"),
    ],
)
def test_errors_are_those_that_any_process_can_load(
    error: BaseException, kind: type[Exception], line: str
) -> None:
    def make(index: int) -> Part:
        raise error

    worker = PartWorker(PartMetrics(part=0), b"", "127.0.0.1")
    worker.call("listen")
    with pytest.raises(kind) as found:
        worker.call("begin", make, {}, None)
    worker._connections.close()
    loaded = pickle.loads(pickle.dumps(found.value))
    assert (type(loaded), str(loaded)) == (kind, line)
