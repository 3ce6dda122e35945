"""Parts of one process: the order of their steps and exchanges; and how they are opened, or refused."""

from __future__ import annotations

import random
from typing import Any

import pytest

from antiphon.engine.parts import transport
from antiphon.engine.parts.transport import LocalParts
from antiphon.engine.simulation import Simulation
from antiphon.errors import EngineError, RunError, ScenarioError
from tests.engine.parts.stages import stages

LOOKAHEAD = 5
PLACEMENT = {"a": 0, "b": 1, "c": 2, "d": 0}


class CountedExchange:
    nbytes = 10

    def __init__(self, sender: int, first: int, end: int) -> None:
        self.sender, self.first, self.end = sender, first, end


class CountedPart:
    """Counts steps and what has been delivered, and holds its transport to the rule of lockstep."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.lookahead, self.now = LOOKAHEAD, 0
        others = [other for other in range(3) if other != index]
        self.neighbours = tuple(others)
        self.sent, self.covered = dict.fromkeys(others, 0), dict.fromkeys(others, 0)
        self.rows: list[int] = []
        self.closed = False

    ready, free = True, False

    def step(self) -> None:
        assert min(self.covered.values()) >= self.now - LOOKAHEAD + 1
        self.now += 1

    def end_row(self) -> None:
        self.rows.append(self.now)

    def collect(self, neighbour: int) -> CountedExchange:
        first, self.sent[neighbour] = self.sent[neighbour], self.now
        return CountedExchange(self.index, first, self.now)

    def deliver(self, exchange: CountedExchange) -> None:
        assert self.covered[exchange.sender] == exchange.first < exchange.end
        self.covered[exchange.sender] = exchange.end

    def state_dict(self) -> dict[str, Any]:
        assert set(self.covered.values()) == {self.now}  # everything is delivered
        return {"index": self.index}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.now = state["now"]
        self.sent, self.covered = (dict.fromkeys(self.neighbours, self.now) for _ in range(2))

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("every", [1, 3, LOOKAHEAD])
def test_steps_and_exchanges_alternate(every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "merge_states", list)
    parts = LocalParts(CountedPart, PLACEMENT, every=every)  # type: ignore[arg-type]
    counted: list[CountedPart] = parts.parts  # type: ignore[assignment]
    chance, until = random.Random(every), 0
    for _ in range(8):
        until += chance.randint(1, 12)
        row = counted[0].now
        assert parts.advance(until, row_at=row) == until
        assert [(part.now, part.rows[-1]) for part in counted] == [(until, row + 1)] * 3
    assert parts.gather() == [{"index": 0}, {"index": 1}, {"index": 2}]
    exchanges = counted[0].now // every
    figures = parts.statistics()
    assert [one.steps_taken for one in figures] == [until] * 3
    assert all(2 * exchanges <= one.calls <= 2 * (exchanges + 8) for one in figures)
    assert all(one.bytes_sent == one.bytes_received == 10 * one.calls for one in figures)
    parts.scatter({"now": 3})
    assert parts.advance(50, stop=lambda: True) == 3 - 3 % every + every  # at least one step, not all
    parts.close()
    parts.close()
    assert all(part.closed for part in counted)


def test_a_part_that_cannot_be_made_closes_those_before() -> None:
    made: list[CountedPart] = []

    def make(index: int) -> Any:
        if index:
            raise RunError("no memory")
        made.append(CountedPart(index))
        return made[-1]

    with pytest.raises(RunError, match="no memory"):
        LocalParts(make, PLACEMENT, every=1)
    assert [part.closed for part in made] == [True]


def test_parts_that_all_wait_are_an_error_of_the_engine() -> None:
    parts = LocalParts(CountedPart, PLACEMENT, every=1)  # type: ignore[arg-type]
    for part in parts.parts:
        part.ready = False  # type: ignore[misc]
    with pytest.raises(EngineError, match="each waits for another"):
        parts.advance(3)


def test_parts_that_do_not_wait_keep_so_many_messages() -> None:
    with pytest.raises(ScenarioError, match=r"every is 9, .* may be 8 steps apart; give at most 8"):
        Simulation(stages(2), parts={"count": 2, "mode": "free", "every": 9})
