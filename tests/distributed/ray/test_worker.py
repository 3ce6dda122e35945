"""A part's worker without Ray: the bits of one process, beginning again, halts, errors."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.distributed.parts.part import Part, merge_states
from antiphon.distributed.parts.share import Share
from antiphon.distributed.ray.sockets import Address, Broken
from antiphon.distributed.ray.worker import PartWorker
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.packing import from_bytes, to_bytes
from antiphon.scenarios import Scenario
from antiphon.telemetry import PartMetrics
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.distributed.ray.conftest import PATIENCE

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
