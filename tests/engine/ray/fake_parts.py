"""Parts of a few numbers, whose course depends on every exchange: for tests of what carries exchanges between parts."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from antiphon.engine.parts.boundary import Exchange, Message, Return
from antiphon.errors import DivergenceError


class FakePart:
    """Sends its numbers at every step and reads the neighbours' of `lookahead` steps ago; what it made of them goes back.

    It fails where it reads something that has not been delivered.

    Attributes:
        habits: `seconds` that a step takes, `bad_at`: the step at which it diverges; they travel with its state.
    """

    free = False

    def __init__(self, count: int, index: int, lookahead: int, *, size: int = 3) -> None:
        self.index, self.lookahead, self.now = index, lookahead, 0
        self.habits: dict[str, Any] = {}
        self.neighbours = tuple(sorted({(index + 1) % count, (index - 1) % count} - {index}))
        self.numbers = np.random.default_rng(index).normal(size=size)
        self.row = np.zeros(size)
        self.messages: dict[int, dict[int, Any]] = {one: {} for one in self.neighbours}
        self.returns: dict[int, dict[int, Any]] = {one: {} for one in self.neighbours}
        self.sent: dict[int, tuple[list[Message], list[Return]]] = {one: ([], []) for one in self.neighbours}
        self.collected = dict.fromkeys(self.neighbours, 0)
        self.covered = dict.fromkeys(self.neighbours, 0)

    def step(self) -> None:
        time.sleep(self.habits.get("seconds", 0.0))
        if self.habits.get("bad_at") == self.now:
            raise DivergenceError(f"the loss of part {self.index} is nan at step {self.now}")
        new = 0.7 * self.numbers + 0.1 * np.sin(self.now)
        for one in self.neighbours:
            self.sent[one][0].append(Message("numbers", self.now, self.numbers.copy()))
            if (stamp := self.now - self.lookahead) >= 0:
                read = self.messages[one].pop(stamp)
                new = np.tanh(new * 1.3 + read[::-1]) + self.returns[one].pop(stamp)
                back = 0.1 * read * new
            else:
                back = 0.0 * new
            self.sent[one][1].append(Return("numbers", self.now, self.now, True, back, None))
        self.numbers = new
        self.row = self.row + new
        self.now += 1

    def end_row(self) -> None:
        self.row = np.zeros_like(self.row)

    def collect(self, neighbour: int) -> Exchange:
        messages, returns = self.sent[neighbour]
        self.sent[neighbour] = [], []
        first, self.collected[neighbour] = self.collected[neighbour], self.now
        return Exchange(self.index, 0, first, self.now, messages, returns)

    def deliver(self, exchange: Exchange) -> None:
        assert exchange.end <= self.now
        assert exchange.first == self.covered[exchange.sender]
        self.covered[exchange.sender] = exchange.end
        self.messages[exchange.sender] |= {one.stamp: np.array(one.content) for one in exchange.messages}
        self.returns[exchange.sender] |= {one.stamp: np.array(one.delta) for one in exchange.returns}

    def state_dict(self) -> dict[str, Any]:
        assert not any(messages or returns for messages, returns in self.sent.values())

        def plain(boxes: Mapping[int, Mapping[int, Any]]) -> dict[str, Any]:
            return {
                str(one): {str(step): torch.from_numpy(array) for step, array in box.items()}
                for one, box in boxes.items()
            }

        return {
            "index": self.index,
            "now": self.now,
            "numbers": torch.from_numpy(self.numbers),
            "row": torch.from_numpy(self.row),
            "messages": plain(self.messages),
            "returns": plain(self.returns),
            "habits": self.habits,
        }

    def own_state(self) -> dict[str, Any]:
        assert all(step == self.now for step in self.covered.values())
        return self.state_dict()

    def load_own_state(self, state: Mapping[str, Any]) -> None:
        self.load_state_dict({"parts": {self.index: state}})

    def load_state_dict(self, whole: Mapping[str, Any]) -> None:
        state = whole["parts"][self.index]
        assert state["index"] == self.index

        def arrays(boxes: Mapping[str, Mapping[str, Any]]) -> dict[int, dict[int, Any]]:
            return {
                int(one): {int(step): tensor.numpy().copy() for step, tensor in box.items()}
                for one, box in boxes.items()
            }

        self.now, self.habits = state["now"], state["habits"]
        self.numbers, self.row = state["numbers"].numpy().copy(), state["row"].numpy().copy()
        self.messages, self.returns = arrays(state["messages"]), arrays(state["returns"])
        self.collected = dict.fromkeys(self.neighbours, self.now)
        self.covered = dict.fromkeys(self.neighbours, self.now)
        self.sent = {one: ([], []) for one in self.neighbours}

    def close(self) -> None:
        pass


def merge(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"now": states[0]["now"], "parts": list(states)}


def uncut(
    count: int, lookahead: int, steps: int, rows: Sequence[int] = (), habits: Mapping[int, Any] = {}
) -> dict[str, Any]:
    """Return the merged state of parts that are stepped in turn and exchange after every step."""
    parts = [FakePart(count, index, lookahead) for index in range(count)]
    for step in range(steps):
        for part in parts:
            part.step()
            if step in rows:
                part.end_row()
        for part in parts:
            for one in part.neighbours:
                parts[one].deliver(part.collect(one))
    for index, own in habits.items():
        parts[index].habits = own
    return merge([part.state_dict() for part in parts])
