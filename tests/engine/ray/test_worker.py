"""A part's worker: lockstep over calls that are late, lost and doubled, halts, and restarts to the same bits."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from antiphon.engine.parts.boundary import Exchange, Message
from antiphon.engine.ray import worker as worker_module
from antiphon.engine.ray.worker import PartWorker, Session, StateLost
from antiphon.engine.state.checkpoint import from_bytes, to_bytes
from antiphon.errors import DivergenceError, RunError
from tests.engine.ray.fake_parts import FakePart, merge, uncut


class Killed(Exception):
    """The end of a worker's process, at a step."""


class Line:
    """Workers of parts in threads, and the lines between them, which lose, double and reorder calls."""

    def __init__(
        self, directory: Path, count: int, lookahead: int, *, loss: float = 0.0, seed: int = 0
    ) -> None:
        self.count, self.lookahead, self.directory = count, lookahead, directory
        self.random, self.loss = random.Random(seed), loss
        self.kills: dict[int, set[int]] = {index: set() for index in range(count)}
        self.lock = threading.Lock()
        self.queue: list[Callable[[], None]] = []
        self.workers = [self.new_worker(index) for index in range(count)]
        self.deaths = self.calls = 0
        self.session = partial(
            Session, epoch=0, every=1, neighbours={index: Wire(self, index) for index in range(count)}
        )

    def new_worker(self, index: int) -> PartWorker:
        def make() -> FakePart:
            part = FakePart(self.count, index, self.lookahead)
            part.kills = self.kills[index]
            return part

        return PartWorker(make, index, self.directory / str(index), checkpoint_every=5)

    def send(self, call: Callable[[], None]) -> None:
        with self.lock:
            fate = self.random.random()
            calls = [] if fate < self.loss else [call, call] if fate < 2 * self.loss else [call]
            self.queue += calls
            if self.loss:
                self.random.shuffle(self.queue)

    def carry(self, stopped: threading.Event) -> None:
        while not stopped.wait(0.0005):
            with self.lock:
                calls, self.queue = self.queue, []
            for call in calls:
                call()

    def serve(self, index: int, command: Callable[[PartWorker], Any]) -> Any:
        while True:
            try:
                return command(self.workers[index])
            except Killed:
                self.deaths += 1
                self.workers[index] = self.new_worker(index)
            except BaseException:
                for one in self.workers:
                    one.halt(self.calls)
                raise

    def all(self, command: Callable[[PartWorker], Any]) -> list[Any]:
        self.calls += 1
        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(lambda index: self.serve(index, command), range(self.count)))

    def advance(self, until: int, **session: Any) -> list[Any]:
        return self.all(lambda one: one.advance(self.session(**session), self.calls, until))

    def gather(self, step: int, **session: Any) -> dict[str, Any]:
        found = self.all(lambda one: one.gather(self.session(**session), self.calls, step))
        return merge([from_bytes(state) for _, state in found])


class Wire:
    """One worker as its neighbours reach it."""

    def __init__(self, line: Line, index: int) -> None:
        self.line, self.index = line, index

    def put(self, sender: int, epoch: int, exchange: Exchange, durable: int) -> None:
        self.line.send(lambda: self.line.workers[self.index].put(sender, epoch, exchange, durable))

    def replay(self, requester: int, epoch: int, first: int) -> None:
        self.line.send(lambda: self.line.workers[self.index].replay(requester, epoch, first))

    def lose(self, sender: int, epoch: int, first: int) -> None:
        self.line.send(lambda: self.line.workers[self.index].lose(sender, epoch, first))


@contextmanager
def line_of(*args: Any, **settings: Any) -> Iterator[Line]:
    line, stopped = Line(*args, **settings), threading.Event()
    thread = threading.Thread(target=line.carry, args=(stopped,))
    thread.start()
    try:
        yield line
    finally:
        stopped.set()
        thread.join()


@pytest.fixture(autouse=True)
def _mortal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "_RETRY", 0.01)
    step = FakePart.step

    def step_or_die(part: Any) -> None:
        if part.now in part.kills:
            part.kills.remove(part.now)
            raise Killed
        step(part)

    monkeypatch.setattr(FakePart, "step", step_or_die)
    monkeypatch.setattr(FakePart, "kills", set(), raising=False)


def assert_same(one: Any, other: Any) -> None:
    assert to_bytes(one) == to_bytes(other)


@pytest.mark.parametrize(("count", "lookahead", "every"), [(2, 1, 1), (3, 4, 2), (4, 4, 4)])
def test_parts_in_lockstep_come_to_the_bits_of_parts_stepped_in_turn(
    tmp_path: Path, count: int, lookahead: int, every: int
) -> None:
    with line_of(tmp_path, count, lookahead) as line:
        line.advance(17, every=every)
        assert_same(line.gather(23, every=every, boundaries=[23]), uncut(count, lookahead, 23))
        assert_same(line.gather(30, every=every, boundaries=[23, 30]), uncut(count, lookahead, 30))
    ends = {*range(every, 31, every), 23, 30}
    assert {one.report().calls for one in line.workers} == {min(2, count - 1) * len(ends)}


def test_calls_that_are_lost_doubled_and_out_of_order_change_nothing(tmp_path: Path) -> None:
    with line_of(tmp_path, 3, 2, loss=0.3) as line:
        assert_same(line.gather(40, every=2, boundaries=[40]), uncut(3, 2, 40))


@pytest.mark.parametrize("seed", range(3))
def test_a_part_that_dies_ten_times_comes_back_to_the_same_bits(tmp_path: Path, seed: int) -> None:
    at = random.Random(seed)
    with line_of(tmp_path, 3, 4, loss=0.1, seed=seed) as line:
        for _ in range(10):
            line.kills[at.randrange(3)].add(at.randrange(60))
        due = sum(map(len, line.kills.values()))
        first = line.gather(31, every=2, boundaries=[31], rows=[9])
        line.advance(50, every=2, boundaries=[31], rows=[9, 31])
        last = line.gather(60, every=2, boundaries=[31, 60], rows=[9, 31])
    assert line.deaths == due
    assert_same(first, uncut(3, 4, 31, rows=[9]))
    assert_same(last, uncut(3, 4, 60, rows=[9, 31]))


def test_all_parts_may_die_at_one_step(tmp_path: Path) -> None:
    with line_of(tmp_path, 3, 3) as line:
        for kills in line.kills.values():
            kills.add(18)
        assert_same(line.gather(40, boundaries=[40]), uncut(3, 3, 40))
    assert line.deaths == 3
    assert all(one.report().computing > 0 for one in line.workers)


def test_what_neighbours_keep_ends_with_the_checkpoints(tmp_path: Path) -> None:
    with line_of(tmp_path, 2, 2) as line:
        line.advance(100)
        line.gather(100, boundaries=[100])
        kept = [box.since(0) for one in line.workers for box in one._outboxes.values()]
    assert all(exchanges[0].first >= 90 for exchanges in kept)
    assert {one.report().durable for one in line.workers} == {100}


def test_a_call_that_is_halted_ends_at_a_step_from_which_all_go_on(tmp_path: Path) -> None:
    with line_of(tmp_path, 2, 2) as line:
        for one in line.workers:
            line.calls += 1
            one.open(line.session())
        absent = line.workers[0].advance  # the other one stands still
        halter = threading.Timer(0.05, line.workers[0].halt, (7,))
        halter.start()
        reached = absent(line.session(), 7, 30).now
        halter.join()
        assert reached == 2
        assert line.workers[0].gather(line.session(boundaries=[30]), 7, 30)[1] is None
        line.calls = 7
        assert_same(line.gather(30, boundaries=[30]), uncut(2, 2, 30))


def test_a_whole_state_is_taken_over_by_all(tmp_path: Path) -> None:
    with line_of(tmp_path, 3, 2) as line:
        state = to_bytes(line.gather(13, boundaries=[13]))
        line.advance(20, boundaries=[13])
        line.session = partial(line.session, epoch=1)
        line.all(lambda one: one.scatter(line.session(), state))
        line.kills[1].add(14)  # its checkpoint is that of the state taken over
        assert_same(line.gather(25, boundaries=[25]), uncut(3, 2, 25))
        line.session = partial(line.session, epoch=2)
        line.all(lambda one: one.scatter(line.session(), None))
        assert_same(line.gather(9, boundaries=[9]), uncut(3, 2, 9))


def test_a_part_without_its_checkpoint_says_so(tmp_path: Path) -> None:
    with line_of(tmp_path, 2, 2) as line:
        line.advance(30)
        line.workers[1].close()
        line.workers[1] = line.new_worker(1)
        with pytest.raises(StateLost, match=r"part 1 needs exchanges that part 0 has dropped"):
            line.workers[1].advance(line.session(), 2, 40)
        line.workers[1] = line.new_worker(1)
        with pytest.raises(StateLost, match="part 1 has restarted without its checkpoint"):
            line.workers[1].advance(line.session(epoch=1), 3, 40)


def test_a_damaged_checkpoint_counts_as_none(tmp_path: Path) -> None:
    with line_of(tmp_path, 2, 2) as line:
        line.advance(30)
        file = tmp_path / "1" / "checkpoint"
        file.write_bytes(file.read_bytes()[:-1])
        line.workers[1] = line.new_worker(1)
        with pytest.raises(StateLost):
            line.workers[1].advance(line.session(), 2, 40)


def test_a_checkpoint_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "0").write_text("a file")
    with pytest.raises(RunError, match=r"part 0 cannot write its checkpoint \(.+\)$"):
        Line(tmp_path, 1, 2)


def test_an_error_of_a_step_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(part: FakePart) -> None:
        raise DivergenceError("a is nan")

    monkeypatch.setattr(FakePart, "step", diverge)
    with line_of(tmp_path, 1, 2) as line, pytest.raises(DivergenceError, match="a is nan"):
        line.advance(1)


def test_seconds_of_waiting_are_counted_for_the_part_that_is_late(tmp_path: Path) -> None:
    with line_of(tmp_path, 3, 2) as line:
        for one in line.workers[:2]:
            one.open(line.session())
        waiting = threading.Thread(target=lambda: line.workers[0].advance(line.session(), 1, 30))
        waiting.start()
        line.workers[1].advance(line.session(), 1, 2)
        while line.workers[0].report().waits_for != (2,):
            threading.Event().wait(0.001)
        threading.Event().wait(0.05)
        line.workers[0].halt(1)
        waiting.join()
        report = line.workers[0].report()
    assert report.waiting[2] > 0.04 > report.waiting.get(1, 0.0)
    assert (report.now, report.behind, report.waits_for) == (2, 2, ())


class FreePart(FakePart):
    """Reads the newest numbers that have come, and counts those of each incarnation of a neighbour; never waits."""

    free = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.incarnation = 0
        self.seen: dict[int, list[int]] = {one: [] for one in self.neighbours}

    def waits_for(self) -> tuple[int, ...]:
        return self.neighbours if self.lacks else ()

    lacks = False

    def step(self) -> None:
        if self.now in self.kills:
            self.kills.remove(self.now)
            raise Killed
        for messages, _ in self.sent.values():
            messages.append(Message("numbers", self.now, self.numbers.copy()))
        self.now += 1

    def collect(self, neighbour: int) -> Exchange:
        return replace(super().collect(neighbour), incarnation=self.incarnation)

    def deliver(self, exchange: Exchange) -> None:
        self.seen[exchange.sender].append(exchange.incarnation)

    def own_state(self) -> dict[str, Any]:
        return self.state_dict()


def test_parts_that_do_not_wait_go_on_alone_and_take_a_restarted_one_under_a_new_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FakePart", FreePart)
    with line_of(tmp_path, 2, 2) as line:
        line.workers[1].open(line.session())
        assert line.workers[0].advance(line.session(), 1, 40).now == 40
        line.kills[1].add(12)
        line.advance(60)
        line.gather(60, boundaries=[60])
        first, second = (cast(FreePart, one._part) for one in line.workers)
    assert (first.incarnation, second.incarnation) == (0, 1)
    assert first.seen[1].count(1) == 60 - 10  # from its checkpoint on
    assert set(second.seen[0]) <= {0}  # none, where the first was done before the second was back


def test_a_free_part_does_not_wait_for_one_that_has_come_to_the_end_of_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "FakePart", FreePart)
    with line_of(tmp_path, 2, 2) as line:
        second = line.workers[1]
        second.open(line.session())
        cast(FreePart, second._part).lacks = True  # as behind a full queue
        assert line.workers[0].advance(line.session(), 1, 40).now == 40
        call = threading.Thread(target=second.advance, args=(line.session(), 1, 40))
        call.start()
        call.join(10.0)
        now = second.report().now
        second.halt(1)
        call.join()
        assert now == 40
