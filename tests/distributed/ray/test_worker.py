"""A part's worker without Ray: lockstep halts, beginnings, errors, and parts that do not wait."""

from __future__ import annotations

import pickle
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.distributed.parts.free_settings import FreeSettings
from antiphon.distributed.parts.part import Part, merge_states
from antiphon.distributed.ray.sockets import Broken
from antiphon.distributed.ray.states import exchanged
from antiphon.distributed.ray.worker import Listening, PartWorker
from antiphon.engine.metrics.log_steps import LogSteps
from antiphon.engine.state.wire import stream
from antiphon.errors import DivergenceError, RunError, ScenarioError
from antiphon.scenarios import DocumentError, Scenario
from antiphon.telemetry import PartMetrics
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.distributed.parts.stages import stages
from tests.distributed.ray.conftest import PATIENCE
from tests.distributed.ray.relay import Relay

THIRDS = {"a": 0, "b": 1, "c": 2, "d": 2}


class Line:
    """Workers of all parts of a scenario in this process, and what they exchange over sockets."""

    def __init__(
        self,
        scenario: Scenario,
        placement: Mapping[str, int],
        free: FreeSettings | None = None,
    ) -> None:
        self.make = partial(Part, scenario, placement, free=free)
        self.count = max(placement.values()) + 1
        self.workers = [self.worker(index) for index in range(self.count)]
        self.incarnations = [0] * self.count
        self.addresses: dict[int, Any] = {}
        self.calls = self.epoch = 0

    def worker(self, index: int) -> PartWorker:
        return PartWorker(index, 0.0, b"secret", "127.0.0.1")

    def listen(self, index: int) -> None:
        metrics = PartMetrics(part=index, incarnation=self.incarnations[index])
        answer = self.workers[index].call("listen", metrics)
        assert answer is not None
        assert isinstance(answer[1], Listening)
        self.addresses[index] = answer[1].address

    def begin(self, index: int, state: Any = None) -> None:
        if state is not None:
            with tempfile.TemporaryFile() as file:
                file.writelines(stream(state))
                file.flush()
                assert exchanged(self.addresses[index], index, b"secret", file) is None
        given = state is not None
        assert self.workers[index].call("begin", self.make, self.epoch, self.addresses, given)

    def begin_all(self, state: Any = None, reached: Callable[[int, Any], Any] | None = None) -> None:
        self.epoch += 1
        for index in range(self.count):
            self.listen(index)
            if reached is not None:  # by its neighbours, through something else
                incarnation, *target = self.addresses[index]
                self.addresses[index] = (incarnation, *reached(index, tuple(target)))
        for index in range(self.count):
            self.begin(index, state)

    def restart(self, index: int) -> None:
        self.workers[index].close()
        self.workers[index] = self.worker(index)
        self.incarnations[index] += 1

    def come_back(self, index: int, state: Any = None) -> None:
        """Begin again alone, as a part that does not wait."""
        self.listen(index)
        for worker in self.workers:
            worker.meet(index, self.addresses[index])
        self.begin(index, state)

    def all(self, method: str, until: int, argument: Any = None) -> list[Any]:
        self.calls += 1
        with ThreadPoolExecutor(self.count) as pool:
            call = (method, self.calls, until, argument)
            return list(pool.map(lambda worker: worker.call(*call), self.workers))

    def gather(self, step: int, rows: LogSteps | None = None) -> dict[str, Any]:
        self.all("gather", step, rows)
        return merge_states([self.fetched(index) for index in range(self.count)])

    def fetched(self, index: int) -> dict[str, Any]:
        found = exchanged(self.addresses[index], index, b"secret", None)
        assert found is not None
        return found


@contextmanager
def line_of(*args: Any, **settings: Any) -> Iterator[Line]:
    line = Line(*args, **settings)
    try:
        yield line
    finally:
        for worker in line.workers:
            worker.close()


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
def test_lockstep_has_the_bits_of_the_uncut_run_and_goes_back_to_any_state(link: dict[str, Any]) -> None:
    scenario = ring(delay=3, **link)
    with line_of(scenario, THIRDS) as line:
        line.begin_all()
        rows = LogSteps(period=7, until=0)
        newest = [taken.row for _, taken in line.all("advance", 7, rows)]
        assert {metric.name for row in newest for metric in row.row.metrics if metric.kind == "agent"} == {
            *THIRDS
        }
        assert_whole(first := line.gather(10, rows), scenario, 10, rows)
        line.all("advance", 13, rows)
        line.restart(1)
        assert line.workers[1].call("advance", 9, 17, None) is None  # it has not begun
        line.begin_all(first)
        assert_whole(line.gather(17, rows), scenario, 17, rows)


@pytest.mark.long
def test_where_a_connection_breaks_the_call_ends_with_a_line_and_all_begin_again() -> None:
    scenario = ring(delay=2)
    with line_of(scenario, {"a": 0, "b": 0, "c": 1, "d": 1}) as line:
        line.begin_all()
        state = line.gather(4)
        for _, measured in line.all("measure", 4):
            (one,) = measured.lines
            assert min(one.latency, one.seconds) > 0
            assert max(one.latency, one.seconds) < PATIENCE
        first, second = line.workers
        for connection in [*first._connections._incoming]:
            connection.shutdown(socket.SHUT_RDWR)
        with ThreadPoolExecutor(2) as pool:
            answers = [pool.submit(worker.call, "advance", 9, 40, None) for worker in line.workers]
            answer = answers[0].result()
            assert answer is not None
            assert answer[0].steps_taken < 40
            assert isinstance(answer[1], Broken)
            assert answer[1].line.startswith("the connection from part 1 to part 0 has broken (")
            second.halt(9)
        line.calls = 9
        line.begin_all(state)
        assert_whole(line.gather(9), scenario, 9)


@pytest.mark.long
def test_a_line_that_gets_slower_and_faster_stops_no_run() -> None:
    """From 256 kB/s, at which a step of the ring takes 2 ms of the line, to 2 kB/s and back, between calls and in one."""
    scenario = ring(delay=3, bits=8)
    with line_of(scenario, {"a": 0, "b": 0, "c": 1, "d": 1}) as line, ExitStack() as lines:
        relays: list[Relay] = []

        def reached(index: int, target: tuple[str, int]) -> tuple[str, int]:
            relays.append(lines.enter_context(Relay(target, rate=2.56e5)))
            return relays[index].address

        line.begin_all(reached=reached)
        line.all("advance", 6)
        for rate, until in ((2e3, 12), (2.56e5, 20)):
            for relay in relays:
                relay.rate = rate
            start = time.monotonic()
            line.all("advance", until)
            taken = time.monotonic() - start
            assert rate > 1e4 or taken > 0.3
        with ThreadPoolExecutor(1) as pool:
            answers = pool.submit(line.all, "advance", 40, None)
            for rate in (2e3, 2.56e5):
                time.sleep(0.1)
                for relay in relays:
                    relay.rate = rate
            assert [metrics.steps_taken for metrics, _ in answers.result()] == [40, 40]
        assert_whole(line.gather(40), scenario, 40)


@pytest.mark.long
def test_a_halted_call_ends_early_and_the_next_goes_on() -> None:
    scenario = ring(delay=2)
    with line_of(scenario, THIRDS) as line:
        line.begin_all()
        line.all("advance", 3)
        call = line.calls = line.calls + 1
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(line.workers[0].call, "advance", call, 50, None)
            wait_for(lambda: line.workers[0]._metrics.steps_taken == 5)
            time.sleep(0.1)
            line.workers[0].halt(call)
            found, _ = answer.result()
        assert (found.steps_taken, found.staleness) == (5, 2)
        assert sum(found.waiting.values()) > 0.05
        assert_whole(line.gather(12), scenario, 12)


@pytest.mark.parametrize(
    ("error", "kind", "line"),
    [
        (DivergenceError("a is nan"), DivergenceError, "a is nan"),
        (DocumentError(("env",), "is odd"), ScenarioError, "env: is odd"),
        (KeyError("x"), RunError, "KeyError: 'x'"),
        (SystemExit(3), RunError, "SystemExit: 3"),  # Ray would start the part again, and again
        (MemoryError("part 1"), MemoryError, "part 1"),  # as in one process: the run is resumable
        (RuntimeError("can't allocate memory"), MemoryError, "can't allocate memory"),
        (RuntimeError("shapes differ"), RunError, "RuntimeError: shapes differ"),
    ],
)
def test_errors_are_those_that_any_process_can_load(
    error: BaseException, kind: type[Exception], line: str
) -> None:
    def make(index: int) -> Part:
        raise error

    worker = PartWorker(0, 0.0, b"", "127.0.0.1")
    assert worker.call("listen", PartMetrics(part=0))
    with pytest.raises(kind) as found:
        worker.call("begin", make, 0, {}, False)
    worker.close()
    loaded = pickle.loads(pickle.dumps(found.value))
    assert (type(loaded), str(loaded)) == (kind, line)


@pytest.mark.long
def test_a_part_that_does_not_wait_goes_on_alone_and_comes_back_under_a_new_number() -> None:
    scenario, placement = stages(2, aligned=False, env={"hold": 50}), {"s0": 0, "s1": 1}
    with line_of(scenario, placement, free=FreeSettings()) as line:
        line.begin_all()
        line.all("advance", 12)
        saved = line.fetched(0)
        line.restart(0)
        line.workers[1].call("advance", line.calls + 1, 40, None)
        assert line.workers[1]._metrics.steps_taken == 40
        line.come_back(0, saved)
        assert line.workers[0]._metrics.steps_taken == 12
        line.all("advance", 60)
        wait_for(lambda: line.workers[1]._deliver() or line.workers[1]._part.covered[0] == 60)
        line.all("advance", 61)
        first, second = (worker._part for worker in line.workers)
        assert second.free is not None
        assert dict(second.free.state_dict()["newest"])["s0->s1"][0] == 1
        assert line.gather(61)["now"] == first.now == second.now == 61


@pytest.mark.long
def test_a_part_that_does_not_wait_needs_nothing_of_one_at_the_end_of_the_call() -> None:
    """An aligned part waits for messages, unless what was sent was dropped: then the other's end is all there is."""
    scenario, placement = stages(2), {"s0": 0, "s1": 1}
    with line_of(scenario, placement, free=FreeSettings(queue=2)) as line:
        line.begin_all()
        line.workers[0].call("advance", 1, 40, None)
        line.workers[1].call("advance", 1, 40, None)
        assert line.workers[1]._metrics.steps_taken == 40
        line.restart(1)
        line.come_back(1)
        line.workers[1].call("advance", 2, 40, None)  # what the first has sent is lost
        assert line.workers[1]._metrics.steps_taken == 40


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
